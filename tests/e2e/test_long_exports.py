"""Long exports through the real cluster: cut into parts, joined exactly, made once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import psycopg
import pytest

from services.local.cluster import LocalCluster
from tests.e2e.conftest import Leftovers
from tests.e2e.small_exports import SMALL, finished
from tests.media.frame_codes import Clip, audio_click_times, read_frame_numbers
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
# The cluster of the tests makes everything in parts that is longer than 30 s, of 4 s each.
RATE = 5
LONG = Clip(rate=Fraction(RATE), frames=50 * RATE, gop=2 * RATE, clicks=2.0)
FIRST = [(0.0, 20.0), (24.0, 40.0)]


def frames(segments: Sequence[tuple[float, float]]) -> list[int]:
    """Return the numbers of the frames that segments show."""
    return [
        number
        for start, end in segments
        for number in range(round(start * RATE), round(end * RATE))
    ]


async def runs_of(cluster: LocalCluster, export: pb.Export) -> dict[str, int]:
    """Return how many runs there were of each kind of task of an export."""
    url = cluster.infrastructure.postgres.url
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(
            "SELECT kind, count(runs.id) FROM tasks LEFT JOIN runs ON runs.task_id = tasks.id"
            " WHERE export_id = %s GROUP BY kind",
            [export.id],
        )
        return {str(kind): int(count) for kind, count in await cursor.fetchall()}


async def test_parts_join_to_exactly_the_planned_frames_with_their_sound(
    client: AsyncClient,
    clip: MakeClip,
    cluster: LocalCluster,
    tmp_path: Path,
    leftovers: Leftovers,
) -> None:
    # A piece that is shown twice, and a cut within a chunk.
    segments = [*FIRST, (1.0, 3.2), (24.0, 40.0)]
    video_id = await client.upload(clip(LONG))
    done = await finished(client, video_id, segments)
    await client.download(done, tmp_path / "out.mp4")
    assert read_frame_numbers(tmp_path / "out.mp4") == frames(segments)
    assert done.output.frame_count == done.plan.frame_count == len(frames(segments))
    assert done.plan.chunk_count > 10
    # Clicks are on even seconds of the source: where they are in the output is known.
    expected, begun = [], 0.0
    for start, end in segments:
        expected += [begun + at - start for at in range(0, 60, 2) if start <= at < end]
        begun += end - start
    clicks = audio_click_times(tmp_path / "out.mp4")
    # One at the very first sample of a range is cut in half by the fade.
    inner = [at for at in expected if min(abs(at - click) for click in clicks) < 0.005]
    assert len(inner) >= len(expected) - len(segments)
    runs = await runs_of(cluster, done)
    assert runs["VIDEO"] < done.plan.chunk_count, "what is shown twice is made once"
    assert (runs["AUDIO"], runs["ASSEMBLE"]) == (1, 1)
    assert leftovers.scratch_files() == []
    assert len(leftovers.objects()) == 1


async def test_edit_encodes_only_what_changed_and_the_order_costs_no_pictures(
    client: AsyncClient, clip: MakeClip, cluster: LocalCluster, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(LONG))
    first = await finished(client, video_id, FIRST)
    assert first.output.reused_frame_count == 0

    edited = [(0.0, 20.0), (24.0, 42.0)]
    plan = await client.plan(video_id, edited, settings=SMALL)
    done = await finished(client, video_id, edited)
    await client.download(done, tmp_path / "edited.mp4")
    assert read_frame_numbers(tmp_path / "edited.mp4") == frames(edited)
    assert done.output.reused_frame_count == plan.reusable_frame_count
    assert done.output.reused_frame_count >= 34 * RATE
    assert done.output.reused_share == pytest.approx(plan.reusable_frame_count / (38 * RATE))
    runs = await runs_of(cluster, done)
    assert runs["VIDEO"] <= 2

    turned = list(reversed(edited))
    plan = await client.plan(video_id, turned, settings=SMALL)
    assert plan.reusable_frame_count == plan.frame_count
    done = await finished(client, video_id, turned)
    await client.download(done, tmp_path / "turned.mp4")
    assert read_frame_numbers(tmp_path / "turned.mp4") == frames(turned)
    runs = await runs_of(cluster, done)
    assert runs == {"VIDEO": 0, "AUDIO": 1, "ASSEMBLE": 1}


async def test_identical_export_is_copied(
    client: AsyncClient, clip: MakeClip, cluster: LocalCluster
) -> None:
    video_id = await client.upload(clip(Clip(rate=Fraction(25), frames=50)))
    first = await finished(client, video_id, [(0, 1)])
    plan = await client.plan(video_id, [(0, 1)], settings=SMALL)
    assert plan.reusable_frame_count == plan.frame_count == 25
    second = await finished(client, video_id, [(0, 1)])
    assert await runs_of(cluster, second) == {"COPY": 1}
    assert second.output.sha256 == first.output.sha256
    assert second.output.reused_share == 1
    # Each has a file of its own.
    await client.delete(first.id)
    assert (await client.get(second.id)).output.download_url


async def test_part_that_vanishes_before_the_assembly_is_made_again(
    client: AsyncClient, clip: MakeClip, cluster: LocalCluster, leftovers: Leftovers, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(LONG))
    await finished(client, video_id, FIRST)
    [gone, *_] = leftovers.objects("cache")
    s3 = cluster.infrastructure.s3.client()
    s3.delete_object(Bucket="videoexport", Key=gone)
    turned = list(reversed(FIRST))
    done = await finished(client, video_id, turned)
    await client.download(done, tmp_path / "out.mp4")
    assert read_frame_numbers(tmp_path / "out.mp4") == frames(turned)
    assert done.output.reused_share >= 0.8


async def test_part_that_is_no_part_any_more_is_made_anew(
    client: AsyncClient, clip: MakeClip, cluster: LocalCluster, leftovers: Leftovers, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(LONG))
    await finished(client, video_id, FIRST)
    [damaged, *_] = leftovers.objects("cache")
    leftovers.put("videoexport", damaged, b"nothing of this can be joined")
    turned = list(reversed(FIRST))
    done = await finished(client, video_id, turned)
    await client.download(done, tmp_path / "out.mp4")
    assert read_frame_numbers(tmp_path / "out.mp4") == frames(turned)


async def test_encoder_that_dies_costs_no_more_than_what_it_was_doing(
    client: AsyncClient, clip: MakeClip, cluster: LocalCluster, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(LONG))
    created = await client.create_export(video_id, FIRST, settings=SMALL)
    async with asyncio.timeout(180):
        while len(made := await made_parts(cluster, created)) < 4:
            await asyncio.sleep(0.05)
        cluster.kill("encoder-1")
        done = await client.wait(created.id)
    await client.download(done, tmp_path / "out.mp4")
    assert read_frame_numbers(tmp_path / "out.mp4") == frames(FIRST)
    runs = await runs_of(cluster, done)
    # In two slots two chunks were begun twice at most, and the sound in the slot beside them.
    assert runs["VIDEO"] <= done.plan.chunk_count + 2
    assert runs["AUDIO"] <= 2
    assert runs["ASSEMBLE"] == 1
    again = "SELECT count(*) FROM runs WHERE task_id = ANY(%s)"
    url = cluster.infrastructure.postgres.url
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(again, [made])
        assert await cursor.fetchone() == (len(made),), "what was made is not made again"


async def made_parts(cluster: LocalCluster, export: pb.Export) -> list[str]:
    """Return the tasks of an export that are done."""
    url = cluster.infrastructure.postgres.url
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(
            "SELECT id FROM tasks WHERE export_id = %s AND state = 'SUCCEEDED'", [export.id]
        )
        return [str(row[0]) for row in await cursor.fetchall()]


async def test_parts_are_stored_under_the_name_of_their_owner(
    client: AsyncClient, clip: MakeClip, cluster: LocalCluster, leftovers: Leftovers
) -> None:
    video_id = await client.upload(clip(LONG))
    await finished(client, video_id, FIRST)
    assert leftovers.objects("cache")
    async with AsyncClient(cluster.api.address, user="somebody-else") as other:
        plan = await other.plan(await other.upload(clip(LONG)), FIRST, settings=SMALL)
    assert plan.reusable_frame_count == 0
