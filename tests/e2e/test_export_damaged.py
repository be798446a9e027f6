"""A damaged source is exported as far as it can be decoded, and its owner told, each time."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av

from services.local.cluster import LocalCluster
from tests.e2e.conftest import Leftovers
from tests.e2e.small_exports import finished
from tests.e2e.test_long_exports import runs_of
from tests.media.frame_codes import Clip
from tests.media.read_back import read_back
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
# Longer than 30 s, so that it is made in parts.
RATE = 5
LONG = Clip(rate=Fraction(RATE), frames=50 * RATE, gop=2 * RATE, clicks=2.0)


def with_zeros(path: Path, first: int, count: int) -> bytes:
    """Return a file without the contents of some of its pictures."""
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as file:
        packets = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
    for place, size in packets[first : first + count]:
        content[place : place + size] = bytes(size)
    return bytes(content)


def told(export: pb.Export) -> list[tuple[float, float]]:
    """Return the damaged places in seconds; there must be one warning."""
    [warning] = export.warnings
    assert warning.code == "SOURCE_DAMAGED"
    return [
        (
            each.start_time.ToTimedelta().total_seconds(),
            each.end_time.ToTimedelta().total_seconds(),
        )
        for each in warning.time_ranges
    ]


async def test_damage_is_told_whether_pictures_are_made_reused_or_copied(
    client: AsyncClient,
    clip: MakeClip,
    cluster: LocalCluster,
    tmp_path: Path,
    leftovers: Leftovers,
) -> None:
    source = tmp_path / "source.mp4"
    # From 21 s on; the next keyframe is at 22 s.
    source.write_bytes(with_zeros(clip(LONG), 21 * RATE + 1, 3))
    video_id = await client.upload(source)
    first = await finished(client, video_id, [(0.0, 20.0), (20.0, 40.0)])
    [(begins, ends)] = told(first)
    assert 20.2 <= begins <= 21.4
    assert ends == 22
    assert first.output.frame_count == 40 * RATE
    await client.download(first, tmp_path / "out.mp4")
    shown = [frame.number for frame in read_back(tmp_path / "out.mp4").frames]
    assert shown[: round(begins * RATE)] == list(range(round(begins * RATE)))
    assert shown[22 * RATE :] == list(range(22 * RATE, 40 * RATE))

    # Another export: what is whole is reused, what is damaged made and told again.
    second = await finished(client, video_id, [(0.0, 40.0), (44.0, 48.0)])
    assert told(second) == told(first)
    assert second.output.reused_frame_count > 20 * RATE
    assert (await runs_of(cluster, second))["VIDEO"] >= 2

    copied = await finished(client, video_id, [(0.0, 40.0), (44.0, 48.0)])
    assert await runs_of(cluster, copied) == {"COPY": 1}
    assert told(copied) == told(first)

    clean = await finished(client, video_id, [(0.0, 18.0), (24.0, 40.0)])
    assert not clean.warnings
    assert leftovers.scratch_files() == []


async def test_short_export_of_a_damaged_source_is_made_whole(
    client: AsyncClient, clip: MakeClip, tmp_path: Path
) -> None:
    source = tmp_path / "source.mp4"
    source.write_bytes(with_zeros(clip(LONG), 21 * RATE + 1, 3))
    video_id = await client.upload(source)
    done = await finished(client, video_id, [(20.0, 24.0)])
    [(begins, ends)] = told(done)
    assert 20.2 <= begins <= 21.4
    assert ends == 22
    assert done.output.frame_count == done.plan.frame_count == 4 * RATE
