"""What no ended export may leave: tasks, messages, deletions to do, scratch files, processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nats
import psutil
from nats.js import JetStreamContext

from faults.checks.evidence import Evidence
from faults.cluster import family
from faults.journal import Violation
from services.api.states import ACTIVE_EXPORTS, ACTIVE_TASKS
from services.common.subjects import EVENTS_STREAM, TASKS_STREAM

TASKS = """
    SELECT tasks.id, tasks.kind, tasks.state FROM tasks
    JOIN exports ON exports.id = tasks.export_id
    WHERE tasks.state = ANY(%(undecided)s)
      AND NOT exports.state = ANY(%(active)s) AND tasks.user_id = ANY(%(users)s)
"""
OTHERS_TASKS = "SELECT id FROM tasks WHERE id = ANY(%(ids)s) AND NOT user_id = ANY(%(users)s)"
# Of exports that have ended, none is worked on any more: each run was told of, or written off.
RUNS = """
    SELECT runs.id, runs.encoder_id, runs.started_at, tasks.kind FROM runs
    JOIN tasks ON tasks.id = runs.task_id JOIN exports ON exports.id = tasks.export_id
    WHERE runs.ended_at IS NULL AND tasks.kind <> 'PROBE'
      AND NOT exports.state = ANY(%(active)s) AND tasks.user_id = ANY(%(users)s)
"""
DELETIONS = "SELECT id, object FROM object_deletions WHERE user_id = ANY(%(users)s)"
ANNOUNCEMENTS = "SELECT id, message FROM announcements WHERE message ->> 'user_id' = ANY(%(users)s)"
SERVERS = ("ffmpeg", "nats-server", "weed", "postgres")
STATES = {"active": list(ACTIVE_EXPORTS), "undecided": list(ACTIVE_TASKS)}
# Every deletion is done once at once, and once more ten minutes later: that is not waited for.
DELETE_NOW = "UPDATE object_deletions SET not_before = now() WHERE user_id = ANY(%(users)s)"


async def delete_now(evidence: Evidence) -> list[Violation]:
    """Have all that is written down to be deleted later deleted now; that violates nothing."""
    await evidence.rows.ask(DELETE_NOW, users=evidence.journal.users)
    return []


async def no_rows(evidence: Evidence) -> list[Violation]:
    """No task of an ended export goes on, all is deleted and announced that was to be."""
    users = evidence.journal.users
    found = []
    for what, query in (
        ("task", TASKS),
        ("deletion", DELETIONS),
        ("announcement", ANNOUNCEMENTS),
    ):
        found += [
            Violation("no row is left over", f"{what} {row['id']}", str(row))
            for row in await evidence.rows.ask(query, users=users, **STATES)
        ]
    return found


async def no_runs(evidence: Evidence) -> list[Violation]:
    """No run of an ended export counts as going on."""
    rows = await evidence.rows.ask(RUNS, users=evidence.journal.users, **STATES)
    return [Violation("no row is left over", f"run {row['id']}", str(row)) for row in rows]


async def no_messages(evidence: Evidence) -> list[Violation]:
    """NATS holds no task and no event, but those of others."""
    connection = await nats.connect(evidence.faulty.cluster.infrastructure.nats.url)
    try:
        js = connection.jetstream()
        held = {
            subject: stream
            for stream in (TASKS_STREAM, EVENTS_STREAM)
            for subject in await _subjects(js, stream)
        }
    finally:
        await connection.close()
    tasks = [subject.rpartition(".")[2] for subject in held]
    others = await evidence.rows.ask(OTHERS_TASKS, ids=tasks, users=evidence.journal.users)
    spared = {row["id"] for row in others}
    return [
        Violation("no message is left over", subject, stream)
        for subject, stream in held.items()
        if subject.rpartition(".")[2] not in spared
    ]


async def no_scratch(evidence: Evidence) -> list[Violation]:
    """No encoder has the folder of a run, and no service a temporary file."""
    return await asyncio.to_thread(_scratch, evidence.faulty.cluster.directory)


async def no_processes(evidence: Evidence) -> list[Violation]:
    """No FFmpeg runs, and nothing of the cluster runs beside its parts."""
    return await asyncio.to_thread(_processes, evidence)


async def _subjects(js: JetStreamContext, stream: str) -> dict[str, int]:
    info = await js.stream_info(stream, subjects_filter=">")
    return info.state.subjects or {}


def _scratch(directory: Path) -> list[Violation]:
    # Each encoder has a folder of its own in the one that it was told.
    scratch = directory.glob("scratch/*/*/*")
    temporary = (path for path in directory.glob("tmp/*/**/*") if path.is_file())
    return [
        Violation("no scratch file is left over", str(path.relative_to(directory)), "it is there")
        for path in sorted({*scratch, *temporary})
    ]


def _processes(evidence: Evidence) -> list[Violation]:
    cluster = evidence.faulty.cluster
    ours = {each.pid: part for part, pid in cluster.pids.items() for each in family(pid)}
    found = []
    for process in psutil.process_iter(["pid", "name", "cmdline"]):
        pid, words = process.info["pid"], process.info["cmdline"] or []
        if pid in ours and "ffmpeg" in (process.info["name"] or ""):
            text = f"FFmpeg runs below {ours[pid]}"
        elif pid not in ours and words and _is_of(cluster.directory, process, words):
            text = f"it runs without its part: {' '.join(words)[:200]}"
        else:
            continue
        found.append(Violation("no process is left over", f"process {pid}", text))
    return found


def _is_of(directory: Path, process: psutil.Process, words: list[str]) -> bool:
    """Whether a process was started by a part: the reaper and whoever tests are not."""
    if any(name in words[0] for name in SERVERS) and any(str(directory) in word for word in words):
        return True
    try:
        # Children of services have no word of that, but the environment of their parents.
        temporary = process.environ().get("TMPDIR", "")
    except psutil.Error:
        return False
    return Path(temporary).is_relative_to(directory / "tmp")
