"""The version before beside this one: its events, and its statements on this schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from api_parts import Parts, running, until
from api_rig import NO_QUOTAS, PLAN, SOURCE, Rig

from services.api.store.records import NewExport, NewTask, Submission
from services.common.subjects import Lane, events_subject
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

PREVIOUS = Path(__file__).resolve().parents[2] / "fixtures/previous"
STATEMENTS = json.loads((PREVIOUS / "statements.json").read_text())


def old(name: str) -> bytes:
    """Return a message as the version before has sent it."""
    return (PREVIOUS / f"messages/{name}.binpb").read_bytes()


async def stored_for(rig: Rig, event: task_pb2.TaskEvent, kind: str, message: bytes) -> None:
    """Store the export and the task that an event is about, and send the task out."""
    lane = Lane.PROBE if kind == "PROBE" else Lane.CPU
    task = task_pb2.Task.FromString(message)
    task.task_id, task.export_id, task.user_id = event.task_id, event.export_id, event.user_id
    work = NewTask(event.task_id, kind, lane, task.SerializeToString(), 100)
    other = NewTask(f"{event.task_id}-2", "ASSEMBLE", Lane.MUX, old("Task.assemble"), 1)
    new = NewExport(
        id=event.export_id,
        user_id=event.user_id,
        source=SOURCE,
        source_etag="etag",
        source_size_bytes=1000,
        segments=(),
        settings=pb.ExportSettings(),
        priority=0,
        plan=None if kind == "PROBE" else PLAN,
    )
    tasks = [work, other] if kind == "VIDEO" else [work]
    await rig.exports.create(new, tasks, Submission(None, b""), NO_QUOTAS)
    sent = await rig.dispatch(lane)
    assert event.task_id in sent


# By event: the task, and what it and its export become.
EVENTS = {
    "started": ("WHOLE", "Task.whole", "RUNNING", "PROCESSING"),
    "released": ("WHOLE", "Task.whole", "PENDING", "QUEUED"),
    "failed": ("PROBE", "Task.probe", "FAILED", "FAILED"),
    "succeeded.info": ("PROBE", "Task.probe", "SUCCEEDED", "QUEUED"),
    "succeeded.output": ("WHOLE", "Task.whole", "SUCCEEDED", "COMPLETED"),
    "succeeded.part": ("VIDEO", "Task.video.0", "SUCCEEDED", "PROCESSING"),
}


@pytest.mark.parametrize("name", EVENTS)
async def test_event_of_an_encoder_of_before_is_applied(parts: Parts, rig: Rig, name: str) -> None:
    data = old(f"TaskEvent.{name}")
    event = task_pb2.TaskEvent.FromString(data)
    kind, message, task_state, export_state = EVENTS[name]
    await stored_for(rig, event, kind, old(message))
    parts.encoder()
    await parts.js.publish(events_subject(event.task_id), data)
    async with running(parts.consumer.run):
        await until(lambda: settled(parts))
    [task] = await rig.sql("SELECT * FROM tasks WHERE id = %s", event.task_id)
    [export] = await rig.sql("SELECT * FROM exports")
    assert (task["state"], export["state"]) == (task_state, export_state)
    changes = (await rig.exports.history(event.export_id, event.user_id)).changes
    assert changes[-1].actor == f"encoder:{event.encoder_id}"
    if name == "failed":
        assert export["error"]["code"] == event.failed.code
    if name == "succeeded.info":
        assert export["plan"] is not None
        assert await rig.value("SELECT count(*) FROM tasks WHERE kind <> 'PROBE'") > 0
    if name == "succeeded.output":
        assert export["output"]["sha256"] == event.succeeded.output.sha256
    if name == "succeeded.part":
        assert await rig.value("SELECT key FROM cached_parts") == event.succeeded.part.key


async def settled(parts: Parts) -> bool:
    return await parts.messages("VIDEOEXPORT_EVENTS") == 0


async def test_encoder_of_before_is_known_by_its_heartbeat(parts: Parts) -> None:
    heartbeat = task_pb2.EncoderHeartbeat.FromString(old("EncoderHeartbeat"))
    parts.encoders.heard(heartbeat.encoder)
    assert parts.encoders.slots(Lane.CPU) == 1
    assert parts.encoders.slots(Lane.MUX) == heartbeat.encoder.mux_slots > 0
    assert parts.encoders.toolchain(pb.ENCODER_FAMILY_CPU).build == heartbeat.encoder.ffmpeg_build
    assert heartbeat.encoder.ffmpeg_build


# Its statements


@pytest.fixture
def postgres(api_database: str) -> Iterator[psycopg.Connection]:
    """A connection to a database of this version."""
    # It would prepare statements of its own, among which ours are.
    with psycopg.connect(api_database, autocommit=True, prepare_threshold=None) as connection:
        yield connection


def problem_of(postgres: psycopg.Connection, statement: dict[str, Any]) -> str | None:
    """Return what Postgres has against a statement, or None."""
    types = ", ".join(type_name(postgres, oid) for oid in statement["types"])
    nulls = ", ".join("NULL" for _ in statement["types"])
    try:
        postgres.execute(f"PREPARE old{types and f'({types})'} AS {statement['sql']}")
        # What only a plan finds missing, as the unique index of an ON CONFLICT.
        postgres.execute(f"EXPLAIN EXECUTE old{nulls and f'({nulls})'}")
    except psycopg.Error as error:
        return f"{error}: {statement['sql']}"
    finally:
        postgres.execute("DEALLOCATE ALL")
    return None


def type_name(postgres: psycopg.Connection, oid: int) -> str:
    """Return the name of a parameter's type; that of 0 is for Postgres to find."""
    if not oid:
        return "unknown"
    [name] = postgres.execute("SELECT format_type(%s, NULL)", [oid]).fetchone() or [""]
    return str(name)


def test_statements_of_before_can_be_run(postgres: psycopg.Connection) -> None:
    assert len(STATEMENTS) > 60
    postgres.execute("SET plan_cache_mode = force_generic_plan")
    assert [found for item in STATEMENTS if (found := problem_of(postgres, item))] == []


def test_row_of_before_has_all_that_is_required(postgres: psycopg.Connection) -> None:
    required = """
        SELECT table_name, column_name FROM information_schema.columns
        WHERE table_schema = 'public' AND is_nullable = 'NO' AND column_default IS NULL
        AND is_identity = 'NO'
    """
    needs = postgres.execute(required).fetchall()
    inserts = [
        match
        for item in STATEMENTS
        if (match := re.match(r"INSERT INTO (\w+) \(([^)]*)\)", item["sql"]))
    ]
    assert {match[1] for match in inserts} >= {"exports", "tasks", "runs", "submissions"}
    for match in inserts:
        given = {name.strip() for name in match[2].split(",")}
        missing = {column for table, column in needs if table == match[1]} - given
        assert not missing, match[0]
