"""What is not a video fails with a sentence that a person understands, and leaves nothing."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from tests.e2e.conftest import Leftovers
from tests.media.frame_codes import Clip, ffmpeg_exe
from videoexport.client import AsyncClient, ExportFailed
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
VALID = Clip(rate=Fraction(25), frames=100)
# Filler makes it larger than what is read ahead of the encoder.
PADDED = ("-b:v", "20M", "-maxrate", "20M", "-bufsize", "2M", "-x264-params", "nal-hrd=cbr")
LARGE = Clip(
    rate=Fraction(25),
    frames=600,
    width=320,
    height=180,
    encoder=("-c:v", "libx264", "-preset", "ultrafast", "-g", "25", *PADDED),
)
SLOW = pb.ExportSettings(resolution=pb.RESOLUTION_1080P, quality=pb.QUALITY_HIGH)


def text_file(path: Path, clip: MakeClip) -> None:
    path.write_text("this is no video\n" * 100)


def audio_file(path: Path, clip: MakeClip) -> None:
    source = ["-f", "lavfi", "-i", "sine=duration=2", "-f", "mp4"]
    subprocess.run([ffmpeg_exe(), "-v", "error", *source, str(path)], check=True)


def truncated_file(path: Path, clip: MakeClip) -> None:
    data = clip(VALID).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def truncated_with_index_in_front(path: Path, clip: MakeClip) -> None:
    data = clip(Clip(rate=Fraction(25), frames=100, muxer=("-movflags", "+faststart"))).read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])


def playlist(path: Path, clip: MakeClip) -> None:
    path.write_text("#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n")


def concat_script(path: Path, clip: MakeClip) -> None:
    path.write_text("ffconcat version 1.0\nfile /etc/passwd\n")


@pytest.mark.parametrize(
    "make",
    [
        text_file,
        audio_file,
        truncated_file,
        truncated_with_index_in_front,
        playlist,
        concat_script,
    ],
)
async def test_bad_source_fails_the_export_with_a_reason(
    client: AsyncClient,
    clip: MakeClip,
    tmp_path: Path,
    leftovers: Leftovers,
    make: Callable[[Path, MakeClip], None],
) -> None:
    make(tmp_path / "source.mp4", clip)
    video_id = await client.upload(tmp_path / "source.mp4")
    export = await client.create_export(video_id)
    async with asyncio.timeout(30):
        with pytest.raises(ExportFailed) as failed:
            await client.wait(export.id)
    error = failed.value.export.error
    assert failed.value.export.state == pb.EXPORT_STATE_FAILED
    assert error.code == "INVALID_SOURCE"
    assert not error.retryable
    assert error.message.endswith(".")
    assert "/" not in error.message, "no paths or URLs in what users read"
    assert leftovers.objects() == []
    assert leftovers.scratch_files() == []


async def test_empty_object_fails_the_export(client: AsyncClient, leftovers: Leftovers) -> None:
    leftovers.put("videoexport-imports", "empty.mp4", b"")
    export = await client.create_export("s3://videoexport-imports/empty.mp4")
    async with asyncio.timeout(30):
        with pytest.raises(ExportFailed) as failed:
            await client.wait(export.id)
    assert failed.value.export.error.code == "INVALID_SOURCE"


async def test_source_overwritten_after_probing_is_probed_anew(
    client: AsyncClient, clip: MakeClip, leftovers: Leftovers
) -> None:
    key = f"{client.user}.mp4"
    uri = f"s3://videoexport-imports/{key}"
    for frames in (100, 50):
        content = clip(Clip(rate=Fraction(25), frames=frames)).read_bytes()
        leftovers.put("videoexport-imports", key, content)
        plan = await client.plan(uri)
        assert plan is not None
        assert plan.frame_count == frames


@pytest.mark.usefixtures("idle")
async def test_source_overwritten_while_it_is_encoded_is_never_exported_half_and_half(
    client: AsyncClient, clip: MakeClip, leftovers: Leftovers
) -> None:
    key = f"{client.user}.mp4"
    content = clip(LARGE).read_bytes()
    assert len(content) > 40_000_000, "small enough to be read ahead as a whole"
    leftovers.put("videoexport-imports", key, content)
    export = await client.create_export(f"s3://videoexport-imports/{key}", settings=SLOW)
    async with asyncio.timeout(120):
        async for seen in client.watch(export.id):
            if seen.encode_status.frames_done > 0:
                break
        # As long, so that nothing but its version tells it from the other.
        leftovers.put("videoexport-imports", key, content[:-1] + b"!")
        with pytest.raises(ExportFailed) as failed:
            await client.wait(export.id)
    error = failed.value.export.error
    assert (error.code, error.retryable) == ("SOURCE_CHANGED", False)
    assert leftovers.objects() == leftovers.parts() == leftovers.scratch_files() == []
