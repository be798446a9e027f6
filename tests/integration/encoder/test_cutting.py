"""Every frame of an output is the right frame of the source, and sound is where it belongs."""

from __future__ import annotations

import hashlib
import random
from fractions import Fraction
from pathlib import Path

import av
import pytest

from services.encoder.commands.options import SEEK_MARGINS
from services.encoder.inspection.source import FORMATS
from tests.integration.encoder.conftest import MakeClip, run_ffmpeg
from tests.media.exporting import Range, expected_clicks, expected_numbers, export
from tests.media.frame_codes import Clip, audio_click_times, read_audio, read_frame_numbers
from videoexport.v1 import export_pb2 as pb

NTSC = Fraction(30000, 1001)
FRAMES = 200
# Beginnings on keyframes, just before and after them, at both ends of the clip;
# neighbours, a contact, an overlap, a repetition, steps back.
TRICKY = [
    (50, 60),
    (49, 52),
    (51, 53),
    (0, 3),
    (3, 5),
    (9, 10),
    (197, 200),
    (100, 120),
    (110, 115),
    (110, 115),
    (24, 26),
    (75, 76),
    (80, 90),
]
FRAGMENTED = ("-movflags", "frag_keyframe+empty_moov+default_base_moof")
MPEG2 = ("-c:v", "mpeg2video", "-q:v", "2", "-g", "25", "-bf", "2")
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "keyint=25:log-level=none")
HEVC_DEFAULTS = ("-c:v", "libx265", "-preset", "fast", "-crf", "20", "-x265-params")
HEVC_DEFAULTS += ("keyint=50:log-level=none",)
DEEP = ("-c:v", "libx264", "-crf", "18", "-x264-params")
DEEP += ("open-gop=1:bframes=8:b-adapt=0:keyint=25:min-keyint=25:scenecut=0",)
MPEG4 = ("-c:v", "mpeg4", "-q:v", "2", "-g", "25", "-bf", "2")
VP9 = ("-c:v", "libvpx-vp9", "-g", "25", "-deadline", "realtime", "-cpu-used", "8")

SOURCES = {
    "mp4": Clip(frames=FRAMES),
    "mp4 without B-frames": Clip(frames=FRAMES, b_frames=0),
    "mp4 of open GOPs": Clip(frames=FRAMES, open_gop=True),
    "mp4 of one long GOP": Clip(frames=FRAMES, gop=250),
    "mp4 in fragments": Clip(frames=FRAMES, muxer=FRAGMENTED),
    "mp4 in fragments without B-frames": Clip(frames=FRAMES, b_frames=0, muxer=FRAGMENTED),
    "mp4 of 29.97 fps": Clip(frames=FRAMES, rate=NTSC),
    "mp4 of 12.5 fps": Clip(frames=FRAMES, rate=Fraction(25, 2)),
    "mp4 of 59.94 fps": Clip(frames=FRAMES, rate=Fraction(60000, 1001), clicks=0.25),
    "mp4 of HEVC": Clip(frames=FRAMES, encoder=HEVC),
    "mp4 of HEVC as it comes": Clip(frames=FRAMES, encoder=HEVC_DEFAULTS),
    "mp4 of open GOPs of many B-frames": Clip(frames=FRAMES, encoder=DEEP),
    "mp4 of MPEG-4 part 2": Clip(frames=FRAMES, encoder=MPEG4),
    "mov of MPEG-2": Clip(frames=FRAMES, container="mov", encoder=MPEG2),
    "mp4 of 10 bits": Clip(frames=FRAMES, pixel_format="yuv420p10le"),
    "mp4 of 5.1 sound": Clip(frames=FRAMES, channels=6),
    "mp4 of late sound": Clip(frames=FRAMES, audio_delay=1.5),
    "mp4 without sound": Clip(frames=FRAMES, clicks=None),
    "mov": Clip(frames=FRAMES, container="mov"),
    "mkv": Clip(frames=FRAMES, container="mkv"),
    "mkv without B-frames": Clip(frames=FRAMES, container="mkv", b_frames=0),
    "mkv of open GOPs": Clip(frames=FRAMES, container="mkv", open_gop=True),
    "mkv of 29.97 fps": Clip(frames=FRAMES, container="mkv", rate=NTSC),
    "mkv of a late start": Clip(frames=FRAMES, container="mkv", first_frame_time=1.5),
    "mkv of a recording": Clip(frames=FRAMES, container="mkv", muxer=("-live", "1")),
    "webm": Clip(frames=FRAMES, container="webm", encoder=VP9, audio_codec="libopus"),
    "ts": Clip(frames=FRAMES, container="ts"),
    "ts of open GOPs": Clip(frames=FRAMES, container="ts", open_gop=True),
    "ts of 29.97 fps": Clip(frames=FRAMES, container="ts", rate=NTSC),
    "ts of MPEG-2": Clip(frames=FRAMES, container="ts", encoder=MPEG2, audio_codec="mp2"),
    "ts longer than the seek margin": Clip(frames=500, container="ts", first_frame_time=1.5),
    "flv": Clip(frames=FRAMES, container="flv"),
    "mp4 of varying rate": Clip(frames=121, durations=(1, 2, 1, 3)),
    "mkv of varying rate": Clip(frames=121, durations=(1, 2, 1, 3), container="mkv"),
    "mp4 of a slide show": Clip(frames=12, durations=(40, 7, 60)),
}


def random_ranges(clip: Clip, count: int, seed: int) -> list[Range]:
    chance = random.Random(seed)
    ranges = []
    for _ in range(count):
        start = chance.randrange(clip.grid_frames - 20)
        ranges.append((start, start + chance.randrange(1, 20)))
    return ranges


def assert_same_frames(path: Path, clip: Clip, ranges: list[Range]) -> None:
    assert read_frame_numbers(path) == expected_numbers(clip, ranges)


def assert_sound_aligned(path: Path, clip: Clip, ranges: list[Range], within: float) -> None:
    heard = audio_click_times(path)
    expected = expected_clicks(clip, ranges)
    assert expected, "the ranges hold no click"
    for time in expected:
        assert min(abs(time - click) for click in heard) <= within, f"no click at {time:.3f} s"


@pytest.mark.parametrize("name", SOURCES)
async def test_frames_are_exact_and_sound_is_aligned(
    clip: MakeClip, tmp_path: Path, name: str
) -> None:
    source = SOURCES[name]
    ranges = [*TRICKY, (0, 40), (60, 130)]
    made = await export(clip(source), ranges, tmp_path, rate=source.rate)
    assert_same_frames(made.path, source, ranges)
    assert (made.facts.audio_duration is None) == (source.clicks is None)
    if source.clicks is not None:
        assert_sound_aligned(made.path, source, ranges, within=0.002)


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts"])
async def test_fifty_segments_stay_aligned_within_5_ms(
    clip: MakeClip, tmp_path: Path, container: str
) -> None:
    source = Clip(frames=600, rate=NTSC, container=container, clicks=0.2, width=64, height=36)
    ranges = random_ranges(source, 50, seed=50)
    made = await export(clip(source), ranges, tmp_path)
    assert_same_frames(made.path, source, ranges)
    assert_sound_aligned(made.path, source, ranges, within=0.005)
    assert len(expected_clicks(source, ranges)) > 20


async def test_whole_source_keeps_every_frame(clip: MakeClip, tmp_path: Path) -> None:
    for name in ("mp4", "mkv", "ts", "mp4 in fragments", "flv"):
        source = SOURCES[name]
        (tmp_path / name).mkdir()
        made = await export(clip(source), None, tmp_path / name)
        assert_same_frames(made.path, source, [(0, FRAMES)])
        assert made.commands[0].arguments.count("-i") == 1


@pytest.mark.parametrize("name", ["mp4 of varying rate", "mkv of varying rate"])
async def test_whole_source_of_varying_rate_is_as_long_at_its_average(
    clip: MakeClip, tmp_path: Path, name: str
) -> None:
    made = await export(clip(SOURCES[name]), None, tmp_path)
    assert made.info.video.variable_frame_rate
    frame = 1 / (made.facts.frame_count / made.facts.duration)
    assert abs(made.facts.duration - Fraction(SOURCES[name].seconds)) <= frame
    numbers = read_frame_numbers(made.path)
    assert numbers == sorted(numbers)
    # The last picture may show for less than a frame of the average, and find no place.
    assert numbers[-1] >= SOURCES[name].numbers[-2]


@pytest.mark.parametrize("container", ["mp4", "mkv"])
async def test_long_pause_takes_no_more_memory(
    clip: MakeClip, tmp_path: Path, container: str
) -> None:
    # Steady for longer than the probe looks where the index has keyframes alone.
    steady = clip(Clip(frames=122, b_frames=0, clicks=None))
    paused = tmp_path / f"paused.{container}"
    pause = "setts=ts=TS+gte(N\\,120)*80/TB"
    await run_ffmpeg("-i", steady, "-c", "copy", "-bsf:v", pause, paused)
    made = await export(paused, [(0, 2121)], tmp_path, rate=Fraction(25), size=(640, 360))
    assert read_frame_numbers(made.path) == [*range(119), *[119] * 2001, 120]
    # As pictures of their own, the repeated frames would take 700 MB.
    assert made.results[0].peak_memory_bytes < 400_000_000


@pytest.mark.parametrize("share", [0.3, 0.41, 0.77, 0.99])
@pytest.mark.parametrize("name", ["ts", "ts of MPEG-2", "mkv of a recording", "flv"])
async def test_recording_that_breaks_off_is_exported_as_far_as_it_goes(
    clip: MakeClip, tmp_path: Path, name: str, share: float
) -> None:
    source = SOURCES[name]
    broken = tmp_path / f"broken.{source.container}"
    content = clip(source).read_bytes()
    broken.write_bytes(content[: int(len(content) * share)])
    made = await export(broken, None, tmp_path)
    numbers = read_frame_numbers(made.path)
    assert abs(len(numbers) - share * FRAMES) < 0.1 * FRAMES
    # The last few may lack the pictures that they were coded from.
    assert numbers[:-8] == list(range(len(numbers) - 8))


async def test_thousand_near_segments_are_few_inputs_and_exact(
    clip: MakeClip, tmp_path: Path
) -> None:
    source = Clip(frames=5000, width=64, height=36, clicks=0.5)
    ranges = [(5 * n, 5 * n + 2) for n in range(1000)]
    made = await export(clip(source), ranges, tmp_path, size=(64, 36))
    assert [command.arguments.count("-i") for command in made.commands] == [16]
    assert_same_frames(made.path, source, ranges)


async def test_more_jumps_than_inputs_are_made_in_parts_and_joined_exactly(
    clip: MakeClip, tmp_path: Path
) -> None:
    source = Clip(frames=400, rate=NTSC, width=64, height=36, clicks=0.2)
    ranges = [(n, n + 1 + n % 9) for n in range(380, 0, -4)]
    made = await export(clip(source), ranges, tmp_path, size=(64, 36))
    assert len(made.commands) > 2, "all inputs fitted into one run"
    assert_same_frames(made.path, source, ranges)
    assert_sound_aligned(made.path, source, ranges, within=0.002)


async def test_rate_of_the_output_may_differ_from_the_source(
    clip: MakeClip, tmp_path: Path
) -> None:
    source = Clip(frames=100, rate=Fraction(50))
    ranges = [(10, 20), (30, 40)]
    made = await export(clip(source), ranges, tmp_path, rate=Fraction(25))
    doubled = [(2 * start, 2 * end) for start, end in ranges]
    assert read_frame_numbers(made.path) == expected_numbers(source, doubled)[::2]


async def test_sound_that_ends_early_is_followed_by_silence(clip: MakeClip, tmp_path: Path) -> None:
    # The sound of this clip is as long as its pictures, which are shown at half speed.
    source = clip(Clip(frames=50, clicks=0.25))
    slow = clip(Clip(frames=100, clicks=None))
    mixed = tmp_path / "mixed.mp4"
    await run_ffmpeg("-i", slow, "-i", source, "-map", "0:v", "-map", "1:a", "-c", "copy", mixed)
    made = await export(mixed, [(60, 100), (20, 60)], tmp_path)
    assert made.facts.audio_duration == made.facts.duration
    heard = audio_click_times(made.path)
    assert all(time > 40 / 25 for time in heard), "sound in the silent segment"
    assert min(abs(time - (40 / 25 + 0.2)) for time in heard) < 0.002


@pytest.mark.parametrize("name", ["mp4 of HEVC as it comes", "mp4 of open GOPs of many B-frames"])
async def test_every_frame_can_be_the_first_where_pictures_are_coded_ahead_of_their_turn(
    clip: MakeClip, tmp_path: Path, name: str
) -> None:
    ranges = [(frame, frame + 1) for frame in range(190, 10, -3)]
    made = await export(clip(SOURCES[name]), ranges, tmp_path)
    assert_same_frames(made.path, SOURCES[name], ranges)


async def test_gop_longer_than_the_margin_is_read_from_further_ahead(
    clip: MakeClip, tmp_path: Path
) -> None:
    source = Clip(frames=900, container="ts", gop=400, width=64, height=36)
    ranges = [(780, 795), (390, 395)]
    made = await export(clip(source), ranges, tmp_path, size=(64, 36))
    assert_same_frames(made.path, source, ranges)


@pytest.mark.parametrize(
    ("container", "b_frames", "codec"),
    [
        ("mp4", 2, "aac"),
        ("mp4", 0, "aac"),
        ("mp4", 0, "libmp3lame"),
        ("mp4", 0, "libopus"),
        ("mkv", 0, "aac"),
        ("ts", 0, "aac"),
    ],
)
async def test_sound_is_whole_from_the_first_sample_of_a_segment(
    tmp_path: Path, container: str, b_frames: int, codec: str
) -> None:
    tone = tmp_path / f"tone.{container}"
    await run_ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=size=64x36:rate=25:duration=8"),
        *("-f", "lavfi", "-i", "sine=frequency=440:duration=8:sample_rate=48000"),
        *("-c:v", "libx264", "-bf", str(b_frames), "-g", "25", "-c:a", codec, tone),
    )
    # On a keyframe, where the least of the sound before it is read.
    made = await export(tone, [(100, 150)], tmp_path)
    samples = read_audio(made.path)
    loudness = [float((samples[at : at + 480] ** 2).mean()) for at in (0, 480, 960, 9600)]
    assert min(loudness) > 0.8 * loudness[-1]


async def test_equal_tasks_make_equal_bytes(clip: MakeClip, tmp_path: Path) -> None:
    digests = set()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        made = await export(clip(SOURCES["mp4"]), [(40, 60), (10, 20)], tmp_path / name)
        digests.add(hashlib.sha256(made.path.read_bytes()).hexdigest())
    assert len(digests) == 1


async def test_output_tells_nothing_of_the_source_but_its_picture(
    clip: MakeClip, tmp_path: Path
) -> None:
    named = tmp_path / "named.mp4"
    tags = ("-metadata", "title=secret title", "-metadata:s:v", "handler_name=secret handler")
    await run_ffmpeg("-i", clip(SOURCES["mp4"]), "-c", "copy", *tags, named)
    made = await export(named, [(0, 10)], tmp_path)
    content = made.path.read_bytes()
    assert b"secret" not in content
    assert b"Lavf6" not in content, "the version of the muxer"


@pytest.mark.parametrize("quality", [pb.QUALITY_HIGH, pb.QUALITY_MEDIUM, pb.QUALITY_LOW])
async def test_frames_are_readable_at_every_quality(
    clip: MakeClip, tmp_path: Path, quality: pb.Quality.ValueType
) -> None:
    made = await export(clip(SOURCES["mp4"]), [(0, 50)], tmp_path, quality=quality)
    assert_same_frames(made.path, SOURCES["mp4"], [(0, 50)])


def needed_bytes(source: Path, ranges: list[Range]) -> int:
    """The weight of the GOPs that hold the ranges, and of everything that is not media."""
    with av.open(str(source)) as file:
        video = file.streams.video[0]
        entries = [(entry.size, entry.is_keyframe) for entry in video.index_entries]
        media = sum(entry.size for stream in file.streams for entry in stream.index_entries)
    needed = source.stat().st_size - media
    for start, end in ranges:
        keyframe = max(place for place in range(start + 1) if entries[place][1])
        needed += sum(size for size, _ in entries[keyframe:end])
    return needed


async def test_little_is_read_beyond_what_is_needed(tmp_path: Path) -> None:
    # Noise, so that the file is as large as a real one would be.
    source = tmp_path / "noise.mp4"
    noise = "color=gray:size=160x90:rate=25:duration=60,noise=alls=50:allf=t"
    x264 = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "24", "-g", "50")
    await run_ffmpeg("-f", "lavfi", "-i", noise, *x264, source)
    ranges = [(110, 210), (510, 610), (1210, 1310)]
    made = await export(source, ranges, tmp_path, size=(64, 36))
    assert made.bytes_read == made.bytes_sent
    assert made.bytes_read < 1.5 * needed_bytes(source, ranges)


def test_margins_are_for_containers_that_the_probe_accepts() -> None:
    assert set(SEEK_MARGINS) <= set(FORMATS)
