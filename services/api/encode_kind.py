"""What an encode's speed depends on, beside the machine and the material. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self

from services.common.codecs import H264, NAMES, SOUND_HEIGHT, SOUND_WIDTH
from services.common.enum_names import known_value
from services.common.families import FAMILY_OF_LANE
from services.common.geometry import SIZES, nearest_resolution
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

    @property
    def video_codec(self) -> pb.VideoCodec.ValueType:
        """Their codec; H.264 where versions of before say none."""


_FIRST_RESOLUTIONS = (pb.RESOLUTION_720P, pb.RESOLUTION_1080P)
_FIRST_QUALITIES = (pb.QUALITY_HIGH, pb.QUALITY_MEDIUM, pb.QUALITY_LOW)


@dataclass(frozen=True, slots=True)
class EncodeKind:
    """Encodes that are about equally fast.

    Attributes:
        resolution: one that has a size of its own.
    """

    family: pb.EncoderFamily.ValueType
    resolution: pb.Resolution.ValueType
    quality: pb.Quality.ValueType
    codec: pb.VideoCodec.ValueType = H264

    @property
    def name_of_family(self) -> str:
        """The family by its name in rows, with the codec unless all of it was always known.

        Replicas of before read the rows of the bare names alone, and fail at sizes, qualities
        and codecs that are new.
        """
        name = pb.EncoderFamily.Name(self.family)
        bare = (
            self.codec == H264
            and self.resolution in _FIRST_RESOLUTIONS
            and self.quality in _FIRST_QUALITIES
        )
        return name if bare else f"{name}/{pb.VideoCodec.Name(self.codec)}"

    @classmethod
    def of_row(cls, family: str, resolution: str, quality: str) -> Self | None:
        """Return the kind that a row's columns name; None for one of a newer version."""
        name, _, codec = family.partition("/")
        kind = (
            known_value(pb.EncoderFamily, name),
            known_value(pb.Resolution, resolution),
            known_value(pb.Quality, quality),
            known_value(pb.VideoCodec, codec) if codec else H264,
        )
        return None if None in kind else cls(*kind)  # type: ignore[arg-type]  # mypy: no narrowing


NAMES_OF_FAMILIES = tuple(
    {
        EncodeKind(family, resolution, pb.QUALITY_MEDIUM, codec).name_of_family
        for family in FAMILY_OF_LANE.values()
        for resolution in SIZES
        for codec in NAMES
    }
)


def kind_of(family: pb.EncoderFamily.ValueType, pictures: Pictures) -> tuple[EncodeKind, float]:
    """Return the kind of an encode, and how many times as much a picture of it takes.

    Sources come in every size, too many to measure each: they go with the nearest named one.
    Sound alone, which has none, is counted in frames of pictures.
    """
    width, height = pictures.width or SOUND_WIDTH, pictures.height or SOUND_HEIGHT
    resolution, pixels = nearest_resolution(width, height)
    quality = pictures.quality or pb.QUALITY_MEDIUM
    return EncodeKind(family, resolution, quality, pictures.video_codec or H264), pixels
