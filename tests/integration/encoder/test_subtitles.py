"""Subtitles are read from sources of every kind, and drawn with the fonts that come along."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from services.common.frames import FrameRange
from services.encoder.commands import fonts
from services.encoder.commands.cues import Cue, Cues, burnt
from services.encoder.commands.filters import Timeline
from services.encoder.commands.fonts import font_folders, fonts_in
from services.encoder.errors import InvalidSubtitles
from services.encoder.inspection.probe import probe, read_cues
from services.encoder.sources.gateway import SourceGateway
from tests.integration.encoder.conftest import run_ffmpeg
from tests.media.exporting import export
from tests.media.frame_codes import ffmpeg_exe
from tests.media.object_server import ObjectServer
from tests.media.watermarks import LIMIT
from videoexport.v1 import export_pb2 as pb

Span = tuple[int, int]


def made(tmp_path: Path, text: str, codec: str, *, seconds: int = 4, kind: str = "srt") -> Path:
    """Return a grey clip with subtitles."""
    (tmp_path / f"text.{kind}").write_text(text)
    source = tmp_path / f"source.{'mp4' if codec == 'mov_text' else 'mkv'}"
    subprocess.run(
        [
            *(ffmpeg_exe(), "-nostdin", "-v", "error", "-y", "-f", "lavfi"),
            *("-i", f"color=gray:s=320x180:r=25:d={seconds}", "-i", str(tmp_path / f"text.{kind}")),
            *("-map", "0", "-map", "1", "-c:v", "libx264", "-g", "25", "-c:s", codec, str(source)),
        ],
        check=True,
    )
    return source


async def read(source: Path, spans: Sequence[Span]) -> tuple[pb.SourceInfo, Cues, int]:
    """Read the cues of spans in seconds; return how many bytes that took, too."""
    content = await asyncio.to_thread(source.read_bytes)
    async with (
        ObjectServer.serving(content) as server,
        SourceGateway() as gateway,
        gateway.expose(server.source()) as handle,
    ):
        info = await probe(handle.url, size_bytes=len(content), etag=server.etag)
        before = server.bytes_sent
        wanted = [(Fraction(start), Fraction(end)) for start, end in spans]
        cues = await read_cues(handle.url, info, 1, wanted, LIMIT)
        return info, cues, server.bytes_sent - before


def srt(*cues: tuple[float, float, str]) -> str:
    """Return a SubRip file."""

    def clock(seconds: float) -> str:
        whole = int(seconds)
        clocked = f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"
        return f"{clocked},{round(seconds % 1 * 1000):03}"

    return "\n".join(
        f"{number}\n{clock(start)} --> {clock(end)}\n{text}\n"
        for number, (start, end, text) in enumerate(cues, 1)
    )


@pytest.mark.parametrize("codec", ["mov_text", "srt", "ass", "webvtt"])
async def test_cues_of_spans_are_read_and_no_others(tmp_path: Path, codec: str) -> None:
    cues = [(second + 0.25, second + 0.75, f"Text {second}") for second in range(0, 120, 5)]
    source = made(tmp_path, srt(*cues), codec, seconds=120)
    info, found, _ = await read(source, [(50, 61), (10, 11), (56, 58)])
    [stream] = info.subtitle_streams
    assert stream.text
    assert sorted((float(cue.start), float(cue.end), cue.text) for cue in found.cues) == [
        (second + 0.25, second + 0.75, f"Text {second}") for second in (10, 50, 55, 60)
    ]


@pytest.mark.parametrize(("codec", "found"), [("mov_text", True), ("srt", False)])
async def test_cue_that_began_long_before_is_found_by_an_index(
    tmp_path: Path, codec: str, *, found: bool
) -> None:
    source = made(tmp_path, srt((1, 100, "Long")), codec, seconds=120)
    _, cues, _ = await read(source, [(90, 91)])
    assert bool(cues.cues) is found
    _, cues, _ = await read(source, [(20, 21)])
    assert [cue.text for cue in cues.cues] == ["Long"]


async def test_reading_ends_where_nothing_more_is_needed(tmp_path: Path) -> None:
    noise = tmp_path / "noise.mkv"
    (tmp_path / "text.srt").write_text(srt((1, 2, "First"), (199, 200, "Last")))
    await run_ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=200", "-i", tmp_path / "text.srt"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-b:v", "2M", "-c:s", "srt", noise),
    )
    _, cues, sent = await read(noise, [(0, 3)])
    assert [cue.text for cue in cues.cues] == ["First"]
    assert sent < (await asyncio.to_thread(noise.stat)).st_size / 4


async def test_mp4_is_read_by_the_index_of_its_text(tmp_path: Path) -> None:
    noise = tmp_path / "noise.mp4"
    (tmp_path / "text.srt").write_text(srt((1, 2, "First"), (199, 200, "Last")))
    await run_ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=200", "-i", tmp_path / "text.srt"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-b:v", "2M", "-c:s", "mov_text", noise),
    )
    _, cues, sent = await read(noise, [(0, 200)])
    assert [cue.text for cue in cues.cues] == ["First", "Last"]
    assert sent < (await asyncio.to_thread(noise.stat)).st_size / 4


async def test_text_of_a_thousand_spans_is_read(tmp_path: Path) -> None:
    source = made(tmp_path, srt(*((n, n + 0.5, f"T{n}") for n in range(60))), "srt", seconds=60)
    spans = [(n % 60, n % 60 + 1) for n in range(1000)]
    _, cues, _ = await read(source, spans)
    assert len(cues.cues) == 60


async def test_stream_that_is_none_of_text_is_refused(tmp_path: Path) -> None:
    source = made(tmp_path, srt((1, 2, "a")), "srt")
    content = await asyncio.to_thread(source.read_bytes)
    async with (
        ObjectServer.serving(content) as server,
        SourceGateway() as gateway,
        gateway.expose(server.source()) as handle,
    ):
        info = await probe(handle.url, size_bytes=len(content), etag=server.etag)
        with pytest.raises(InvalidSubtitles, match="no such subtitles"):
            await read_cues(handle.url, info, 0, [(Fraction(0), Fraction(1))], LIMIT)


ASS = r"""[Script Info]
ScriptType: v4.00+
PlayResX: 320
PlayResY: 180

[Fonts]
fontname: evil.ttf
!!!!

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Alignment, MarginL, MarginR, MarginV
Style: Top,Nowhere,40,&H000000FF,8,0,0,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Dialogue: 0,0:00:00.00,0:00:02.00,Top,,0,0,0,,RED
"""


def burn_in(info: pb.SourceInfo) -> pb.Plan:
    """Plan all of a clip with its subtitles burnt in."""
    frames = info.video.frame_count
    return pb.Plan(
        segments=[pb.PlannedSegment(start_frame=0, end_frame=frames)],
        frame_rate=info.video.frame_rate,
        frame_count=frames,
        width=320,
        height=180,
        subtitles=pb.PlannedSubtitles(stream=1, mode=pb.SUBTITLE_MODE_BURN_IN),
    )


def pictures(path: Path) -> list[np.ndarray]:  # type: ignore[type-arg]
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


async def test_ass_is_drawn_in_its_own_looks(tmp_path: Path) -> None:
    source = made(tmp_path, ASS, "copy", kind="ass")
    info, cues, _ = await read(source, [(0, 4)])
    assert info.subtitle_streams[0].codec == "ssa"
    assert "[Fonts]" not in cues.looks
    assert "Style: Top,Nowhere" in cues.looks
    folder = tmp_path / "made"
    folder.mkdir()
    frames = pictures((await export(source, None, folder, planned=burn_in)).path)
    red = [(frame[..., 0] > 150) & (frame[..., 1] < 90) for frame in frames]
    assert red[0][:60].sum() > 100, "at the top, in its colour"
    assert not red[0][60:].any()
    assert [bool(each.any()) for each in red] == [True] * 50 + [False] * 50


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("Grüße Привет γεια მადლობა", False),
        ("مرحبا שלום नमस्ते ধন্যবাদ நன்றி สวัสดี አመሰግናለሁ", False),
        ("映画 日本語 한국어 👍 ♪", False),
        ("\U0010fffd", True),
    ],
)
def test_letters_of_every_script_are_there(tmp_path: Path, text: str, *, missing: bool) -> None:
    cues = Cues((Cue(Fraction(0), Fraction(1), text),))
    scripts, environment = fonts_in(tmp_path)
    timeline = Timeline(Fraction(25), Fraction(0))
    drawn = burnt(cues, [FrameRange(0, 25)], timeline, 320, 180)
    for path, content in {tmp_path / "text.ass": drawn, **scripts}.items():
        path.write_text(content)
    done = subprocess.run(
        [
            *(ffmpeg_exe(), "-nostdin", "-v", "verbose", "-f", "lavfi"),
            *("-i", "color=gray:s=320x180:d=0.2", "-vf", f"ass={tmp_path / 'text.ass'}"),
            *("-f", "null", "-"),
        ],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    assert ("failed to find any fallback" in done.stderr) is missing
    used = set(re.findall(r"-> (/.*?),", done.stderr))
    folders = font_folders()
    assert used
    assert all(Path(font).parent in folders for font in used), "none of the machine's own"


async def test_same_text_gives_the_same_bytes(tmp_path: Path) -> None:
    source = made(tmp_path, srt((0, 2, "映画 and <b>bold</b>")), "srt")
    files = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        files.append((await export(source, None, folder, planned=burn_in)).path.read_bytes())
    assert files[0] == files[1]


async def test_encoder_without_fonts_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = made(tmp_path, srt((0, 2, "a")), "srt")
    monkeypatch.setattr(fonts, "WHEELS", ("no_such_wheel",))
    with pytest.raises(InvalidSubtitles, match="no fonts"):
        await export(source, None, tmp_path, planned=burn_in)
