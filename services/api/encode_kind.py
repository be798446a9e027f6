"""What an encode's speed depends on, beside the machine and the material. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from services.common.geometry import nearest_resolution
from videoexport.v1 import export_pb2 as pb


class Pictures(Protocol):
    """Pictures that are encoded: of a whole output, or of a part of one."""

    @property
    def width(self) -> int:
        """Width in pixels."""

    @property
    def height(self) -> int:
        """Height in pixels."""

    @property
    def quality(self) -> pb.Quality.ValueType:
        """Their quality."""


@dataclass(frozen=True, slots=True)
class EncodeKind:
    """Encodes that are about equally fast.

    Attributes:
        resolution: one that has a size of its own.
    """

    family: pb.EncoderFamily.ValueType
    resolution: pb.Resolution.ValueType
    quality: pb.Quality.ValueType


def kind_of(family: pb.EncoderFamily.ValueType, pictures: Pictures) -> tuple[EncodeKind, float]:
    """Return the kind of an encode, and how many times as much a picture of it takes.

    Sources come in every size, too many to measure each: they go with the nearest named one.
    """
    resolution, pixels = nearest_resolution(pictures.width, pictures.height)
    return EncodeKind(family, resolution, pictures.quality), pixels
