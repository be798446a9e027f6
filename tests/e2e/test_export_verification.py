"""Every finished export says what was found in its file, beside what was planned."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import psycopg
import pytest

from services.local.cluster import LocalCluster
from tests.e2e.small_exports import finished
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
TURNED = Clip(frames=50, rotation=90)
# The cluster of the tests makes everything in parts that is longer than 30 s.
LONG = Clip(rate=Fraction(5), frames=200, gop=10)


async def kinds_of_runs(cluster: LocalCluster, export: pb.Export) -> set[str]:
    """Return the kinds of tasks of an export that were run."""
    url = cluster.infrastructure.postgres.url
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(
            "SELECT DISTINCT kind FROM tasks JOIN runs ON runs.task_id = tasks.id"
            " WHERE export_id = %s",
            [export.id],
        )
        return {str(kind) for (kind,) in await cursor.fetchall()}


async def test_verification_is_that_of_the_file(client: AsyncClient, clip: MakeClip) -> None:
    video_id = await client.upload(clip(TURNED))
    done = await finished(client, video_id)
    found = done.output.verification
    assert (found.planned_frame_count, found.frame_count, found.rotation) == (50, 50, 90)
    assert found.video_duration.ToTimedelta().total_seconds() == 2
    assert found.audio_duration.ToTimedelta().total_seconds() == pytest.approx(2, abs=1e-4)
    assert found.HasField("largest_av_offset")
    assert found.largest_av_offset.ToTimedelta().total_seconds() < 0.001
    assert (found.video_codec, found.pixel_format) == ("h264", "yuv420p")
    assert (found.color_space, found.color_range) == ("bt470bg", "tv")
    # Whoever takes it over is told the same.
    again = await finished(client, video_id)
    assert again.output.reused_share == 1
    assert again.output.verification == found


async def test_joined_file_is_verified_as_a_whole(client: AsyncClient, clip: MakeClip) -> None:
    done = await finished(client, await client.upload(clip(LONG)))
    assert done.plan.chunk_count > 1
    found = done.output.verification
    assert (found.planned_frame_count, found.frame_count) == (200, 200)
    assert found.largest_av_offset.ToTimedelta().total_seconds() < 0.001


@pytest.mark.parametrize("shown", [TURNED, LONG], ids=["whole", "in parts"])
async def test_finished_pictures_are_compared_with_their_source(
    cluster: LocalCluster, client: AsyncClient, clip: MakeClip, shown: Clip
) -> None:
    video_id = await client.upload(clip(shown))
    done = await finished(client, video_id, measure_quality=True)
    assert not done.warnings
    assert "MEASURE" in await kinds_of_runs(cluster, done)
    quality = done.output.verification.quality
    assert 60 < quality.vmaf_min <= quality.vmaf_harmonic_mean <= quality.vmaf_mean <= 100
    assert quality.frame_count == shown.frames // 5
    assert quality.model == "vmaf_v0.6.1"
    # What is known of a file is not found out anew.
    again = await finished(client, video_id, measure_quality=True)
    assert again.output.verification.quality == quality
    assert await kinds_of_runs(cluster, again) == {"COPY"}
