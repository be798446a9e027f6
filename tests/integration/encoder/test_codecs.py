"""Every codec in every container: exact to frame and sample, equal bytes, parts that join."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import av
import pytest

from bench.ffmpeg import complaints
from services.common.codecs import CONTAINERS, NAMES
from services.encoder.formats.container_head import index_in_front
from tests.integration.encoder.conftest import MakeClip
from tests.media.exporting import (
    HEIGHT,
    WIDTH,
    Range,
    expected_clicks,
    expected_numbers,
    export,
    export_in_parts,
    plan_of,
)
from tests.media.frame_codes import Clip, audio_click_times, read_audio, read_frame_numbers
from videoexport.v1 import export_pb2 as pb

NTSC = Fraction(30000, 1001)
CLIP = Clip(frames=200, clicks=0.2)
RANGES = [(40, 60), (9, 20), (9, 20), (110, 175), (0, 5), (190, 200)]
IN_FILES = {
    pb.VIDEO_CODEC_H264: "h264",
    pb.VIDEO_CODEC_HEVC: "hevc",
    pb.VIDEO_CODEC_AV1: "libdav1d",
    pb.VIDEO_CODEC_VP9: "vp9",
}
PAIRS = [
    pytest.param(form, codec, id=f"{NAMES[codec]} in {container.name}")
    for form, container in CONTAINERS.items()
    for codec in container.codecs
]
# Each codec once: how it is packed changes none of its bytes.
CODECS = [
    pytest.param(form, codec, id=NAMES[codec])
    for form, codec in (
        (pb.FORMAT_MP4, pb.VIDEO_CODEC_H264),
        (pb.FORMAT_MP4, pb.VIDEO_CODEC_HEVC),
        (pb.FORMAT_MP4, pb.VIDEO_CODEC_AV1),
        (pb.FORMAT_WEBM, pb.VIDEO_CODEC_VP9),
    )
]
Form: TypeAlias = "pb.Format.ValueType"
Codec: TypeAlias = "pb.VideoCodec.ValueType"


def planned(
    form: Form, codec: Codec, ranges: list[Range] = RANGES, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> Callable[[pb.SourceInfo], pb.Plan]:
    def plan(info: pb.SourceInfo) -> pb.Plan:
        made = plan_of(info, ranges, size=size)
        made.format, made.video_codec = form, codec
        return made

    return plan


def assert_exact(path: Path, ranges: list[Range], clip: Clip = CLIP) -> None:
    assert read_frame_numbers(path) == expected_numbers(clip, ranges)
    heard, expected = audio_click_times(path), expected_clicks(clip, ranges)
    assert expected
    for time in expected:
        assert min(abs(time - click) for click in heard) <= 0.002, f"no click at {time:.3f} s"


@pytest.mark.parametrize(("form", "codec"), PAIRS)
async def test_output_is_exact_in_its_container(
    clip: MakeClip, tmp_path: Path, form: Form, codec: Codec
) -> None:
    made = await export(clip(CLIP), None, tmp_path, planned=planned(form, codec))
    container = CONTAINERS[form]
    assert made.path.suffix == f".{container.suffix}"
    assert index_in_front(made.path)
    assert_exact(made.path, RANGES)
    frames = sum(end - start for start, end in RANGES)
    assert read_audio(made.path).size == frames / 25 * 48_000
    with av.open(str(made.path)) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert video.codec_context.name == IN_FILES[codec]
        assert (video.codec_context.pix_fmt, video.average_rate) == ("yuv420p", 25)
        assert (video.start_time, audio.rate, audio.channels) == (0, 48_000, 2)
        assert audio.codec_context.name == ("opus" if form == pb.FORMAT_WEBM else "aac")
        if codec == pb.VIDEO_CODEC_HEVC:
            assert video.codec_context.codec_tag == "hvc1"
    assert b"Lavf6" not in made.path.read_bytes()
    assert b"x265 (build" not in made.path.read_bytes()


@pytest.mark.parametrize(("form", "codec"), CODECS)
async def test_parts_join_to_the_frame(
    clip: MakeClip, tmp_path: Path, form: Form, codec: Codec
) -> None:
    source = Clip(frames=300, rate=NTSC, clicks=0.2)
    # Some so short that nothing is decoded ahead of its turn in them.
    ranges = [(0, 100), (60, 61), (60, 90), (80, 82), (5, 8), (200, 300)]
    made = await export_in_parts(
        clip(source), (), tmp_path, chunk_seconds=1.0, planned=planned(form, codec, ranges)
    )
    assert len(made.chunks) > 5
    # Each begins with a picture that needs no other, and all go with one head.
    assert made.facts.keyframes_decoded >= len(made.chunks)
    heads = set()
    for part in made.parts[: len(made.chunks)]:
        with av.open(str(part)) as file:
            heads.add(file.streams.video[0].codec_context.extradata)
    assert len(heads) == 1
    assert_exact(made.path, ranges, source)
    assert made.facts.index_in_front
    assert not await complaints(made.path)


@pytest.mark.parametrize(("form", "codec"), CODECS)
@pytest.mark.parametrize("threads", [1, 3])
async def test_equal_tasks_make_equal_bytes(
    clip: MakeClip, tmp_path: Path, form: Form, codec: Codec, threads: int
) -> None:
    digests = set()
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        # Large enough for several tiles, rows and frames at a time.
        plan = planned(form, codec, [(40, 100), (10, 20)], size=(640, 360))
        made = await export(clip(CLIP), None, tmp_path / name, planned=plan, threads=threads)
        digests.add(hashlib.sha256(made.path.read_bytes()).hexdigest())
    assert len(digests) == 1
