"""Exports with pictures that are copied: exact at every join, and the source's own bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from services.api.chunks import Piece
from services.common.frames import FrameRange
from services.common.smart_copy import plan_with_copies
from services.encoder.errors import NotCopyable, OutputMismatch
from services.encoder.formats.avc import Configuration
from services.encoder.tasks.copying import check_joins, checks_of, copy_part
from tests.integration.encoder.conftest import MakeClip, run_ffmpeg
from tests.media.exporting import Range, expected_clicks, expected_numbers
from tests.media.frame_codes import Clip, audio_click_times, read_frame_numbers
from tests.media.smart_copying import (
    Copied,
    chunk_of,
    counts_of,
    export_copied,
    joined,
    probed,
    samples_of,
    segments_of,
    serving,
)
from tests.media.watermarks import LIMIT
from videoexport.v1 import export_pb2 as pb

NTSC = Fraction(30000, 1001)
# Of groups of 2 s, so that the probe names each.
PLAIN = Clip(frames=300, gop=50)
# Neither end on a keyframe; one end; both; a jump back; within a group; a single picture; the end.
RANGES: list[Range] = [(30, 180), (50, 130), (100, 200), (10, 110), (60, 80), (7, 8), (240, 300)]
SOURCES = {
    "B-frames": PLAIN,
    "pyramids of B-frames": replace(
        PLAIN,
        encoder=(
            *("-c:v", "libx264", "-crf", "16", "-x264-params"),
            "keyint=50:min-keyint=50:scenecut=0:bframes=7:b-adapt=0:b-pyramid=normal:ref=5",
        ),
    ),
    "no B-frames": replace(PLAIN, b_frames=0),
    "one B-frame": replace(PLAIN, b_frames=1),
    "29.97 fps": replace(PLAIN, rate=NTSC, gop=60),
    "sound that is late": replace(PLAIN, audio_delay=0.4),
    "MOV": replace(PLAIN, container="mov"),
    "every picture a keyframe": replace(PLAIN, gop=1, b_frames=0),
    "main profile": replace(PLAIN, encoder=("-profile:v", "main")),
    "baseline profile": replace(PLAIN, b_frames=0, encoder=("-profile:v", "baseline")),
    "full range": replace(PLAIN, pixel_format="yuvj420p"),
    "several slices and delimiters": replace(
        PLAIN,
        encoder=("-slices", "4", "-aud", "1"),
    ),
    "of 60 fps": replace(PLAIN, rate=Fraction(60), gop=120),
}


def assert_exact(source: Clip, path: Path, ranges: list[Range], made: Copied) -> None:
    """Every frame is the right one, and what was copied is bit for bit the source's."""
    assert read_frame_numbers(made.path) == expected_numbers(source, ranges)
    theirs, ours = samples_of(path), samples_of(made.path)
    place = 0
    for piece in made.pieces:
        end = place + piece.frames.frame_count
        if piece.copied:
            # Groups are closed, so frames are decoded in the places in which they are shown.
            assert ours[place:end] == theirs[piece.frames.start : piece.frames.end]
        place = end


@pytest.mark.parametrize("name", SOURCES)
async def test_every_frame_is_the_right_one_and_what_is_copied_is_the_sources(
    clip: MakeClip, tmp_path: Path, name: str
) -> None:
    source = SOURCES[name]
    path = clip(source)
    made = await export_copied(path, segments_of(await probed(path), RANGES), tmp_path)
    assert_exact(source, path, RANGES, made)
    copied = sum(piece.frames.frame_count for piece in made.pieces if piece.copied)
    assert copied == made.plan.copied_frame_count > 0
    heard = audio_click_times(made.path)
    for time in expected_clicks(source, RANGES):
        assert min(abs(time - click) for click in heard) <= 0.005


async def test_exactly_whole_groups_are_all_copied(clip: MakeClip, tmp_path: Path) -> None:
    path = clip(PLAIN)
    ranges = [(50, 150), (0, 50), (250, 300)]
    made = await export_copied(path, segments_of(await probed(path), ranges), tmp_path)
    assert all(piece.copied for piece in made.pieces)
    assert_exact(PLAIN, path, ranges, made)
    assert made.plan.copied_frame_count == 200


async def test_a_dozen_segments_stay_on_the_grid(clip: MakeClip, tmp_path: Path) -> None:
    source = replace(PLAIN, rate=NTSC, gop=60)
    ranges = [(17 * n % 150, 17 * n % 150 + 130) for n in range(12)]
    path = clip(source)
    made = await export_copied(path, segments_of(await probed(path), ranges), tmp_path)
    assert_exact(source, path, ranges, made)


async def test_the_files_parameters_are_in_front_alone(clip: MakeClip, tmp_path: Path) -> None:
    path = clip(PLAIN)
    made = await export_copied(path, segments_of(await probed(path), [(30, 180)]), tmp_path)
    with_both = await probed(made.path)
    # The source's, and those of what was encoded, each under its own id.
    found = Configuration.parse(with_both.video.avc_configuration)
    assert found.ids() == {0, 1}
    assert Configuration.parse(made.info.video.avc_configuration).ids() == {0}


async def test_what_was_joined_can_be_copied_again(clip: MakeClip, tmp_path: Path) -> None:
    path = clip(PLAIN)
    folders = [tmp_path / "once", tmp_path / "again"]
    for folder in folders:
        folder.mkdir()
    once = await export_copied(path, segments_of(await probed(path), [(30, 280)]), folders[0])
    segments = segments_of(await probed(once.path), [(5, 240)])
    again = await export_copied(once.path, segments, folders[1])
    assert read_frame_numbers(again.path) == list(range(35, 270))
    assert Configuration.parse((await probed(again.path)).video.avc_configuration).ids() == {
        0,
        1,
        2,
    }


@pytest.mark.parametrize(
    ("name", "source", "obstacle"),
    [
        ("open groups", replace(PLAIN, open_gop=True), "open GOPs"),
        # A picture before each that shows and is decoded before it: what follows may need more.
        (
            "groups that begin with no IDR",
            replace(PLAIN, rate=Fraction(24), gop=49, open_gop=True),
            "open GOPs",
        ),
        ("times that vary", replace(PLAIN, durations=(1, 1, 2)), "time between them varies"),
        ("mkv", replace(PLAIN, container="mkv"), "neither MP4 nor MOV"),
        ("ten bits", replace(PLAIN, pixel_format="yuv420p10le"), "profile of H.264"),
        ("oblong pixels", replace(PLAIN, sar=Fraction(4, 3)), "not square"),
        ("turned pictures", replace(PLAIN, rotation=90), "turned upright"),
        ("interlaced", replace(PLAIN, encoder=("-flags", "+ilme+ildct")), "interlaced"),
        (
            "HEVC",
            replace(PLAIN, encoder=("-c:v", "libx265", "-x265-params", "log-level=none")),
            "hevc, not in H.264",
        ),
        (
            "colours of BT.2020",
            replace(PLAIN, encoder=("-color_primaries", "bt2020", "-colorspace", "bt2020nc")),
            "colours are converted",
        ),
        (
            "fragments",
            replace(PLAIN, muxer=("-movflags", "+frag_keyframe+empty_moov")),
            "index does not tell of each",
        ),
    ],
)
async def test_probe_says_why_pictures_cannot_be_copied(
    clip: MakeClip, name: str, source: Clip, obstacle: str
) -> None:
    video = (await probed(clip(source))).video
    assert obstacle in video.copy_obstacle, name
    assert not video.avc_configuration
    assert not video.reordered_frames


async def test_mirrored_pictures_cannot_be_copied(clip: MakeClip, tmp_path: Path) -> None:
    mirrored = tmp_path / "mirrored.mp4"
    await run_ffmpeg("-display_vflip", "-i", clip(PLAIN), "-c", "copy", mirrored)
    info = await probed(mirrored)
    assert "turned upright" in info.video.copy_obstacle
    assert info.video.rotation == 0


async def joined_of(clips: list[Path], folder: Path, *options: str) -> Path:
    """Files one after the other, as FFmpeg copies them."""
    script = folder / "clips.ffconcat"
    script.write_text("ffconcat version 1.0\n" + "".join(f"file {path}\n" for path in clips))
    output = folder / "joined.mp4"
    arguments = ["-f", "concat", "-safe", "0", "-i", script, "-c", "copy", *options, output]
    await run_ffmpeg(*arguments)
    return output


async def test_parameters_that_change_on_the_way_are_found_by_the_probe(
    clip: MakeClip, tmp_path: Path
) -> None:
    other = replace(PLAIN, encoder=("-x264-params", "keyint=50:ref=1:bframes=2:cabac=0"))
    path = await joined_of([clip(PLAIN), clip(other)], tmp_path)
    assert "parameters change" in (await probed(path)).video.copy_obstacle


async def test_parameters_that_change_where_no_probe_looks_are_found_by_the_copy(
    clip: MakeClip, tmp_path: Path
) -> None:
    # The first, the middle and the last keyframe are of the same kind.
    other = replace(PLAIN, encoder=("-x264-params", "keyint=50:ref=1:bframes=2:cabac=0"))
    path = await joined_of([clip(PLAIN), clip(other), *[clip(PLAIN)] * 3], tmp_path)
    info = await probed(path)
    assert not info.video.copy_obstacle
    with pytest.raises(NotCopyable, match="parameters change"):
        await export_copied(path, segments_of(info, [(220, 480)]), tmp_path)


async def test_groups_that_are_open_where_no_probe_looks_are_found_by_the_copy(
    clip: MakeClip, tmp_path: Path
) -> None:
    opened = replace(PLAIN, open_gop=True)
    path = await joined_of([clip(PLAIN), clip(opened), *[clip(PLAIN)] * 3], tmp_path)
    info = await probed(path)
    assert not info.video.copy_obstacle
    with pytest.raises(NotCopyable, match="open GOPs"):
        await export_copied(path, segments_of(info, [(340, 480)]), tmp_path)


async def test_run_ends_where_everything_that_shows_in_it_is_decoded(
    clip: MakeClip, tmp_path: Path
) -> None:
    path = clip(PLAIN)
    async with serving(path) as (handle, info):
        plan, _ = plan_with_copies(info, [], pb.ExportSettings(quality=pb.QUALITY_SOURCE))
        for end in (97, 98):
            chunk = chunk_of(info, plan, Piece(FrameRange(50, end), copied=True))
            with pytest.raises(NotCopyable):
                await copy_part(handle.url, info.size_bytes, chunk, tmp_path, LIMIT)


async def test_part_whose_bytes_are_not_the_sources_is_found_when_it_is_joined(
    clip: MakeClip, tmp_path: Path
) -> None:
    path = clip(PLAIN)
    made = await export_copied(path, segments_of(await probed(path), [(30, 180)]), tmp_path)
    copied = next(part for part, piece in zip(made.parts, made.pieces, strict=True) if piece.copied)
    damaged = bytearray(copied.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    copied.write_bytes(damaged)
    again = tmp_path / "again"
    again.mkdir()
    output, told = await joined(made.parts, made.pieces, made.plan, again)
    checks = checks_of(counts_of(made.pieces), told.seals)
    with pytest.raises(OutputMismatch, match="not those of the source"):
        await check_joins(output, checks, made.plan.frame_rate, again, LIMIT)


async def test_joins_that_cannot_be_decoded_are_found(clip: MakeClip, tmp_path: Path) -> None:
    path = clip(PLAIN)
    made = await export_copied(path, segments_of(await probed(path), [(30, 180)]), tmp_path)
    # With the parameters of the first part alone, as FFmpeg would join them.
    alone = tmp_path / "alone"
    alone.mkdir()
    output, told = await joined(made.parts, made.pieces, made.plan, alone, head=made.parts[0])
    checks = checks_of(counts_of(made.pieces), told.seals)
    with pytest.raises(OutputMismatch, match="around a join"):
        await check_joins(output, checks, made.plan.frame_rate, alone, LIMIT)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda checks: checks[:-1], "not planned"),
        (lambda checks: [*checks, (1, None, True)], "are missing"),
        (lambda checks: [(20, None, True), (99, None, True), (31, None, True)], "with a keyframe"),
    ],
)
async def test_file_of_other_parts_than_planned_is_found(
    clip: MakeClip, tmp_path: Path, change: Any, words: str
) -> None:
    path = clip(PLAIN)
    made = await export_copied(path, segments_of(await probed(path), [(30, 180)]), tmp_path)
    checks = checks_of(counts_of(made.pieces), [None] * len(made.pieces))
    with pytest.raises(OutputMismatch, match=words):
        await check_joins(made.path, change(checks), made.plan.frame_rate, tmp_path, LIMIT)


def zeros(content: bytearray, place: int, size: int) -> None:
    content[place : place + size] = bytes(size)


def noise(content: bytearray, place: int, size: int) -> None:
    content[place : place + size] = random.Random(place).randbytes(size)


@pytest.mark.parametrize(("picture", "how"), [(100, noise), (100, zeros), (131, zeros)])
async def test_damage_in_a_group_that_is_copied_is_found(
    clip: MakeClip, tmp_path: Path, picture: int, how: Callable[[bytearray, int, int], None]
) -> None:
    path = clip(PLAIN)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as file:
        packets = [(packet.pos, packet.size) for packet in file.demux(video=0) if packet.size]
    place, size = packets[picture]
    # Its head and its lengths stay.
    how(content, place + size // 2, min(40, size // 3))
    source = tmp_path / "source.mp4"
    source.write_bytes(content)
    with pytest.raises(NotCopyable, match="damaged"):
        await export_copied(source, segments_of(await probed(source), [(30, 280)]), tmp_path)
