"""Damaged sources: everything that can be decoded, with all frames of the plan, and told."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry

from services.common import ids
from services.common.subjects import Lane
from services.encoder.board import Run
from services.encoder.deadline import Deadline
from services.encoder.errors import DamagedSource, FramesMissing, InvalidSource, SourceUnavailable
from services.encoder.ffmpeg.process import find_ffmpeg
from services.encoder.inspection.output_facts import OutputFacts
from services.encoder.inspection.probe import probe
from services.encoder.metrics import EncoderMetrics
from services.encoder.settings import EncoderSettings
from services.encoder.sources.gateway import SourceGateway, SourceHandle
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns, Made, Order
from services.encoder.tasks.whole import order_of
from tests.integration.encoder.conftest import MakeClip
from tests.media.exporting import export, export_in_parts, plan_of
from tests.media.frame_codes import Clip, audio_click_times, read_audio
from tests.media.object_server import ObjectServer, status
from tests.media.read_back import read_back
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# A keyframe each second.
PLAIN = Clip(frames=100, clicks=0.2)
Places = list[tuple[int, int]]
Damage = Callable[[bytearray, int, int], None]


def zeros(content: bytearray, place: int, size: int) -> None:
    content[place : place + size] = bytes(size)


def noise(content: bytearray, place: int, size: int) -> None:
    content[place : place + size] = random.Random(place).randbytes(size)


def other_rate(content: bytearray, place: int, size: int) -> None:
    """Let a frame of MPEG audio say that it has 44.1 kHz, and not 48."""
    content[place + 2] ^= 0x04


def mono(content: bytearray, place: int, size: int) -> None:
    """Let a frame of MPEG audio say that it has one channel."""
    content[place + 3] |= 0xC0


def damaged(path: Path, kind: str, first: int, count: int, how: Damage = zeros) -> bytes:
    """Return a file in which so many packets of a kind are damaged."""
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as file:
        stream = file.streams.get({kind: 0})[0]
        packets = [(packet.pos, packet.size) for packet in file.demux(stream) if packet.size]
    for place, size in packets[first : first + count]:
        how(content, place, size)
    return bytes(content)


def told(warnings: tuple[pb.ExportWarning, ...]) -> Places:
    """Return the damaged places in frames of 25 a second; there must be one warning."""
    [warning] = warnings
    assert warning.code == "SOURCE_DAMAGED"
    return [
        (
            round((each.start_time.seconds + each.start_time.nanos / 1e9) * 25),
            round((each.end_time.seconds + each.end_time.nanos / 1e9) * 25),
        )
        for each in warning.time_ranges
    ]


def numbers(path: Path) -> list[int | None]:
    return [frame.number for frame in read_back(path).frames]


@pytest.mark.parametrize("how", [zeros, noise])
async def test_pictures_that_cannot_be_decoded_repeat_the_one_before(
    clip: MakeClip, tmp_path: Path, how: Damage
) -> None:
    source = tmp_path / "source.mp4"
    source.write_bytes(damaged(clip(PLAIN), "video", 33, 10, how))
    made = await export(source, [(0, 90), (10, 20)], tmp_path)
    assert made.facts.frame_count == 100
    [(first, after)] = told(made.warnings)
    assert 28 <= first <= 33
    assert after == 50, "the next keyframe mends it"
    shown = numbers(made.path)
    assert shown[:first] == list(range(first))
    assert shown[50:] == [*range(50, 90), *range(10, 20)]


async def test_damage_is_told_only_where_it_is_wanted(clip: MakeClip, tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    source.write_bytes(damaged(clip(PLAIN), "video", 33, 3))
    # What is wanted begins after it, but is decoded from before it.
    made = await export(source, [(50, 60), (5, 15)], tmp_path)
    assert made.warnings == ()
    assert numbers(made.path) == [*range(50, 60), *range(5, 15)]


@pytest.mark.parametrize("count", [1, 10])
async def test_sound_that_cannot_be_decoded_is_silent_and_the_rest_in_its_place(
    clip: MakeClip, tmp_path: Path, count: int
) -> None:
    source = tmp_path / "source.mp4"
    # Of 21 ms each, from 1.07 s on.
    source.write_bytes(damaged(clip(PLAIN), "audio", 51, count, noise))
    made = await export(source, None, tmp_path)
    assert numbers(made.path) == list(range(100))
    [(first, after)] = told(made.warnings)
    assert first in (25, 26, 27)
    assert abs(after - (26.7 + 0.533 * count)) < 1.5
    clicks = audio_click_times(made.path)
    for time in (0.2, 0.4, 0.6, 0.8, 1.0, 1.6, 2.0, 3.0, 3.8):
        assert min(abs(time - click) for click in clicks) < 0.005
    if count > 1:
        hole = read_audio(made.path)[int(1.12 * 48_000) : int(1.24 * 48_000)]
        assert abs(hole).max() < 1e-3


@pytest.mark.parametrize("codec", ["libmp3lame", "mp2"])
@pytest.mark.parametrize("how", [other_rate, mono])
async def test_sound_whose_head_is_wrong_for_a_moment_does_not_change_it(
    clip: MakeClip, tmp_path: Path, codec: str, how: Damage
) -> None:
    source = tmp_path / "source.mp4"
    # Of 24 ms each, from 1.2 s on.
    source.write_bytes(damaged(clip(replace(PLAIN, audio_codec=codec)), "audio", 50, 1, how))
    made = await export(source, None, tmp_path)
    assert numbers(made.path) == list(range(100))
    [(first, after)] = told(made.warnings)
    assert 28 <= first <= 31
    assert after <= 33
    clicks = audio_click_times(made.path)
    for time in (0.2, 0.4, 0.6, 0.8, 1.0, 1.6, 2.0, 3.0, 3.8):
        assert min(abs(time - click) for click in clicks) < 0.005


@pytest.mark.parametrize("lost", [1, 30])
async def test_packets_that_are_lost_in_a_broadcast_shift_nothing(
    clip: MakeClip, tmp_path: Path, lost: int
) -> None:
    content = clip(replace(PLAIN, container="ts")).read_bytes()
    # From the second packet of a picture on.
    picture = content.index(b"\x47\x41\x00", len(content) // 2 // 188 * 188)
    middle = content.index(b"\x47\x01\x00", picture)
    source = tmp_path / "source.ts"
    source.write_bytes(content[:middle] + content[middle + lost * 188 :])
    made = await export(source, None, tmp_path)
    wrong = {place for place, number in enumerate(numbers(made.path)) if number != place} - {
        frame for first, after in told(made.warnings) for frame in range(first, after)
    }
    assert wrong == set()
    clicks = [time for time in audio_click_times(made.path) if time > 2.5]
    assert len(clicks) == 7
    assert all(abs(click * 5 - round(click * 5)) < 0.025 for click in clicks)


async def test_pictures_that_the_container_gives_to_no_stream_are_missed(
    clip: MakeClip, tmp_path: Path
) -> None:
    """FFmpeg says so and ends well, for decoders are not asked."""
    path = clip(replace(PLAIN, container="mkv"))
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as file:
        blocks = [packet.pos for packet in file.demux(video=0) if packet.size][33:35]
    for place in blocks:
        # A block begins with its track: the first one.
        assert content[place] == 0x81
        content[place] = 0x85
    source = tmp_path / "source.mkv"
    source.write_bytes(content)
    made = await export(source, None, tmp_path)
    places = {frame for first, after in told(made.warnings) for frame in range(first, after)}
    wrong = {place for place, number in enumerate(numbers(made.path)) if number != place}
    assert wrong
    assert wrong <= places <= set(range(25, 50))


async def test_recordings_that_were_joined_are_not_damaged(clip: MakeClip, tmp_path: Path) -> None:
    """The last packet of the first looks torn, for the next one's counter does not follow."""
    first = clip(replace(PLAIN, container="ts"))
    second = clip(replace(PLAIN, container="ts", first_frame_time=4.0))
    source = tmp_path / "source.ts"
    source.write_bytes(first.read_bytes() + second.read_bytes())
    made = await export(source, [(90, 110)], tmp_path)
    assert made.warnings == ()
    assert numbers(made.path) == [*range(90, 100), *range(10)]


async def test_damage_is_told_where_it_shows_although_the_clock_has_jumped(
    clip: MakeClip, tmp_path: Path
) -> None:
    whole = clip(replace(PLAIN, container="ts")).read_bytes()
    later = clip(replace(PLAIN, container="ts", first_frame_time=5000.0)).read_bytes()
    # Of its pictures 25 to 49, from the second packet of one on.
    picture = later.index(b"\x47\x41\x00", len(later) // 3 // 188 * 188)
    middle = later.index(b"\x47\x01\x00", picture)
    source = tmp_path / "source.ts"
    source.write_bytes(whole + later[:middle] + later[middle + 188 :])
    made = await export(source, [(90, 200), (0, 20)], tmp_path)
    shown = [*range(90, 100), *range(100), *range(20)]
    places = told(made.warnings)
    # In frames of the source, whichever are asked for.
    assert all(125 <= first < after <= 150 for first, after in places)
    torn = {frame - 90 for first, after in places for frame in range(first, after)}
    wrong = {place for place, number in enumerate(numbers(made.path)) if number != shown[place]}
    assert wrong
    assert wrong <= torn


async def test_parts_tell_each_of_their_own_damage(clip: MakeClip, tmp_path: Path) -> None:
    content = damaged(clip(PLAIN), "video", 33, 3)
    source = tmp_path / "source.mp4"
    source.write_bytes(content)
    made = await export_in_parts(source, [(0, 100)], tmp_path, chunk_seconds=1)
    assert len(made.chunks) == 4
    [(first, after)] = told(made.warnings)
    assert 28 <= first <= 33
    assert after == 50
    shown = numbers(made.path)
    assert shown[:first] == list(range(first))
    assert shown[50:] == list(range(50, 100))


async def test_chunk_without_a_picture_of_its_own_repeats_the_last_one(
    clip: MakeClip, tmp_path: Path
) -> None:
    source = tmp_path / "source.mp4"
    source.write_bytes(damaged(clip(PLAIN), "video", 50, 50))
    made = await export_in_parts(source, [(0, 100)], tmp_path, chunk_seconds=1)
    assert made.facts.frame_count == 100
    shown = numbers(made.path)
    assert shown[:48] == list(range(48))
    assert set(shown[52:]) == {49}
    assert told(made.warnings)[-1][1] == 100


async def test_source_of_which_nothing_can_be_shown_is_refused(
    clip: MakeClip, tmp_path: Path
) -> None:
    source = tmp_path / "source.mp4"
    content = bytearray(damaged(clip(PLAIN), "video", 1, 99))
    source.write_bytes(content)
    # The probe has seen the first picture; the second second has none, and neither what is before.
    made = await export(source, [(30, 60)], tmp_path)
    assert set(numbers(made.path)) == {0}
    async with ObjectServer.serving(bytes(content)) as server, SourceGateway() as gateway:
        async with gateway.expose(server.source()) as handle:
            info = await probe(handle.url, size_bytes=len(content), etag=server.etag)
        server.content = bytes(damaged(source, "video", 0, 100, noise))
        async with gateway.expose(server.source()) as handle:
            work = whole(info, (30, 60))
            with pytest.raises(InvalidSource, match="none of the pictures"):
                await fill(tmp_path, order_of(work, work.family, deadline()), handle)


def whole(info: pb.SourceInfo, *ranges: tuple[int, int]) -> task_pb2.WholeTask:
    return task_pb2.WholeTask(
        info=info,
        plan=plan_of(info, ranges),
        family=pb.ENCODER_FAMILY_CPU,
        tolerate_damage=True,
    )


def deadline() -> Deadline:
    return Deadline.after(Duration(seconds=60))


async def fill(folder: Path, order: Order, handle: SourceHandle) -> Made:
    settings = EncoderSettings(
        nats_url="nats://unused", storage_address="unused", scratch_dir=folder
    )
    runs = FfmpegRuns(settings, find_ffmpeg(), EncoderMetrics(CollectorRegistry()))
    run = Run(ids.run_id(), 1, Lane.CPU, pb.RunningTask(frame_count=1))
    return await runs.fill(run, order, handle, folder)


async def test_damage_is_not_passed_over_unless_that_is_allowed(
    clip: MakeClip, tmp_path: Path
) -> None:
    content = damaged(clip(PLAIN), "video", 33, 3)
    async with (
        ObjectServer.serving(content) as server,
        SourceGateway() as gateway,
        gateway.expose(server.source()) as handle,
    ):
        info = await probe(handle.url, size_bytes=len(content), etag=server.etag)
        work = whole(info, (20, 60))
        work.tolerate_damage = False
        with pytest.raises(DamagedSource, match="some of its pictures cannot be decoded"):
            await fill(tmp_path, order_of(work, work.family, deadline()), handle)


async def test_storage_that_fails_is_no_damage(clip: MakeClip, tmp_path: Path) -> None:
    padded = ("-b:v", "20M", "-maxrate", "20M", "-bufsize", "2M", "-x264-params", "nal-hrd=cbr")
    content = clip(replace(PLAIN, encoder=("-c:v", "libx264", *padded))).read_bytes()
    async with ObjectServer.serving(content) as server, SourceGateway(give_up_after=1) as gateway:
        async with gateway.expose(server.source()) as handle:
            info = await probe(handle.url, size_bytes=len(content), etag=server.etag)
        async with gateway.expose(server.source()) as handle:
            work = whole(info, (0, 100))
            server.faults = [lambda *_: None, *[status(500)] * 100]
            with pytest.raises(SourceUnavailable):
                await fill(tmp_path, order_of(work, work.family, deadline()), handle)


async def test_frames_that_are_missing_of_a_whole_source_are_never_filled(
    clip: MakeClip, tmp_path: Path
) -> None:
    content = clip(PLAIN).read_bytes()

    def lacking(_: OutputFacts) -> None:
        raise FramesMissing("the output has 19 frames instead of 20")

    async with (
        ObjectServer.serving(content) as server,
        SourceGateway() as gateway,
        gateway.expose(server.source()) as handle,
    ):
        info = await probe(handle.url, size_bytes=len(content), etag=server.etag)
        work = whole(info, (20, 40))
        order = replace(order_of(work, work.family, deadline()), check=lacking)
        with pytest.raises(FramesMissing):
            await fill(tmp_path, order, handle)
