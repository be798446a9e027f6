"""Posters and sprites: made as an encoder makes them, read back, and compared with their case."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import cast

import av
import numpy as np
from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry

from services.common import ids
from services.common.planner import fraction_of
from services.common.subjects import Lane
from services.encoder.board import Run
from services.encoder.deadline import Deadline
from services.encoder.ffmpeg.process import find_ffmpeg
from services.encoder.inspection.output_facts import OutputFacts
from services.encoder.metrics import EncoderMetrics
from services.encoder.settings import EncoderSettings
from services.encoder.storage import StorageClient
from services.encoder.tasks.ffmpeg_runs import FfmpegRuns
from services.encoder.tasks.stills import Stills
from tests.media.corner_marks import UPRIGHT, Image
from tests.media.read_back import Seen, read_picture
from tests.media.recipes.recipe import Recipe
from videoexport.v1 import export_pb2 as pb

# JPEG loses more than the pictures that it is made of.
DELTA_E = 3.0
_CUE = re.compile(r"(\d+):(\d\d):(\d\d\.\d{3}) --> (\d+):(\d\d):(\d\d\.\d{3})\n(\S+)#xywh=(\S+)\n")


@dataclass(frozen=True, slots=True)
class Tile:
    """A small picture, and from when to when a player shows it, in seconds."""

    start: Fraction
    end: Fraction
    seen: Seen


@dataclass(frozen=True, slots=True)
class StillsSeen:
    """What is beside an output.

    Attributes:
        poster: None without one.
        poster_time: that its owner is told, in seconds.
    """

    poster: Seen | None = None
    poster_time: Fraction | None = None
    tiles: tuple[Tile, ...] = ()


async def make_stills(video: Path, plan: pb.Plan, facts: OutputFacts) -> StillsSeen:
    """Make what a plan says of a finished file, beside it, and read it."""
    settings = EncoderSettings(
        nats_url="nats://unused", storage_address="unused", scratch_dir=video.parent
    )
    runs = FfmpegRuns(settings, find_ffmpeg(), EncoderMetrics(CollectorRegistry()))
    run = Run(ids.run_id(), 1, Lane.CPU, pb.RunningTask())
    # Nothing is stored.
    stills = Stills(runs, cast(StorageClient, None))
    made = await stills.make(run, plan, video, facts, Deadline.after(Duration(seconds=60)))
    files = {file.name: file for file in made.files}
    poster = files.get("poster.jpg")
    vtt = files.get("sprites.vtt")
    return StillsSeen(
        None if poster is None else read_picture(_rgb(poster)),
        made.poster_time,
        () if vtt is None else read_tiles(vtt),
    )


def read_tiles(vtt: Path) -> tuple[Tile, ...]:
    """Read the small pictures that a WebVTT file names, each where it says."""
    tiles = []
    for found in _CUE.finditer(vtt.read_text()):
        hours, minutes, seconds, *end, sheet, area = found.groups()
        left, top, width, height = (int(number) for number in area.split(","))
        picture = _rgb(vtt.with_name(sheet))[top : top + height, left : left + width]
        times = (_seconds(hours, minutes, seconds), _seconds(*end))
        tiles.append(Tile(*times, read_picture(picture)))
    return tuple(tiles)


def still_problems(recipe: Recipe, seen: StillsSeen, frame_count: int) -> list[str]:
    """Return what is wrong with a poster and sprites, in words.

    Args:
        frame_count: of the output.
    """
    problems = []
    settings, rate = recipe.settings, recipe.output_rate
    poster = None
    if seen.poster is not None and seen.poster_time is not None:
        poster = (round(seen.poster_time * rate), seen.poster.number)
    if poster != recipe.poster:
        problems.append(f"the poster is of frame and number {poster} instead of {recipe.poster}")
    pictures = [tile.seen for tile in seen.tiles]
    problems += [_wrong(each) for each in (seen.poster, *pictures) if each and _wrong(each)][:1]
    numbers = [picture.number for picture in pictures]
    if numbers != list(recipe.tiles):
        problems.append(f"the sprites show {numbers} instead of {list(recipe.tiles)}")
    starts = [place * fraction_of(settings.sprites.interval) for place in range(len(recipe.tiles))]
    times = list(pairwise([*starts, frame_count / rate]))
    if recipe.tiles and [(tile.start, tile.end) for tile in seen.tiles] != times:
        shown = [(float(tile.start), float(tile.end)) for tile in seen.tiles]
        problems.append(f"the sprites are shown at {shown}")
    return problems


def _wrong(picture: Seen) -> str:
    corners = picture.corners
    if corners is None or corners.orientation != UPRIGHT:
        return "a still is not upright"
    off = max(corners.delta_e)
    return f"colours of a still are off by ΔE2000 {off:.1f}" if off > DELTA_E else ""


def _rgb(path: Path) -> Image:
    with av.open(str(path)) as file:
        return np.asarray(next(file.decode(video=0)).to_ndarray(format="rgb24"), dtype=np.uint8)


def _seconds(hours: str, minutes: str, seconds: str) -> Fraction:
    return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
