"""Bringing the schema up to date; safe to run from several replicas at once."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, text

# Any constant will do: it names the lock that makes migrations one at a time.
MIGRATION_LOCK = 0x76696465


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's configuration for `connection`."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def migrate(database_url: str, revision: str = "head") -> None:
    """Upgrade the schema to `revision`; does nothing when it is there.

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
                command.upgrade(alembic_config(connection), revision)
                connection.commit()
            finally:
                connection.execute(text("SELECT pg_advisory_unlock(:id)"), {"id": MIGRATION_LOCK})
                connection.commit()
    finally:
        engine.dispose()


def driver_url(database_url: str) -> str:
    """Return the URL with the driver that we use."""
    return database_url.replace("postgresql://", "postgresql+psycopg://", 1)
