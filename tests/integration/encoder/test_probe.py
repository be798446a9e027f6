"""What a source is, and why it is none, found out in a child over real HTTP."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest
from google.protobuf.duration_pb2 import Duration

from services.encoder.errors import InvalidSource, SourceUnavailable
from services.encoder.inspection.probe import probe, start_fork_server
from services.encoder.sources.gateway import SourceGateway
from tests.integration.encoder.conftest import MakeClip, run_ffmpeg
from tests.integration.encoder.probing import probe_bytes
from tests.media.frame_codes import Clip
from tests.media.object_server import ObjectServer, status
from videoexport.v1 import export_pb2 as pb

NTSC = Fraction(30000, 1001)
FRAGMENTED = ("-movflags", "frag_keyframe+empty_moov+default_base_moof")
HEVC = ("-c:v", "libx265", "-preset", "fast", "-x265-params", "log-level=none")
KEY = "00112233445566778899aabbccddeeff"


def seconds(duration: Duration) -> float:
    return duration.ToTimedelta().total_seconds()


async def test_everything_about_a_source_is_said(clip: MakeClip) -> None:
    source = Clip(
        frames=200, rate=NTSC, sar=Fraction(4, 3), gop=60, rotation=90, width=72, height=128
    )
    content = clip(source).read_bytes()
    info = await probe_bytes(content)
    assert info.container == "mov,mp4,m4a,3gp,3g2,mj2"
    assert info.size_bytes == len(content)
    assert info.etag == ObjectServer(b"").etag
    assert seconds(info.duration) == pytest.approx(float(200 / NTSC), abs=1e-6)
    assert seconds(info.first_frame_time) == 0
    video = info.video
    assert (video.index, video.codec, video.width, video.height) == (0, "h264", 128, 72)
    assert video.rotation == 90
    assert video.sample_aspect_ratio == pb.Rational(numerator=4, denominator=3)
    assert video.frame_rate == pb.Rational(numerator=30000, denominator=1001)
    assert not video.variable_frame_rate
    assert video.frame_count == 200
    assert (video.pixel_format, video.bit_depth) == ("yuv420p", 8)
    assert video.color_space == video.color_primaries == video.color_transfer == ""
    assert seconds(video.max_keyframe_interval) == pytest.approx(float(60 / NTSC), abs=1e-3)
    assert video.bit_rate > 0
    audio = info.audio
    assert (audio.index, audio.codec, audio.sample_rate) == (1, "aac", 48_000)
    assert (audio.channels, audio.channel_layout) == (2, "stereo")
    assert seconds(audio.first_sample_time) == 0
    assert seconds(audio.duration) == pytest.approx(float(200 / NTSC), abs=0.03)
    assert audio.bit_rate > 0


@pytest.mark.parametrize(
    ("source", "rate", "varies", "frame_count", "first"),
    [
        (Clip(frames=100), Fraction(25), False, 100, 0.0),
        (Clip(frames=100, container="mkv"), Fraction(25), False, 100, 0.0),
        (Clip(frames=100, container="mkv", rate=NTSC), NTSC, False, 100, 0.0),
        (Clip(frames=100, container="mkv", first_frame_time=1.5), Fraction(25), False, 100, 1.5),
        (Clip(frames=100, container="ts"), Fraction(25), False, 100, 0.08),
        (Clip(frames=100, container="ts", rate=NTSC), NTSC, False, 100, 0.066733),
        (Clip(frames=1000, container="ts", b_frames=0), Fraction(25), False, 1000, 0.021333),
        (Clip(frames=100, container="flv"), Fraction(25), False, 100, 0.08),
        (Clip(frames=200, b_frames=0, muxer=FRAGMENTED), Fraction(25), False, 200, 0.021406),
        (Clip(frames=300, container="mkv", encoder=HEVC), Fraction(25), False, 300, 0.0),
        (Clip(frames=1, clicks=None), Fraction(25), False, 1, 0.0),
        (Clip(frames=100, rate=Fraction(25, 2)), Fraction(25, 2), False, 100, 0.0),
        (Clip(frames=101, durations=(1, 2, 1, 3)), None, True, None, 0.0),
        (Clip(frames=101, durations=(1, 2, 1, 3), container="mkv"), None, True, None, 0.0),
    ],
    ids=lambda value: (
        f"{value.container}-{value.frames}" if isinstance(value, Clip) else str(value)
    ),
)
async def test_frame_grid_is_exact(
    clip: MakeClip,
    source: Clip,
    rate: Fraction | None,
    varies: bool,
    frame_count: int | None,
    first: float,
) -> None:
    info = await probe_bytes(clip(source).read_bytes())
    found = Fraction(info.video.frame_rate.numerator, info.video.frame_rate.denominator)
    length = info.video.frame_count / found
    assert info.video.variable_frame_rate == varies
    assert seconds(info.first_frame_time) == pytest.approx(first, abs=1e-6)
    assert seconds(info.duration) == pytest.approx(float(length), abs=1e-6)
    if rate is not None:
        assert (found, info.video.frame_count) == (rate, frame_count)
    # Wherever the rate varies, the grid is as long as the clip to within a frame of it.
    assert float(length) == pytest.approx(source.seconds, abs=float(1 / found))


@pytest.mark.parametrize("gop", [60, 15], ids=["as-they-are", "one-in-two-seconds"])
@pytest.mark.parametrize(
    "source",
    [
        Clip(frames=200),
        Clip(frames=200, container="mkv"),
        Clip(frames=200, container="mkv", first_frame_time=1.5),
        Clip(frames=200, rate=NTSC, b_frames=0),
    ],
    ids=["mp4", "mkv", "mkv-late", "mp4-ntsc"],
)
async def test_keyframes_are_found_on_the_grid(clip: MakeClip, source: Clip, gop: int) -> None:
    info = await probe_bytes(clip(replace(source, gop=gop)).read_bytes())
    # Of those 15 apart, the first after two seconds.
    assert list(info.video.keyframes) == list(range(0, 200, 60))


async def test_everything_about_a_source_of_many_hours_arrives(
    clip: MakeClip, tmp_path: Path
) -> None:
    # Nothing but keyframes, two days of them.
    long = tmp_path / "long.mp4"
    stretched = ("-c", "copy", "-bsf:v", "setts=ts=N*2/TB")
    await run_ffmpeg(
        "-i", clip(Clip(frames=30_000, gop=1, b_frames=0, clicks=None)), *stretched, long
    )
    info = await probe_bytes(long.read_bytes())
    assert len(info.video.keyframes) == 30_000


@pytest.mark.parametrize(("container", "told"), [("mp4", False), ("mkv", True)])
async def test_keyframes_are_told_only_where_the_index_says_when_they_show(
    clip: MakeClip, container: str, *, told: bool
) -> None:
    params = "open-gop=1:bframes=8:b-adapt=0:keyint=25:min-keyint=25:scenecut=0"
    x264 = ("-c:v", "libx264", "-x264-params", params)
    path = clip(Clip(frames=200, encoder=x264, container=container))
    info = await probe_bytes(path.read_bytes())
    with av.open(str(path)) as file:
        times = [packet.pts for packet in file.demux(video=0) if packet.is_keyframe]
        tick = 25 * file.streams.video[0].time_base
    shown = {round((time - times[0]) * tick) for time in times}
    assert shown >= set(info.video.keyframes)
    assert bool(info.video.keyframes) == told


async def test_source_without_an_index_has_no_keyframes_to_tell(clip: MakeClip) -> None:
    info = await probe_bytes(clip(Clip(frames=200, container="ts")).read_bytes())
    assert list(info.video.keyframes) == []


async def test_stream_that_a_broadcast_begins_on_the_way_is_passed_over(clip: MakeClip) -> None:
    mute = clip(Clip(frames=50, container="ts", clicks=None)).read_bytes()
    later = clip(Clip(frames=50, container="ts", first_frame_time=2.08)).read_bytes()
    info = await probe_bytes(mute + later)
    assert not info.HasField("audio")
    assert info.video.frame_count == 100


async def test_cover_picture_is_not_the_video(clip: MakeClip, tmp_path: Path) -> None:
    cover, covered = tmp_path / "cover.png", tmp_path / "covered.mp4"
    await run_ffmpeg("-f", "lavfi", "-i", "color=red:size=640x640", "-frames:v", "1", cover)
    maps = ("-map", "1", "-map", "0", "-c", "copy", "-disposition:v:0", "attached_pic")
    await run_ffmpeg("-i", clip(Clip(frames=20)), "-i", cover, *maps, covered)
    info = await probe_bytes(covered.read_bytes())
    assert (info.video.width, info.video.height, info.video.frame_count) == (128, 72, 20)


def text(_: MakeClip) -> bytes:
    return b"this is no video\n" * 1000


def zeros(_: MakeClip) -> bytes:
    return bytes(100_000)


def png(_: MakeClip) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + bytes(1000)


def half(make: MakeClip) -> bytes:
    content = make(Clip(frames=100)).read_bytes()
    return content[: len(content) // 2]


def three_quarters_index_in_front(make: MakeClip) -> bytes:
    content = make(Clip(frames=100, muxer=("-movflags", "+faststart"))).read_bytes()
    return content[: len(content) * 3 // 4]


def three_quarters_of_matroska(make: MakeClip) -> bytes:
    content = make(Clip(frames=100, container="mkv")).read_bytes()
    return content[: len(content) * 3 // 4]


def last_byte_missing(make: MakeClip) -> bytes:
    return make(Clip(frames=100, muxer=("-movflags", "+faststart"))).read_bytes()[:-1]


def index_alone(make: MakeClip) -> bytes:
    content = make(Clip(frames=100, muxer=("-movflags", "+faststart"))).read_bytes()
    return content[: content.index(b"mdat") + 10]


def playlist(_: MakeClip) -> bytes:
    return b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n"


def concat_script(_: MakeClip) -> bytes:
    return b"ffconcat version 1.0\nfile /etc/passwd\n"


def dash_manifest(_: MakeClip) -> bytes:
    return b'<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>'


def session_description(_: MakeClip) -> bytes:
    return b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n"


def damaged_pictures(make: MakeClip) -> bytes:
    content = bytearray(make(Clip(frames=100, clicks=None)).read_bytes())
    start = content.index(b"mdat") + 4
    end = content.index(b"moov") - 4
    content[start:end] = bytes(end - start)
    return bytes(content)


def index_of_garbage(make: MakeClip) -> bytes:
    content = bytearray(make(Clip(frames=100)).read_bytes())
    start = content.index(b"moov") + 4
    content[start:] = os.urandom(len(content) - start)
    return bytes(content)


@pytest.mark.parametrize(
    ("make", "least", "most"),
    [
        (three_quarters_index_in_front, 60, 80),
        (three_quarters_of_matroska, 60, 80),
        (last_byte_missing, 97, 100),
    ],
)
async def test_of_a_source_that_is_cut_off_what_is_there_is_told(
    clip: MakeClip, make: Callable[[MakeClip], bytes], least: int, most: int
) -> None:
    content = make(clip)
    info = await probe_bytes(content)
    assert info.missing_bytes > 0
    assert least <= info.video.frame_count <= most
    whole = await probe_bytes(clip(Clip(frames=100)).read_bytes())
    assert whole.missing_bytes == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (text, "not a video in a supported format"),
        (zeros, "not a video in a supported format"),
        (png, "not a video in a supported format"),
        (half, "incomplete: its index is missing"),
        (index_alone, r"incomplete: its last \d+ bytes are missing"),
        (playlist, "a playlist that refers to other files"),
        (concat_script, "a playlist that refers to other files"),
        (dash_manifest, "a playlist that refers to other files"),
        (session_description, "a playlist that refers to other files"),
        (damaged_pictures, "no picture of the video can be decoded"),
        (index_of_garbage, "incomplete|damaged|no video|not a video"),
    ],
)
async def test_what_is_no_video_is_refused_with_a_reason(
    clip: MakeClip, make: Callable[[MakeClip], bytes], words: str
) -> None:
    with pytest.raises(InvalidSource, match=words) as refused:
        await probe_bytes(make(clip))
    assert "/" not in refused.value.message
    assert not refused.value.retryable


async def test_empty_file_is_refused() -> None:
    with pytest.raises(InvalidSource, match="empty"):
        await probe("http://127.0.0.1:9/nothing", size_bytes=0)


async def test_sound_without_pictures_is_refused(tmp_path: Path) -> None:
    sound = tmp_path / "sound.mp4"
    await run_ffmpeg("-f", "lavfi", "-i", "sine=duration=1", sound)
    with pytest.raises(InvalidSource, match="sound but no pictures"):
        await probe_bytes(sound.read_bytes())


async def test_sound_with_a_cover_picture_is_refused(tmp_path: Path) -> None:
    song = tmp_path / "song.mp4"
    await run_ffmpeg(
        *("-f", "lavfi", "-i", "sine=duration=1", "-f", "lavfi", "-i", "color=red:size=64x64"),
        *("-frames:v", "1", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
        *("-disposition:v:0", "attached_pic", song),
    )
    with pytest.raises(InvalidSource, match="sound but no pictures"):
        await probe_bytes(song.read_bytes())


async def test_encrypted_video_is_refused(clip: MakeClip, tmp_path: Path) -> None:
    locked = tmp_path / "locked.mp4"
    keys = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", KEY, "-encryption_kid", KEY)
    await run_ffmpeg("-i", clip(Clip(frames=50)), "-c", "copy", *keys, locked)
    with pytest.raises(InvalidSource, match="encrypted"):
        await probe_bytes(locked.read_bytes())


async def test_absurd_size_is_refused(tmp_path: Path) -> None:
    wide = tmp_path / "wide.mkv"
    picture = "color=red:size=8194x16:rate=25:duration=0.2"
    await run_ffmpeg("-f", "lavfi", "-i", picture, "-c:v", "ffv1", wide)
    with pytest.raises(InvalidSource, match="8194 × 16 pixels; at most 8192 × 8192"):
        await probe_bytes(wide.read_bytes())


async def test_playlist_fetches_nothing() -> None:
    async with ObjectServer.serving(b"") as bait:
        url = f"{bait.address}/bucket/object"
        for content in (
            f"#EXTM3U\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n",
            f"ffconcat version 1.0\nfile {url}\n",
            f"v=0\r\nc=IN IP4 127.0.0.1\r\na=control:{url}\r\n",
        ):
            with pytest.raises(InvalidSource):
                await probe_bytes(content.encode())
        assert bait.requests == []


async def test_external_reference_in_mov_fetches_nothing(clip: MakeClip) -> None:
    async with ObjectServer.serving(b"") as bait:
        content = clip(Clip(frames=20)).read_bytes()
        # A `url ` data reference that is not "in this file", but names the bait.
        old = struct.pack(">I4sI", 12, b"url ", 1)
        assert old in content
        location = f"{bait.address}/bucket/object".encode()
        new = struct.pack(">I4sI", 12, b"url ", 0)
        changed = content.replace(old, new) + location
        with suppress(InvalidSource):
            await probe_bytes(changed)
        assert bait.requests == []


async def test_storage_that_fails_is_not_an_invalid_source(clip: MakeClip) -> None:
    content = clip(Clip(frames=20)).read_bytes()
    async with ObjectServer.serving(content) as server, SourceGateway(give_up_after=0.3) as gateway:
        server.faults = [status(503)] * 20
        async with gateway.expose(server.source()) as handle:
            with pytest.raises(SourceUnavailable):
                await probe(handle.url, size_bytes=len(content))


async def test_probe_takes_little_time_and_reads_little(clip: MakeClip) -> None:
    content = clip(Clip(frames=1500, width=320, height=180, gop=50)).read_bytes()
    async with ObjectServer.serving(content) as server, SourceGateway() as gateway:
        await start_fork_server()
        async with gateway.expose(server.source()) as handle:
            began = time.monotonic()
            await probe(handle.url, size_bytes=len(content))
            # Loading PyAV anew would take a quarter of a second by itself.
            assert time.monotonic() - began < 0.25
            assert handle.bytes_read < 300_000
