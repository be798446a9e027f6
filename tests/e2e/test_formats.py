"""Codecs and formats through the real cluster: made, joined, stored, copied, removed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import av
import pytest
from conftest import Leftovers

from tests.e2e.small_exports import finished
from tests.media.frame_codes import Clip, audio_click_times, read_frame_numbers
from videoexport.client import AsyncClient, Refused
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
SHORT = Clip(frames=50, clicks=0.2)
# The cluster of the tests makes everything in parts that is longer than 30 s.
LONG = Clip(rate=Fraction(5), frames=200, gop=10, clicks=0.5)


async def test_encoders_say_which_codecs_they_have(client: AsyncClient) -> None:
    [encoder] = await client.encoders()
    cpu, gpu = encoder.capabilities
    assert [codec.encoder_name for codec in cpu.codecs] == [
        *("libx264", "libx265", "libsvtav1", "libvpx-vp9")
    ]
    assert all(codec.available for codec in cpu.codecs)
    assert [codec.ten_bit for codec in cpu.codecs] == [False, True, True, True]
    assert (gpu.available, bool(gpu.codecs)) in ((False, False), (True, True))


@pytest.mark.parametrize(
    ("form", "codec", "suffix", "content_type", "encoder"),
    [
        (pb.FORMAT_WEBM, pb.VIDEO_CODEC_AV1, "webm", "video/webm", "libsvtav1"),
        (pb.FORMAT_MOV, pb.VIDEO_CODEC_HEVC, "mov", "video/quicktime", "libx265"),
    ],
)
async def test_file_has_its_name_and_type_and_goes_with_its_export(
    client: AsyncClient,
    clip: MakeClip,
    leftovers: Leftovers,
    tmp_path: Path,
    form: pb.Format.ValueType,
    codec: pb.VideoCodec.ValueType,
    suffix: str,
    content_type: str,
    encoder: str,
) -> None:
    small = {"format": form, "video_codec": codec, "encoder": pb.ENCODER_PREFERENCE_CPU}
    video_id = await client.upload(clip(SHORT))
    done = await finished(client, video_id, [(0.4, 1.2), (0, 0.4)], **small)
    assert done.output.encoder_name == encoder
    [key] = leftovers.objects()
    assert key.endswith(f".{suffix}")
    async with aiohttp.ClientSession() as http, http.get(done.output.download_url) as response:
        assert response.content_type == content_type
        assert response.content_disposition is not None
        assert response.content_disposition.filename == f"{done.id}.{suffix}"
    path = await client.download(done, tmp_path / f"out.{suffix}")
    assert read_frame_numbers(path) == [*range(10, 30), *range(10)]
    # The same again is taken over, as what it is.
    again = await finished(client, video_id, [(0.4, 1.2), (0, 0.4)], **small)
    assert (again.output.reused_share, again.output.sha256) == (1, done.output.sha256)
    assert urlsplit(again.output.download_url).path.endswith(f".{suffix}")
    await client.download(again, tmp_path / f"again.{suffix}")
    for export in (done, again):
        await client.delete(export.id)
    async with asyncio.timeout(20):
        while leftovers.objects():
            await asyncio.sleep(0.2)


async def test_long_webm_is_joined_of_parts_and_as_loud_as_asked_for(
    client: AsyncClient, clip: MakeClip, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(LONG))
    settings = {"format": pb.FORMAT_WEBM, "loudness_lufs": -30}
    done = await finished(client, video_id, [(0, 20), (22, 36)], **settings)
    assert done.plan.chunk_count > 3
    assert done.output.encoder_name == "libvpx-vp9"
    assert done.output.loudness.delivered_lufs == pytest.approx(-30, abs=0.3)
    await client.download(done, tmp_path / "out.webm")
    assert read_frame_numbers(tmp_path / "out.webm") == [*range(100), *range(110, 180)]
    heard = audio_click_times(tmp_path / "out.webm")
    expected = [n * 0.5 for n in range(1, 68) if n != 40]
    assert all(min(abs(time - click) for click in heard) < 0.005 for time in expected)
    # Other pictures go with the same sound.
    settings |= {"video_codec": pb.VIDEO_CODEC_AV1}
    other = await finished(client, video_id, [(0, 20), (22, 36)], **settings)
    assert other.output.loudness == done.output.loudness


async def test_sound_alone_is_exported_and_counted_without_pictures(
    client: AsyncClient, clip: MakeClip, leftovers: Leftovers, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(LONG))
    settings = pb.ExportSettings(format=pb.FORMAT_M4A, loudness_lufs=-30)
    created = await client.create_export(video_id, [(0, 20), (22, 36)], settings=settings)
    done = await client.wait(created.id)
    assert done.state == pb.EXPORT_STATE_COMPLETED
    output = done.output
    assert (output.frame_count, output.width, output.encoder_name) == (0, 0, "aac")
    assert output.duration.ToTimedelta().total_seconds() == 34
    assert output.loudness.delivered_lufs == pytest.approx(-30, abs=0.3)
    [key] = leftovers.objects()
    assert key.endswith(".m4a")
    path = await client.download(done, tmp_path / "out.m4a")
    with av.open(str(path)) as file:
        assert not file.streams.video
        assert "comment" not in file.metadata
    assert path.read_bytes()[4:12] == b"ftypM4A "
    heard = audio_click_times(path)
    expected = [n * 0.5 for n in range(1, 68) if n != 40]
    assert all(min(abs(time - click) for click in heard) < 0.005 for time in expected)


async def test_what_does_not_go_together_is_refused_with_the_reason(
    client: AsyncClient, clip: MakeClip
) -> None:
    video_id = await client.upload(clip(Clip(frames=25, clicks=None)))
    h264 = pb.VIDEO_CODEC_H264
    for settings, words in (
        (
            pb.ExportSettings(format=pb.FORMAT_WEBM, video_codec=h264),
            "is made with VP9 or AV1",
        ),
        (pb.ExportSettings(dynamic_range=pb.DYNAMIC_RANGE_KEEP), "8 bits"),
        (pb.ExportSettings(format=pb.FORMAT_M4A, quality=pb.QUALITY_LOW), "sound alone"),
    ):
        with pytest.raises(Refused, match=words):
            await client.create_export(video_id, settings=settings)
    # Known once the source is.
    await client.probe(video_id)
    failed = await client.create_export(video_id, settings=pb.ExportSettings(format=pb.FORMAT_M4A))
    ended = [export async for export in client.watch(failed.id)][-1]
    assert (ended.state, ended.error.code) == (pb.EXPORT_STATE_FAILED, "INVALID_REQUEST")
    assert "has no sound" in ended.error.message
