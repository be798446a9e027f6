"""Subtitles as cues: from a source's times to an output's, and as text for FFmpeg. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from services.common.frames import FrameRange
from services.encoder.commands.filters import Timeline
from services.encoder.errors import InvalidSubtitles

# How many seconds before a place the first cue may have begun that is shown there. A container
# that is not read by an index of its subtitles would have to be read from its beginning.
MARGIN = Fraction(30)
# Of an output: a segment may show many, and be shown a thousand times.
MOST_CUES = 20_000

# What libass is told where the source says no looks: heights in shares of the picture's.
_LETTERS, _BORDER, _MARGIN = Fraction(1, 18), Fraction(1, 240), Fraction(1, 24)
_PLAIN_FORMAT = (
    "Format: Name, Fontname, Fontsize, PrimaryColour, OutlineColour, BackColour, Bold, Italic, "
    "BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV"
)
_EVENT_FORMAT = "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text"


@dataclass(frozen=True, slots=True)
class Cue:
    """A text and when it is shown.

    Attributes:
        start, end: in seconds; of a source on its container's clock.
        text: as ASS writes it, on one line.
        layer: of several at once, the higher one is above.
        style: the looks that it is drawn in.
    """

    start: Fraction
    end: Fraction
    text: str
    layer: int = 0
    style: str = "Default"


@dataclass(frozen=True, slots=True)
class Cues:
    """Subtitles of a source, as far as they were read.

    Attributes:
        looks: what an ASS says before its cues, resolution and styles; empty for others.
    """

    cues: tuple[Cue, ...] = ()
    looks: str = ""


def milliseconds_to_read(spans: Iterable[tuple[Fraction, Fraction]]) -> list[list[int]]:
    """Return spans of seconds in milliseconds, ascending.

    Those are one that are nearer than what is read before each.
    """
    merged: list[list[int]] = []
    for start, end in sorted(spans):
        first, last = math.floor(start * 1000), math.ceil(end * 1000)
        if merged and first - merged[-1][1] < MARGIN * 1000:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    return merged


def shown(cues: Sequence[Cue], ranges: Iterable[FrameRange], timeline: Timeline) -> list[Cue]:
    """Return what an output shows of a source's cues, on the output's clock, in its order.

    Args:
        ranges: what the output shows, in its order.

    Raises:
        InvalidSubtitles: more than can be shown.
    """
    ordered = sorted(cues, key=lambda cue: (cue.start, cue.end))
    found: list[Cue] = []
    frame = 0
    for frames in ranges:
        first, last = timeline.time(frames.start), timeline.time(frames.end)
        shift = frame / timeline.rate - first
        for cue in ordered:
            if cue.start >= last:
                break
            start, end = max(cue.start, first), min(cue.end, last)
            if start < end:
                found.append(replace(cue, start=start + shift, end=end + shift))
        if len(found) > MOST_CUES:
            raise InvalidSubtitles(f"the output would show more than {MOST_CUES} subtitles")
        frame += frames.frame_count
    return found


def subrip(cues: Sequence[Cue]) -> str:
    """Return cues as a SubRip file: none at the same time as another, as an mp4 has them."""
    lines: list[str] = []
    number = 0
    spoken = [replace(cue, text=plain(cue.text)) for cue in cues]
    for start, end, text in _one_at_a_time(spoken, "\n"):
        first, last = round(start * 1000), round(end * 1000)
        if first < last and text:
            number += 1
            lines += [str(number), f"{_clock(first)} --> {_clock(last)}", text, ""]
    return "\n".join(lines)


def _one_at_a_time(cues: Sequence[Cue], between: str) -> Iterator[tuple[Fraction, Fraction, str]]:
    """Yield spans and all that is said in each, what began first on top.

    Args:
        between: what stands between two texts.
    """
    times = sorted({time for cue in cues for time in (cue.start, cue.end)})
    waiting = sorted(cues, key=lambda cue: cue.start)[::-1]
    at_once: list[Cue] = []
    begun, said = Fraction(0), ""
    for time in times:
        at_once = [cue for cue in at_once if cue.end > time]
        while waiting and waiting[-1].start <= time:
            at_once.append(waiting.pop())
        text = between.join(dict.fromkeys(cue.text for cue in at_once if cue.text))
        if text != said:
            if said:
                yield begun, time, said
            begun, said = time, text


def plain(text: str) -> str:
    """Return a text of ASS as SubRip has it: lines, and letters that are not upright or thin."""
    if re.search(r"\{[^}]*\\p[1-9]", text):
        return ""  # a drawing
    pieces: list[str] = []
    open_tags: list[str] = []

    def close_all() -> None:
        pieces.extend(f"</{tag}>" for tag in reversed(open_tags))
        open_tags.clear()

    for piece in re.split(r"(\{[^}]*\})", text):
        if not piece.startswith("{"):
            words = re.sub(r"\\[Nn]", "\n", piece).replace(r"\h", " ")
            pieces.append(words.replace("<", "‹").replace(">", "›"))
            continue
        for tag, value in re.findall(r"\\([ibur])([0-9]*)(?=[\\}])", piece):
            kept = [each for each in open_tags if each != tag]
            if tag == "r":
                close_all()
            elif value not in ("", "0") and tag not in open_tags:
                pieces.append(f"<{tag}>")
                open_tags.append(tag)
            elif value in ("", "0") and tag in open_tags:
                close_all()
                pieces.extend(f"<{each}>" for each in kept)
                open_tags.extend(kept)
    close_all()
    lines = (" ".join(line.split()) for line in "".join(pieces).splitlines())
    return "\n".join(line for line in lines if re.sub(r"</?[biu]>", "", line))


def burnt(
    subtitles: Cues, ranges: Sequence[FrameRange], timeline: Timeline, width: int, height: int
) -> str:
    """Return what libass draws on the frames of an output, or a part of it, as an ASS file.

    A frame shows what the source shows when the frame begins. ASS counts in hundredths of a
    second; these are chosen so that each frame has the right ones, whatever lies between.

    Args:
        ranges: what it shows, in its order.
    """
    lines = [subtitles.looks or _plain_looks(width, height), "[Events]", _EVENT_FORMAT]
    cues = shown(subtitles.cues, ranges, timeline)
    for cue in cues if subtitles.looks else _settled(cues):
        first, last = (math.ceil(time * timeline.rate) for time in (cue.start, cue.end))
        if first < last:
            start, end = (_hundredths(frame, timeline.rate) for frame in (first, last))
            event = f"{cue.layer},{start},{end},{cue.style},,0,0,0,,{cue.text}"
            lines.append(f"Dialogue: {event}")
    return "\n".join([*lines, ""])


def _settled(cues: Sequence[Cue]) -> list[Cue]:
    """Return cues of one place as one at a time.

    libass would put what comes later above what is there, and leave it there: a chunk that begins
    in between would have it elsewhere.
    """
    by_place: dict[str, list[Cue]] = {}
    for cue in cues:
        place = re.search(r"\\an?[0-9]+", cue.text)
        by_place.setdefault(place[0] if place else "", []).append(cue)
    return [
        Cue(start, end, text)
        for together in by_place.values()
        for start, end, text in _one_at_a_time(together, r"{\r}\N")
    ]


def _plain_looks(width: int, height: int) -> str:
    letters, border, margin = (float(height * share) for share in (_LETTERS, _BORDER, _MARGIN))
    looks = (
        f"Default,Noto Sans,{letters:.2f},&H00FFFFFF,&H00000000,&H00000000,0,0,"
        f"1,{border:.2f},0,2,{margin:.0f},{margin:.0f},{margin:.0f}"
    )
    head = ["[Script Info]", "ScriptType: v4.00+", f"PlayResX: {width}", f"PlayResY: {height}"]
    return "\n".join([*head, "", "[V4+ Styles]", _PLAIN_FORMAT, f"Style: {looks}", ""])


def _hundredths(frame: int, rate: Fraction) -> str:
    """Return the last time of ASS that is not after a frame begins, as libass counts that.

    It takes whole milliseconds, rounded down: later than the frame before at up to 90 frames a
    second.
    """
    seconds, rest = divmod(int(frame * 1000 / rate) // 10, 100)
    return f"{seconds // 3600}:{_two(seconds // 60)}:{_two(seconds)}.{rest:02}"


def _two(number: int) -> str:
    return f"{number % 60:02}"


def _clock(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{_two(seconds // 60)}:{_two(seconds)},{rest:03}"
