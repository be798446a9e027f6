"""What an edit costs: 10 minutes of 12 segments, one cut moved, then two segments reordered.

The first export is 1080p, as its source: what it costs decides the shares, for the sound is
encoded anew with every edit, whatever the pictures cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench import sources
from bench.report import Figure, say
from bench.stage import Shape, Stage, stage
from videoexport.v1 import export_pb2 as pb

Segments = list[tuple[float, float]]

SETTINGS = pb.ExportSettings(
    resolution=pb.RESOLUTION_1080P,
    quality=pb.QUALITY_MEDIUM,
    encoder=pb.ENCODER_PREFERENCE_CPU,
)
COUNT = 12
# Takes of 39 to 61 s, 600 s in all, with 10 s left out between them.
SHORTEST_S, GROWTH_S, GAP_S = 39, 2, 10
# No cut lies on a keyframe, which are on even seconds.
FIRST_START_S = 4.32

MOST_MOVED_CPU = 6.0
MOST_MOVED_TIME = 8.0
MOST_REORDERED_CPU = 2.0
# Which ends are moved, and by how many seconds; each edit starts from the one before it.
MOVES = ((2, -1.48), (6, 2.6), (9, -3.04))
SWAPS = ((1, 2), (3, 8), (0, 11))


@dataclass(frozen=True, slots=True)
class Cost:
    """What an export took.

    Attributes:
        cpu: seconds of FFmpeg.
        encoder_cpu: of the encoder with all its children, FFmpeg included.
        reused: share of the frames, 0 to 1.
    """

    wall: float
    cpu: float
    encoder_cpu: float
    reused: float


def first_cut() -> Segments:
    """Return the segments of the first export, in seconds of the source."""
    segments = []
    start = FIRST_START_S
    for number in range(COUNT):
        end = start + SHORTEST_S + GROWTH_S * number
        segments.append((round(start, 2), round(end, 2)))
        start = end + GAP_S
    return segments


def with_end_moved(segments: Segments, place: int, seconds: float) -> Segments:
    """Return the segments with the end of one moved."""
    start, end = segments[place]
    return [*segments[:place], (start, round(end + seconds, 2)), *segments[place + 1 :]]


def with_two_swapped(segments: Segments, one: int, other: int) -> Segments:
    """Return the segments with two of them in each other's place."""
    swapped = list(segments)
    swapped[one], swapped[other] = segments[other], segments[one]
    return swapped


async def measure(folder: Path) -> list[Figure]:
    """Return what both edits cost, as medians over several, in percent of the first export."""
    source = await sources.twelve_minutes(folder)
    segments = first_cut()
    moved, reordered = [], []
    async with stage(folder, Shape()) as ready:
        video_id = await ready.probed(source)
        first = await _cost(ready, video_id, "first", segments)
        for place, seconds in MOVES:
            segments = with_end_moved(segments, place, seconds)
            moved.append(await _cost(ready, video_id, "cut moved", segments))
        for one, other in SWAPS:
            segments = with_two_swapped(segments, one, other)
            reordered.append(await _cost(ready, video_id, "reordered", segments))
    return figures(first, moved, reordered)


def figures(first: Cost, moved: Sequence[Cost], reordered: Sequence[Cost]) -> list[Figure]:
    """Return what the exports say."""
    moved_cpu = 100 * median(cost.cpu for cost in moved) / first.cpu
    moved_time = 100 * median(cost.wall for cost in moved) / first.wall
    reordered_cpu = 100 * median(cost.cpu for cost in reordered) / first.cpu
    return [
        Figure(
            *("edit", moved_cpu, "% of the first's CPU", f"≤ {MOST_MOVED_CPU:g} %"),
            met=moved_cpu <= MOST_MOVED_CPU,
        ),
        Figure(
            *("edit.time", moved_time, "% of the first's time", f"≤ {MOST_MOVED_TIME:g} %"),
            met=moved_time <= MOST_MOVED_TIME,
        ),
        Figure(
            *("edit.reordered", reordered_cpu, "% of the first's CPU"),
            target=f"≤ {MOST_REORDERED_CPU:g} %",
            met=reordered_cpu <= MOST_REORDERED_CPU,
        ),
        *(
            Figure(f"edit.{name}_{detail}", median(getattr(cost, field) for cost in costs), unit)
            for name, costs in (("first", [first]), ("moved", moved), ("reordered", reordered))
            for detail, field, unit in (
                ("cpu", "cpu", "CPU s"),
                ("encoder_cpu", "encoder_cpu", "CPU s"),
                ("time", "wall", "s"),
                ("reused", "reused", "of the frames"),
            )
        ),
    ]


async def _cost(ready: Stage, video_id: str, name: str, segments: Segments) -> Cost:
    cpu, encoder_cpu = await ready.ffmpeg_cpu(), ready.cpu_seconds("encoder-1")
    wall, done = await ready.export(video_id, segments, settings=SETTINGS)
    cost = Cost(
        wall,
        await ready.ffmpeg_cpu() - cpu,
        ready.cpu_seconds("encoder-1") - encoder_cpu,
        done.output.reused_share,
    )
    say(
        f"edit: {name}: {wall:.1f} s, FFmpeg {cost.cpu:.1f} CPU s, encoder "
        f"{cost.encoder_cpu:.1f} CPU s, {100 * cost.reused:.1f} % reused"
    )
    return cost
