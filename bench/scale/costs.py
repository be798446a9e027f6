"""What the cluster spends: CPU time of its processes, time and statements in Postgres."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psutil
import psycopg

from services.local.cluster import LocalCluster

DATABASE = "videoexport"


@dataclass(frozen=True)
class Costs:
    """What was spent until a moment, or between two.

    Attributes:
        cpu: seconds by part of the cluster, ended children included.
        others: CPU seconds of everything else on this machine.
        sql_seconds: in statements, commits included, as Postgres measures it.
        statements: that were sent.
        transactions: that were committed.
        by_statement: calls and seconds by text.
    """

    cpu: Mapping[str, float]
    others: float
    sql_seconds: float
    statements: int
    transactions: int
    by_statement: Mapping[str, tuple[int, float]]

    def since(self, before: Costs) -> Costs:
        """Return what was spent since another moment."""
        return Costs(
            {part: spent - before.cpu.get(part, 0.0) for part, spent in self.cpu.items()},
            self.others - before.others,
            self.sql_seconds - before.sql_seconds,
            self.statements - before.statements,
            self.transactions - before.transactions,
            {
                text: (calls - calls_before, seconds - seconds_before)
                for text, (calls, seconds) in self.by_statement.items()
                for calls_before, seconds_before in [before.by_statement.get(text, (0, 0.0))]
            },
        )


class CostMeter:
    """Reads what was spent so far.

    Args:
        encoders: process ids of the simulated encoders.
    """

    def __init__(self, cluster: LocalCluster, encoders: Sequence[int]) -> None:
        self._cluster = cluster
        self._encoders = encoders

    def read(self) -> Costs:
        """Return what was spent so far."""
        cpu = {name: _cpu_seconds(pid) for name, pid in self._cluster.pids.items()}
        cpu["encoders"] = sum(map(_cpu_seconds, self._encoders))
        everything = psutil.cpu_times()
        busy = everything.user + everything.system + everything.nice
        with connection(self._cluster, "postgres") as database:
            rows = database.execute(
                "SELECT query, calls, total_exec_time / 1000 AS seconds FROM pg_stat_statements"
                " JOIN pg_database ON pg_database.oid = dbid WHERE datname = %s",
                [DATABASE],
            ).fetchall()
            [transactions] = database.execute(
                "SELECT xact_commit FROM pg_stat_database WHERE datname = %s", [DATABASE]
            ).fetchone() or [0]
        by_statement: dict[str, tuple[int, float]] = {}
        for text, calls, seconds in rows:
            calls_before, seconds_before = by_statement.get(text, (0, 0.0))
            by_statement[text] = (calls_before + calls, seconds_before + seconds)
        return Costs(
            cpu,
            busy - sum(cpu.values()),
            sum(seconds for _, seconds in by_statement.values()),
            sum(calls for calls, _ in by_statement.values()),
            transactions,
            by_statement,
        )


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and its descendants, the ended ones included."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        leader = psutil.Process(pid)
        for process in (leader, *leader.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


@contextmanager
def connection(
    cluster: LocalCluster, database: str = DATABASE
) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Yield a connection beside the services'."""
    with psycopg.connect(
        cluster.infrastructure.postgres.url, dbname=database, autocommit=True
    ) as opened:
        yield opened


async def count_statements(cluster: LocalCluster) -> None:
    """Have Postgres count statements from now on; it is started anew for that."""
    with connection(cluster, "postgres") as database:
        database.execute("ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'")
        # Commits are most of the time that is spent.
        database.execute("ALTER SYSTEM SET pg_stat_statements.track_utility = on")
    await cluster.stop("postgres")
    await cluster.start("postgres")
    with connection(cluster, "postgres") as database:
        database.execute("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
