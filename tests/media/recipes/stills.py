"""Posters and sprites beside an output: of the frames that they must be of."""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration

from tests.media.recipes.recipe import PLAIN, Recipe, Remade
from videoexport.v1 import export_pb2 as pb

POSTER = pb.PosterSettings(time=Duration(seconds=2), width=128)
# One on a sheet, so that there are several.
SPRITES = pb.SpriteSettings(interval=Duration(seconds=1), columns=1, tile_width=128)
# Frames 0, 25 and 50 of the output by the cuts of most cases; the poster is the last of these.
SHOWN = (24, 59, 78)


def _case(name: str, settings: pb.ExportSettings, source: Any = PLAIN, **more: Any) -> Recipe:
    return Recipe(name=name, topic="stills", source=source, settings=settings, **more)


STILLS: tuple[Recipe, ...] = (
    _case("a poster of a time", pb.ExportSettings(poster=POSTER), poster=(50, 78)),
    _case(
        "a poster of the first frame that is not black",
        pb.ExportSettings(poster=pb.PosterSettings()),
        Remade(
            of=(PLAIN,),
            arguments=(
                *("-vf", r"drawbox=color=black:t=fill:enable=lt(n\,30)", "-c:a", "copy"),
                *("-c:v", "libx264", "-qp", "4", "-g", "25"),
            ),
        ),
        shows=PLAIN,
        segments=((20, 60),),
        numbers=[*[None] * 30, *range(30, 100)],
        poster=(10, 30),
    ),
    _case("sprites", pb.ExportSettings(sprites=SPRITES), tiles=SHOWN),
    _case(
        "both, in parts",
        pb.ExportSettings(poster=POSTER, sprites=SPRITES),
        poster=(50, 78),
        tiles=SHOWN,
        chunk_seconds=0.8,
    ),
    _case(
        "both, of WebM",
        pb.ExportSettings(poster=POSTER, sprites=SPRITES, format=pb.FORMAT_WEBM),
        poster=(50, 78),
        tiles=SHOWN,
        gpu=False,
    ),
)
