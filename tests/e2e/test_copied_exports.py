"""Copied exports through the real cluster: bit for bit, with their sound, or encoded and told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.encoder.conftest import run_ffmpeg
from tests.media.frame_codes import Clip, audio_click_times, read_frame_numbers
from tests.media.smart_copying import samples_of
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
COPIED = pb.ExportSettings(quality=pb.QUALITY_SOURCE)
PLAIN = Clip(frames=300, gop=50, clicks=1.0)


async def finished(
    client: AsyncClient, source: Path, *segments: tuple[float, float], **settings: int
) -> pb.Export:
    video_id = await client.upload(source)
    asked = pb.ExportSettings(**settings)  # type: ignore[arg-type]
    asked.MergeFrom(COPIED)
    created = await client.create_export(video_id, segments, settings=asked)
    async with asyncio.timeout(120):
        return await client.wait(created.id)


async def test_groups_are_copied_and_the_rest_is_encoded(
    client: AsyncClient, clip: MakeClip, tmp_path: Path
) -> None:
    source = clip(PLAIN)
    done = await finished(client, source, (1.2, 7.2), (8.0, 12.0))
    assert not done.warnings
    assert done.plan.copied_frame_count == 200
    assert done.output.frame_count == 250
    output = await client.download(done, tmp_path / "out.mp4")
    assert read_frame_numbers(output) == [*range(30, 180), *range(200, 300)]
    ours, theirs = samples_of(output), samples_of(source)
    assert ours[20:120] == theirs[50:150]
    assert ours[150:250] == theirs[200:300]
    heard = audio_click_times(output)
    for time in (0.8, 1.8, 2.8, 3.8, 4.8, 5.8, 7.0, 8.0, 9.0):
        assert min(abs(time - click) for click in heard) <= 0.005


async def test_second_export_takes_over_what_was_copied(
    client: AsyncClient, clip: MakeClip
) -> None:
    source = clip(PLAIN)
    await finished(client, source, (2.0, 12.0))
    done = await finished(client, source, (2.0, 12.0), (0.0, 2.0))
    assert done.output.reused_frame_count == 0  # another upload is another source
    segments = [(2.0, 12.0), (1.0, 1.4)]
    created = await client.create_export(done.source, segments, settings=COPIED)
    async with asyncio.timeout(120):
        again = await client.wait(created.id)
    assert again.output.reused_frame_count == 250


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (replace(PLAIN, open_gop=True), "open GOPs"),
        (replace(PLAIN, durations=(1, 2)), "time between them varies"),
    ],
)
async def test_source_that_is_not_safe_is_encoded_and_told(
    client: AsyncClient, clip: MakeClip, tmp_path: Path, source: Clip, why: str
) -> None:
    done = await finished(client, clip(source), (1.2, 4.0))
    [warning] = done.warnings
    assert warning.code == "COPY_NOT_POSSIBLE"
    assert why in warning.message
    assert done.plan.quality == pb.QUALITY_HIGH
    output = await client.download(done, tmp_path / "out.mp4")
    assert len(read_frame_numbers(output)) == done.plan.frame_count == 70


async def test_source_that_proves_unsafe_when_it_is_read_is_encoded_and_told(
    client: AsyncClient, clip: MakeClip, tmp_path: Path
) -> None:
    script = tmp_path / "clips.ffconcat"
    other = replace(PLAIN, encoder=("-x264-params", "keyint=50:ref=1:bframes=2:cabac=0"))
    clips = [clip(PLAIN), clip(other), *[clip(PLAIN)] * 3]
    script.write_text("ffconcat version 1.0\n" + "".join(f"file {path}\n" for path in clips))
    source = tmp_path / "changes.mp4"
    await run_ffmpeg("-f", "concat", "-safe", "0", "-i", script, "-an", "-c", "copy", source)
    done = await finished(client, source, (9.2, 20.0))
    [warning] = done.warnings
    assert warning.code == "COPY_NOT_POSSIBLE"
    assert "parameters change" in warning.message
    assert (done.plan.quality, done.plan.copied_frame_count) == (pb.QUALITY_HIGH, 0)
    output = await client.download(done, tmp_path / "out.mp4")
    assert read_frame_numbers(output) == [*range(230, 300), *range(200)]
