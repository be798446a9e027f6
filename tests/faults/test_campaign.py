"""A short campaign violates nothing; and each check sees the violation that it is for."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import nats
import pytest

from faults.campaign import Campaign, Orders
from faults.catalogue import FAULTS as FAULTS_BY_NAME
from faults.checks import exports, history, leftovers, objects, parts
from faults.checks.evidence import Evidence, Injected, Outcome
from faults.cluster import FaultCluster
from faults.files import problem_of
from faults.journal import Sight, Violation, tell
from faults.orders import Fate
from faults.times import now
from services.api.states import ExportState
from services.common.subjects import TASKS_STREAM, Lane, task_subject
from services.local.cluster import BUCKET
from tests.faults.conftest import WHOLE_AGAIN_S
from tests.media.frame_codes import Clip, ffmpeg_exe
from videoexport.v1 import export_pb2 as pb

# Each once: what is recovered from within seconds.
FAULTS = (
    *("encoder-kill", "ffmpeg-kill", "nats-leader-kill", "postgres-kill"),
    *("storage-kill", "s3-500", "s3-answer-lost", "network-cut"),
)
pytestmark = pytest.mark.long
EXPORTS = 15
SEED = 20
Check = Callable[[Evidence], Awaitable[list[Violation]]]


@pytest.fixture(scope="module")
async def campaign(whole_cluster: FaultCluster, scratch: Path) -> AsyncIterator[Campaign]:
    """A campaign that has ended, with all that it knows."""
    await whole_cluster.whole_again(WHOLE_AGAIN_S)
    orders = Orders(
        seed=SEED, exports=EXPORTS, faults=len(FAULTS), every=1.5, only=FAULTS, at_once=6
    )
    campaign = Campaign(orders, whole_cluster, scratch / "campaign", tell=lambda _: None)
    await campaign.run()
    yield campaign
    await campaign.evidence.rows.close()


@pytest.fixture
def evidence(campaign: Campaign) -> Evidence:
    """What the checks look at, after a campaign that has violated nothing."""
    return campaign.evidence


@pytest.mark.timeout(400)
def test_campaign_loses_nothing_and_leaves_nothing(campaign: Campaign) -> None:
    result = campaign.result
    assert not result.violations, tell(result.violations)
    assert not result.interrupted
    assert result.exports["accepted"] >= EXPORTS
    assert result.exports["COMPLETED"] >= EXPORTS // 2
    outcomes = Counter(each.outcome for each in result.injected)
    assert outcomes[Outcome.SURVIVED] == len(FAULTS)
    # The users keep every encoder busy: hardly anything waits for a victim in vain.
    assert outcomes[Outcome.NOT_NOW] <= 1


@asynccontextmanager
async def changed(evidence: Evidence, statement: str, **values: object) -> AsyncIterator[None]:
    """Change rows, for the connection of the evidence alone, and take it back."""
    await evidence.rows.ask("BEGIN")
    try:
        await evidence.rows.ask(statement, **values)
        yield
    finally:
        await evidence.rows.ask("ROLLBACK")


async def completed(evidence: Evidence) -> dict[str, Any]:
    """Return the row of some completed export."""
    row = await evidence.rows.one(objects.OUTPUTS, users=evidence.journal.users)
    assert row is not None
    return row


async def assert_sees(check: Check, evidence: Evidence, subject: str, words: str = "") -> None:
    """Assert that a check finds one violation, and it is that."""
    [violation] = await check(evidence)
    assert subject in violation.subject
    assert words in violation.evidence


@pytest.mark.parametrize(
    ("check", "statement", "words"),
    [
        pytest.param(
            exports.accepted_exports_end,
            "DELETE FROM exports WHERE id = %(id)s",
            "there is no row",
            id="lost",
        ),
        pytest.param(
            exports.accepted_exports_end,
            "UPDATE exports SET state = 'PROCESSING' WHERE id = %(id)s",
            "PROCESSING since",
            id="unended",
        ),
        pytest.param(
            exports.exports_end_as_ordered,
            "UPDATE exports SET state = 'CANCELLED' WHERE id = %(id)s",
            "unasked",
            id="cancelled unasked",
        ),
        pytest.param(
            exports.exports_are_as_told,
            "UPDATE exports SET state = 'FAILED' WHERE id = %(id)s",
            "COMPLETED was told last; FAILED",
            id="another end than was told",
        ),
        pytest.param(
            history.exports_end_once,
            "UPDATE exports SET state = 'FAILED' WHERE id = %(id)s",
            "COMPLETED → FAILED",
            id="end that is left",
        ),
        pytest.param(
            history.exports_end_once,
            "UPDATE exports SET output_run_id = 'run_of_nobody' WHERE id = %(id)s",
            "the row has run_of_nobody",
            id="second winner",
        ),
        pytest.param(
            history.failures_have_reasons,
            """INSERT INTO state_changes
                (export_id, task_id, from_state, to_state, actor, reason, detail, run_id)
            VALUES (%(id)s, 'tsk_1', 'RUNNING', 'PENDING', 'encoder:encoder-1',
                'OUTPUT_MISMATCH', 'Short.', 'run_of_nobody')""",
            "OUTPUT_MISMATCH",
            id="failure without a cause that was tried again",
        ),
        pytest.param(
            exports.outputs_are_as_planned,
            """UPDATE exports SET output = jsonb_set(output, '{frame_count}', '"1"')
            WHERE id = %(id)s""",
            "1 told",
            id="frames missing",
        ),
    ],
)
async def test_wrong_row_is_seen(
    evidence: Evidence, check: Check, statement: str, words: str
) -> None:
    row = await _finished_unasked(evidence)
    async with changed(evidence, statement, id=row["id"]):
        await assert_sees(check, evidence, row["id"], words)
    assert await check(evidence) == []


async def test_row_of_nobody_is_seen(evidence: Evidence) -> None:
    row = await completed(evidence)
    entry = evidence.journal.exports.pop(row["id"])
    await assert_sees(exports.accepted_exports_end, evidence, row["id"], "nobody was promised")
    evidence.journal.exports[row["id"]] = entry


async def test_deleted_export_that_is_still_there_is_seen(evidence: Evidence) -> None:
    entry = evidence.journal.exports[(await completed(evidence))["id"]]
    entry.deleted = entry.deletion_answered = True
    await assert_sees(exports.accepted_exports_end, evidence, entry.id, "its deletion was answered")
    entry.deleted = entry.deletion_answered = False


async def test_progress_that_goes_back_is_seen(evidence: Evidence) -> None:
    entry = evidence.journal.exports[(await completed(evidence))["id"]]
    encoding = pb.EXPORT_STATE_PROCESSING
    entry.streams.append([Sight(encoding, 50.0), Sight(encoding, 40.0)])
    await assert_sees(exports.progress_never_goes_back, evidence, entry.id, "from 50.0 to 40.0")
    entry.streams.pop()


async def test_word_after_the_end_is_seen(evidence: Evidence) -> None:
    entry = evidence.journal.exports[(await completed(evidence))["id"]]
    done, failed = pb.EXPORT_STATE_COMPLETED, pb.EXPORT_STATE_FAILED
    entry.streams.insert(0, [Sight(done, 100.0), Sight(failed, 100.0)])
    await assert_sees(
        exports.progress_never_goes_back, evidence, entry.id, "FAILED after COMPLETED"
    )
    entry.streams.pop(0)


async def test_cancellation_that_is_not_as_it_was_answered_is_seen(evidence: Evidence) -> None:
    row = await _finished_unasked(evidence)
    entry = evidence.journal.exports[row["id"]]
    entry.cancel_answer = ExportState.CANCELLED
    await assert_sees(exports.exports_are_as_told, evidence, entry.id, "was answered CANCELLED")
    entry.cancel_answer = None


async def test_file_that_nobody_has_seen_and_one_made_of_a_text_are_seen(
    evidence: Evidence,
) -> None:
    entry = evidence.journal.exports[(await _finished_unasked(evidence))["id"]]
    entry.file_is_right = None
    await assert_sees(exports.outputs_are_as_planned, evidence, entry.id, "nobody has seen")
    entry.file_is_right = True
    order, entry.order = entry.order, replace(entry.order, fate=Fate.NO_VIDEO)
    await assert_sees(exports.exports_end_as_ordered, evidence, entry.id, "from a text")
    entry.order = order


async def test_export_that_completes_twice_is_seen(evidence: Evidence) -> None:
    entry = evidence.journal.exports[(await completed(evidence))["id"]]
    entry.digests.add("ab" * 32)
    await assert_sees(exports.outputs_are_as_planned, evidence, entry.id, "abababab")
    entry.digests.remove("ab" * 32)


async def test_short_object_a_lost_one_and_an_orphan_are_seen(evidence: Evidence) -> None:
    row = await completed(evidence)
    s3 = evidence.faulty.cluster.infrastructure.s3.client()
    key = f"exports/{row['user_id']}/{row['id']}/{row['output_run_id']}.mp4"
    whole = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    s3.put_object(Bucket=BUCKET, Key=key, Body=whole[: len(whole) // 2])
    await assert_sees(objects.outputs_are_stored, evidence, row["id"], f"{len(whole) // 2} bytes")
    s3.delete_object(Bucket=BUCKET, Key=key)
    await assert_sees(objects.outputs_are_stored, evidence, row["id"], "is not there")
    s3.put_object(Bucket=BUCKET, Key=key, Body=whole)

    orphan = f"exports/{row['user_id']}/{row['id']}/run_of_nobody.mp4"
    s3.put_object(Bucket=BUCKET, Key=orphan, Body=whole)
    await assert_sees(objects.outputs_are_stored, evidence, orphan, "no export has it")
    s3.delete_object(Bucket=BUCKET, Key=orphan)
    assert await objects.outputs_are_stored(evidence) == []


async def test_lost_source_is_seen(evidence: Evidence) -> None:
    source = (evidence.journal.users[0], "vid_of_nobody")
    evidence.journal.sources.add(source)
    await assert_sees(objects.sources_are_stored, evidence, source[1])
    evidence.journal.sources.remove(source)


async def test_object_left_over_is_seen(evidence: Evidence) -> None:
    user = evidence.journal.users[0]
    s3 = evidence.faulty.cluster.infrastructure.s3.client()
    calm = replace(evidence, injected=[])
    for check, key in (
        (objects.sources_are_stored, f"videos/{user}/vid_of_nobody"),
        (objects.no_previews, f"previews/{user}/pre_of_nobody.mp4"),
        (objects.parts_are_known, f"cache/{user}/{'ab' * 32}"),
    ):
        s3.put_object(Bucket=BUCKET, Key=key, Body=b"film")
        assert key in {each.subject for each in await check(calm)}
        s3.delete_object(Bucket=BUCKET, Key=key)


async def test_unfinished_upload_without_a_cause_is_seen(evidence: Evidence) -> None:
    s3 = evidence.faulty.cluster.infrastructure.s3.client()
    key = f"exports/{evidence.journal.users[0]}/exp_of_nobody/run_of_nobody.mp4"
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    # Not even by a fault that struck while it was sent.
    hour = timedelta(hours=1)
    fault = Injected(FAULTS_BY_NAME["s3-kill"], "", now() - hour, now() + hour, Outcome.SURVIVED)
    struck = replace(evidence, injected=[fault])
    await assert_sees(objects.no_upload_is_left, struck, key)
    s3.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload)


@pytest.mark.parametrize(
    ("statement", "subject"),
    [
        ("UPDATE tasks SET state = 'RUNNING' WHERE export_id = %(id)s", "task"),
        (
            "INSERT INTO object_deletions (user_id, object) VALUES (%(user)s, '{}')",
            "deletion",
        ),
        (
            """INSERT INTO announcements (message)
            VALUES (jsonb_build_object('user_id', %(user)s::text))""",
            "announcement",
        ),
    ],
)
async def test_row_left_over_is_seen(evidence: Evidence, statement: str, subject: str) -> None:
    row = await completed(evidence)
    async with changed(evidence, statement, id=row["id"], user=row["user_id"]):
        found = await leftovers.no_rows(evidence)
    assert found
    assert all(each.subject.startswith(subject) for each in found)


async def test_run_left_over_is_seen(evidence: Evidence) -> None:
    row = await completed(evidence)
    goes_on = "UPDATE runs SET ended_at = NULL WHERE id = %(run)s"
    async with changed(evidence, goes_on, run=row["output_run_id"]):
        await assert_sees(leftovers.no_runs, evidence, row["output_run_id"])


async def test_message_left_over_is_seen(evidence: Evidence) -> None:
    # No encoder here takes work for a GPU.
    subject = task_subject(Lane.GPU, "tsk_of_nobody")
    connection = await nats.connect(evidence.faulty.cluster.infrastructure.nats.url)
    js = connection.jetstream()
    await js.publish(subject, b"")
    await assert_sees(leftovers.no_messages, evidence, subject, TASKS_STREAM)
    await js.purge_stream(TASKS_STREAM, subject=subject)
    await connection.close()


async def test_scratch_file_is_seen(evidence: Evidence) -> None:
    folder = evidence.faulty.cluster.directory / "scratch" / "encoder-1" / "encoder-1"
    file = folder / "run_of_nobody"
    file.write_text("half a film")
    await assert_sees(leftovers.no_scratch, evidence, file.name)
    file.unlink()
    deep = evidence.faulty.cluster.directory / "tmp" / "encoder-1" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "half").write_text("half a film")
    await assert_sees(leftovers.no_scratch, evidence, "half")
    shutil.rmtree(deep.parent)


async def test_process_left_over_is_seen(evidence: Evidence) -> None:
    folder = evidence.faulty.cluster.directory
    silence = ("-re", "-f", "lavfi", "-i", "anullsrc", "-f", "null", str(folder / "nothing"))
    process = await asyncio.create_subprocess_exec(
        *(ffmpeg_exe(), "-nostdin", "-v", "quiet", *silence), stdout=subprocess.DEVNULL
    )
    await assert_sees(leftovers.no_processes, evidence, str(process.pid), "without its part")
    process.kill()
    await process.wait()


async def test_child_of_a_service_that_outlives_it_is_seen(evidence: Evidence) -> None:
    folder = evidence.faulty.cluster.directory / "tmp" / "encoder-1"
    # As the process that examines sources: its command line names no folder.
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", "import time; time.sleep(60)"), env={"TMPDIR": str(folder)}
    )
    await assert_sees(leftovers.no_processes, evidence, str(process.pid), "without its part")
    process.kill()
    await process.wait()


async def test_part_that_ends_by_itself_is_seen(evidence: Evidence) -> None:
    cluster = evidence.faulty.cluster
    os.kill(cluster.pids["storage"], signal.SIGTERM)
    async with asyncio.timeout(WHOLE_AGAIN_S):
        while not await parts.no_part_dies(evidence):
            await asyncio.sleep(0.1)
    await assert_sees(parts.no_part_dies, evidence, "storage", "exited with status 0")
    await evidence.faulty.whole_again(WHOLE_AGAIN_S)


def test_file_that_is_not_as_ordered_is_seen(clip: Callable[[Clip], Path], tmp_path: Path) -> None:
    path = clip(Clip(frames=50))
    assert problem_of(path, range(50)) is None
    assert "50 frames, 49 were ordered" in str(problem_of(path, range(49)))
    assert "frame 0 shows 0 of the source, not 1" in str(problem_of(path, range(1, 51)))
    data = bytearray(path.read_bytes())
    # In the middle of the pictures, past the header.
    middle = data.index(b"mdat") + 4 + (len(data) - data.index(b"mdat")) // 3
    data[middle : middle + 200] = bytes(200)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(data)
    assert problem_of(damaged, range(50)) is not None


async def _finished_unasked(evidence: Evidence) -> dict[str, Any]:
    """Return the row of a completed export that nobody has tried to cancel."""
    rows = await evidence.rows.ask(objects.OUTPUTS, users=evidence.journal.users)
    known = evidence.journal.exports
    return next(row for row in rows if not known[row["id"]].cancelled)
