"""One export through the real cluster: the right frames, in the right file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from tests.e2e.conftest import Leftovers
from tests.e2e.small_exports import SMALL
from tests.media.frame_codes import Clip, audio_click_times, read_frame_numbers, read_pictures
from videoexport.client import AsyncClient, ExportFailed, Refused
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]


async def export_file(
    client: AsyncClient,
    source: Path,
    segments: list[tuple[float, float]],
    target: Path,
    settings: pb.ExportSettings = SMALL,
) -> pb.Export:
    """Upload, export, wait and download."""
    video_id = await client.upload(source)
    created = await client.create_export(video_id, segments, settings=settings)
    async with asyncio.timeout(120):
        done = await client.wait(created.id)
    await client.download(done, target)
    return done


@pytest.mark.parametrize(
    ("container", "rate"),
    [("mp4", Fraction(25)), ("mkv", Fraction(30000, 1001)), ("ts", Fraction(25))],
)
async def test_export_holds_exactly_the_requested_frames(
    client: AsyncClient, clip: MakeClip, tmp_path: Path, container: str, rate: Fraction
) -> None:
    source = clip(Clip(rate=rate, frames=200, container=container))
    frame = 1 / float(rate)
    # Out of order, overlapping, repeated; half-open, so 10 frames are 10 frames.
    wanted = [(100, 110), (20, 33), (25, 30), (100, 110)]
    segments = [(start * frame, end * frame) for start, end in wanted]
    done = await export_file(client, source, segments, tmp_path / "out.mp4")
    expected = [number for start, end in wanted for number in range(start, end)]
    assert read_frame_numbers(tmp_path / "out.mp4") == expected
    assert done.output.frame_count == done.plan.frame_count == len(expected)
    assert done.state == pb.EXPORT_STATE_COMPLETED
    assert done.progress == 100
    assert done.output.encoder_name == "libx264"
    assert done.output.encoder_reason


async def test_export_without_segments_is_the_whole_source(
    client: AsyncClient, clip: MakeClip, tmp_path: Path
) -> None:
    source = clip(Clip(rate=Fraction(25), frames=60))
    await export_file(client, source, [], tmp_path / "out.mp4")
    assert read_frame_numbers(tmp_path / "out.mp4") == list(range(60))


async def test_export_keeps_sound_with_the_picture_over_50_segments(
    client: AsyncClient, clip: MakeClip, tmp_path: Path
) -> None:
    source = clip(Clip(rate=Fraction(25), frames=25 * 60, clicks=1.0))
    # Each holds one click, 0.2 s after its first frame.
    segments = [(second - 0.2, second + 0.2) for second in range(1, 51)]
    await export_file(client, source, segments, tmp_path / "out.mp4")
    clicks = audio_click_times(tmp_path / "out.mp4")
    assert len(clicks) == 50
    expected = [0.2 + 0.4 * index for index in range(50)]
    assert max(abs(a - b) for a, b in zip(clicks, expected, strict=True)) < 0.005


async def test_export_of_a_silent_source_has_no_sound(
    client: AsyncClient, clip: MakeClip, tmp_path: Path
) -> None:
    source = clip(Clip(rate=Fraction(25), frames=50, clicks=None))
    done = await export_file(client, source, [(0.4, 1.2)], tmp_path / "out.mp4")
    assert read_frame_numbers(tmp_path / "out.mp4") == list(range(10, 30))
    assert not done.plan.has_audio


async def test_export_fits_the_picture_and_pads_it(
    client: AsyncClient, clip: MakeClip, tmp_path: Path
) -> None:
    source = clip(Clip(rate=Fraction(25), frames=10, width=96, height=96))
    settings = pb.ExportSettings(resolution=pb.RESOLUTION_720P, quality=pb.QUALITY_LOW)
    done = await export_file(client, source, [], tmp_path / "out.mp4", settings)
    assert (done.output.width, done.output.height) == (1280, 720)
    picture = read_pictures(tmp_path / "out.mp4")[0]
    # A square stays a square, in the middle, as high as the frame.
    assert picture.width == pytest.approx(picture.height, abs=4)
    assert picture.left == pytest.approx(1280 - picture.left - picture.width, abs=4)


async def test_export_has_its_index_in_front(
    client: AsyncClient, clip: MakeClip, tmp_path: Path
) -> None:
    source = clip(Clip(rate=Fraction(25), frames=25))
    await export_file(client, source, [], tmp_path / "out.mp4")
    data = (tmp_path / "out.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    ("name", "segments", "frames"),
    [
        ("talk-42s.mp4", [(3.0, 4.0), (40.0, 41.5)], 75),
        ("car-detection.mp4", [(10.0, 12.0)], 25),
        ("bigbuckbunny-5s.mp4", [(1.0, 2.0), (0.0, 0.52)], 38),
    ],
)
async def test_export_of_real_clips_has_the_planned_frames(
    client: AsyncClient,
    real_media: Path,
    tmp_path: Path,
    name: str,
    segments: list[tuple[float, float]],
    frames: int,
) -> None:
    done = await export_file(client, real_media / name, segments, tmp_path / "out.mp4")
    assert done.output.frame_count == frames


async def test_same_request_id_creates_one_export(client: AsyncClient, clip: MakeClip) -> None:
    video_id = await client.upload(clip(Clip(rate=Fraction(25), frames=25)))
    first, second = await asyncio.gather(
        *(client.create_export(video_id, settings=SMALL, request_id="once") for _ in range(2))
    )
    assert first.id == second.id
    with pytest.raises(Refused) as refused:
        await client.create_export(video_id, [(0, 0.5)], settings=SMALL, request_id="once")
    assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_delete_removes_the_export_and_its_output_only(
    client: AsyncClient, clip: MakeClip, tmp_path: Path, leftovers: Leftovers
) -> None:
    source = clip(Clip(rate=Fraction(25), frames=25))
    done = await export_file(client, source, [], tmp_path / "out.mp4")
    assert len(leftovers.objects()) == 1
    await client.delete(done.id)
    async with asyncio.timeout(20):
        while leftovers.objects():
            await asyncio.sleep(0.1)
    assert len(leftovers.objects("videos")) == 1
    with pytest.raises(Refused) as refused:
        await client.get(done.id)
    assert refused.value.reason == "EXPORT_NOT_FOUND"


async def test_another_users_export_is_not_found(
    client: AsyncClient, clip: MakeClip, cluster_address: str
) -> None:
    video_id = await client.upload(clip(Clip(rate=Fraction(25), frames=25)))
    export = await client.create_export(video_id, settings=SMALL)
    async with AsyncClient(cluster_address, user="somebody-else") as other:
        with pytest.raises(Refused) as refused:
            await other.get(export.id)
        assert refused.value.reason == "EXPORT_NOT_FOUND"
        with pytest.raises(Refused) as refused:
            await other.create_export(video_id)
        assert refused.value.reason == "SOURCE_NOT_FOUND"
        assert video_id in str(refused.value)


async def test_segments_that_do_not_fit_an_unprobed_source_fail_the_export_with_all_violations(
    client: AsyncClient, clip: MakeClip
) -> None:
    video_id = await client.upload(clip(Clip(rate=Fraction(25), frames=50, gop=7)))
    export = await client.create_export(video_id, [(0, 1), (1.5, 9), (8, 9)], settings=SMALL)
    with pytest.raises(ExportFailed) as failed:
        await client.wait(export.id)
    error = failed.value.export.error
    assert error.code == "INVALID_SEGMENTS"
    assert not error.retryable
    fields = [violation.field for violation in error.violations]
    assert fields == ["segments[1].end_time", "segments[2].start_time", "segments[2].end_time"]
    # Now that it is probed, the same request is refused at the door.
    with pytest.raises(Refused) as refused:
        await client.create_export(video_id, [(0, 1), (1.5, 9), (8, 9)], settings=SMALL)
    assert [violation.field for violation in refused.value.violations] == fields
