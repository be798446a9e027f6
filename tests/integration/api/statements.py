"""What SQL the stores really run, and how Postgres would run it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from api_rig import Rig
from sqlalchemy import event, text
from sqlalchemy.engine import Connection


class Statements:
    """Statements that were executed, each text once, with the parameters of its last run."""

    def __init__(self) -> None:
        self.executed: dict[str, Any] = {}

    def note(
        self,
        connection: Connection,
        cursor: object,
        statement: str,
        parameters: Any,
        context: object,
        many: bool,
    ) -> None:
        """Take a statement; the signature is SQLAlchemy's."""
        self.executed[statement] = parameters[0] if many else parameters


@contextmanager
def recorded(rig: Rig) -> Iterator[Statements]:
    """Note everything that a rig executes."""
    statements = Statements()
    engine = rig.database._engine.sync_engine  # the one way to listen in
    event.listen(engine, "before_cursor_execute", statements.note)
    try:
        yield statements
    finally:
        event.remove(engine, "before_cursor_execute", statements.note)


async def plans(rig: Rig, statements: Statements) -> dict[str, list[str]]:
    """Return the lines of Postgres's plan for each statement that reads or changes rows.

    With `enable_seqscan = off` a sequential scan remains only where there is
    no other way; on small tables Postgres would otherwise always choose it.
    """
    found: dict[str, list[str]] = {}
    async with rig.database.transaction() as connection:
        await connection.execute(text("SET LOCAL enable_seqscan = off"))
        for statement, parameters in statements.executed.items():
            if statement.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
                plan = await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
                found[statement] = [row[0].strip() for row in plan]
    return found


async def full_scans(rig: Rig, statements: Statements) -> dict[str, list[str]]:
    """Return the statements that read a whole table because no index serves them."""
    return {
        statement: scans
        for statement, lines in (await plans(rig, statements)).items()
        if (scans := [line for line in lines if "Seq Scan" in line])
    }
