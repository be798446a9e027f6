"""Bringing the schema up to date; safe to run from several replicas at once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text

MIGRATIONS = Path(__file__).parent / "migrations"
# Any constant will do: it names the lock that makes migrations one at a time.
MIGRATION_LOCK = 0x76696465


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's configuration for `connection`."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def migrate(database_url: str, revision: str = "head") -> None:
    """Upgrade the schema to `revision`; does nothing when it is there, or newer.

    Args:
        database_url: `postgresql://…`, without a driver name.
        revision: an Alembic revision.
    """
    engine = create_engine(driver_url(database_url))
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:id)"), {"id": MIGRATION_LOCK})
            connection.commit()
            try:
                found = MigrationContext.configure(connection).get_current_revision()
                # A version that went back to finds what it needs, and must not ask for more.
                if found is None or found in revisions():
                    command.upgrade(alembic_config(connection), revision)
                connection.commit()
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:id)"), {"id": MIGRATION_LOCK})
                connection.commit()
    finally:
        engine.dispose()


@cache
def revisions() -> tuple[str, ...]:
    """Return the revisions that this version knows, the newest first."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    return tuple(script.revision for script in scripts.walk_revisions())


def misfit(found: str | None) -> str | None:
    """Return why this version cannot work on a schema, or None.

    One that it does not know is newer: a migration keeps what the version before it needs
    (docs/deploy.md).

    Args:
        found: the schema's revision; None where there is no schema.
    """
    newest = revisions()[0]
    if found is None:
        return "The schema is missing; run the migrations."
    if found in revisions()[1:]:
        return f"The schema is at {found} and this version needs {newest}; run the migrations."
    return None


def driver_url(database_url: str) -> str:
    """Return the URL with the driver that we use."""
    return database_url.replace("postgresql://", "postgresql+psycopg://", 1)
