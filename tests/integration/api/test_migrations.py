"""Migrations: from nothing to the models, back again, and from two replicas at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from api_rig import Rig
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection, create_engine, inspect, text

from services.api.migrate import alembic_config, driver_url, migrate, revisions
from services.api.models import metadata
from services.api.store import Database
from services.api.store.records import from_json
from services.common.errors import DomainError, Reason
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


@pytest.fixture
def bare(bare_database: str) -> Iterator[Connection]:
    """A connection to it."""
    engine = create_engine(driver_url(bare_database))
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def schema(connection: Connection) -> list[tuple[str, ...]]:
    """Return every column and every index with its definition."""
    connection.rollback()
    columns = connection.execute(
        text(
            "SELECT table_name, column_name, data_type, is_nullable, column_default"
            " FROM information_schema.columns WHERE table_schema = 'public'"
            " AND table_name <> 'alembic_version'"
        )
    )
    indexes = connection.execute(
        text(
            "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
            " AND tablename <> 'alembic_version'"
        )
    )
    constraints = connection.execute(
        text(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)"
            " FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
            " AND conrelid::regclass::text <> 'alembic_version'"
        )
    )
    rows = [*columns, *indexes, *constraints]
    return sorted(tuple(str(cell) for cell in row) for row in rows)


def test_migrations_lead_to_the_models(bare_database: str, bare: Connection) -> None:
    migrate(bare_database)
    assert compare_metadata(MigrationContext.configure(bare), metadata) == []


def test_migrations_make_exactly_what_the_models_would(
    bare_database: str, bare: Connection
) -> None:
    # Partial indexes, defaults and cascades included, which Alembic does not compare.
    migrate(bare_database)
    migrated = schema(bare)
    bare.execute(text("DROP SCHEMA public CASCADE"))
    bare.execute(text("CREATE SCHEMA public"))
    metadata.create_all(bare)
    bare.commit()
    assert migrated == schema(bare)
    assert len(migrated) > 80


def test_every_migration_can_be_taken_back_and_done_again(
    bare_database: str, bare: Connection
) -> None:
    migrate(bare_database)
    first = schema(bare)
    config = alembic_config(bare)
    scripts = ScriptDirectory.from_config(config)
    for _ in list(scripts.walk_revisions()):
        command.downgrade(config, "-1")
        bare.commit()
    assert inspect(bare).get_table_names() == ["alembic_version"]
    functions = text("SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace")
    assert list(bare.execute(functions).scalars()) == []
    bare.rollback()
    migrate(bare_database)
    assert schema(bare) == first


INSERT_ENDED = """
    INSERT INTO exports (id, user_id, state, phase, source, source_etag, source_size_bytes,
        segments, settings, plan, error, warnings, created_at, ended_at, updated_at, announced_at)
    VALUES (:id, 'anna', 'FAILED', 'UNSPECIFIED', '{}', '', 0, '[]',
        '{"quality": "QUALITY_LOW"}', '{"resolution": "RESOLUTION_720P"}',
        '{"code": "INTERNAL", "message": "No."}', '[{"code": "GPU_FALLBACK"}]',
        '2026-01-02T03:04:05.5Z', '2026-01-02T03:05Z', '2026-01-02T03:05Z', :announced)
"""


def test_ends_still_to_be_announced_survive_the_migration_both_ways(
    bare_database: str, bare: Connection
) -> None:
    config = alembic_config(bare)
    command.upgrade(config, "0001")
    for export, announced in (("exp_told", "2026-01-02T03:06Z"), ("exp_new", None)):
        bare.execute(text(INSERT_ENDED), {"id": export, "announced": announced})
    bare.commit()
    command.upgrade(config, "0002")
    [stored] = bare.execute(text("SELECT message FROM announcements")).scalars()
    assert from_json(stored, task_pb2.ExportEnded()) == task_pb2.ExportEnded(
        export_id="exp_new",
        user_id="anna",
        state=pb.EXPORT_STATE_FAILED,
        create_time=Timestamp(seconds=1767323045, nanos=500_000_000),
        end_time=Timestamp(seconds=1767323100),
        resolution=pb.RESOLUTION_720P,
        quality=pb.QUALITY_LOW,
        error=pb.ExportError(code="INTERNAL", message="No."),
        warnings=[pb.ExportWarning(code="GPU_FALLBACK")],
    )
    bare.commit()
    command.downgrade(config, "0001")
    left = bare.execute(text("SELECT id FROM exports WHERE announced_at IS NULL"))
    assert list(left.scalars()) == ["exp_new"]


INSERT_EXPORT = """
    INSERT INTO exports (id, user_id, state, phase, source, source_etag, source_size_bytes,
        segments, settings, error)
    VALUES (:id, 'anna', :state, 'WAITING', '{}', '', 0, '[]', '{"quality": "QUALITY_LOW"}',
        CASE WHEN :state = 'FAILED' THEN '{"code": "TIME_LIMIT", "retryable": true}'::jsonb END)
"""
INSERT_TASK = """
    INSERT INTO tasks (id, export_id, user_id, kind, lane, state, priority, message, frames,
        frames_done, not_before)
    VALUES (:export || :kind, :export, 'anna', :kind, 'cpu', :state, 0, '', 100, 40, now())
"""


def put(bare: Connection, export: str, state: str, **tasks: str) -> None:
    """Store an export with a task of each kind, in the state given."""
    bare.execute(text(INSERT_EXPORT), {"id": export, "state": state})
    for kind, task_state in tasks.items():
        bare.execute(text(INSERT_TASK), {"export": export, "kind": kind, "state": task_state})


def test_exports_under_way_know_how_much_there_is_to_encode(
    bare_database: str, bare: Connection
) -> None:
    config = alembic_config(bare)
    command.upgrade(config, "0002")
    put(bare, "exp_whole", "PROCESSING", WHOLE="RUNNING")
    put(bare, "exp_failed", "FAILED", WHOLE="FAILED")
    bare.commit()
    command.upgrade(config, "0003")
    rows = bare.execute(text("SELECT frames_to_encode, frames_encoded FROM exports"))
    assert rows.all() == [(100, 40), (100, 40)]


def test_exports_in_parts_end_when_the_service_goes_back(
    bare_database: str, bare: Connection
) -> None:
    config = alembic_config(bare)
    command.upgrade(config, "0003")
    put(bare, "exp_parts", "QUEUED", VIDEO="PENDING", ASSEMBLE="WAITING")
    put(bare, "exp_probed", "PROCESSING", PROBE="SUCCEEDED", VIDEO="RUNNING", ASSEMBLE="WAITING")
    put(bare, "exp_retry", "FAILED", PROBE="SUCCEEDED", VIDEO="FAILED", ASSEMBLE="CANCELLED")
    put(bare, "exp_whole", "PROCESSING", PROBE="SUCCEEDED", WHOLE="RUNNING")
    put(bare, "exp_again", "FAILED", PROBE="SUCCEEDED", WHOLE="FAILED")
    put(bare, "exp_done", "COMPLETED", VIDEO="SUCCEEDED", ASSEMBLE="SUCCEEDED")
    bare.commit()
    command.downgrade(config, "0002")
    rows = bare.execute(
        text("SELECT id, state, coalesce((error -> 'retryable')::bool, false) FROM exports")
    )
    assert {row[0]: tuple(row[1:]) for row in rows} == {
        "exp_parts": ("FAILED", False),
        "exp_probed": ("FAILED", False),
        "exp_retry": ("FAILED", False),
        "exp_whole": ("PROCESSING", False),
        "exp_again": ("FAILED", True),
        "exp_done": ("COMPLETED", False),
    }
    messages = bare.execute(text("SELECT message FROM announcements")).scalars()
    ends = [from_json(message, task_pb2.ExportEnded()) for message in messages]
    assert {end.export_id for end in ends} == {"exp_parts", "exp_probed"}
    assert {(end.state, end.error.code, end.quality) for end in ends} == {
        (pb.EXPORT_STATE_FAILED, "INTERNAL", pb.QUALITY_LOW)
    }
    assert all(end.HasField("create_time") and end.HasField("end_time") for end in ends)


def test_migrations_have_one_head(bare: Connection) -> None:
    scripts = ScriptDirectory.from_config(alembic_config(bare))
    assert len(scripts.get_heads()) == 1


def test_migrating_again_changes_nothing(bare_database: str, bare: Connection) -> None:
    migrate(bare_database)
    first = schema(bare)
    migrate(bare_database)
    assert schema(bare) == first


async def test_replicas_may_migrate_at_the_same_time(bare_database: str) -> None:
    await asyncio.gather(*(asyncio.to_thread(migrate, bare_database) for _ in range(4)))
    database = Database(bare_database, pool_size=1, timeout=5)
    assert await database.ping() is None
    await database.close()


async def test_older_schema_is_refused_until_the_migrations_ran(bare_database: str) -> None:
    older, newest = revisions()[1], revisions()[0]
    migrate(bare_database, older)
    rig = Rig(bare_database)
    says = f"The schema is at {older} and this version needs {newest}; run the migrations."
    assert await rig.database.ping() == says
    # Not only the word of health: a change would not be noted in the history.
    with pytest.raises(DomainError, match=says) as raised:
        await rig.create()
    assert raised.value.reason is Reason.STORE_UNAVAILABLE
    assert await rig.value("SELECT count(*) FROM exports") == 0
    migrate(bare_database)
    assert await rig.database.ping() is None
    await rig.create()
    await rig.close()


async def test_schema_that_is_taken_back_is_noticed(bare_database: str, bare: Connection) -> None:
    migrate(bare_database)
    database = Database(bare_database, pool_size=1, timeout=5)
    assert await database.ping() is None
    command.downgrade(alembic_config(bare), "-1")
    bare.commit()
    assert await database.ping() is not None
    with pytest.raises(DomainError):
        async with database.transaction():
            pass
    await database.close()


async def test_newer_schema_is_accepted_and_left_alone(
    bare_database: str, bare: Connection
) -> None:
    # What a version finds that was gone back to, or that is not replaced yet.
    migrate(bare_database)
    bare.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    bare.commit()
    rig = Rig(bare_database)
    assert await rig.database.ping() is None
    await rig.create()
    await rig.close()
    migrate(bare_database)
    assert list(bare.execute(text("SELECT version_num FROM alembic_version")).scalars()) == ["9999"]


async def test_database_without_the_schema_says_so(bare_database: str) -> None:
    database = Database(bare_database, pool_size=1, timeout=5)
    assert await database.ping() == "The schema is missing; run the migrations."
    await database.close()
