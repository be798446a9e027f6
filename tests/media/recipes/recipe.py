"""What a case of the corpus is: how its source is made, and what must come out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from services.common.codecs import has_pictures
from services.common.errors import Reason
from tests.media.colour import Array, Tags
from tests.media.corner_marks import Stored
from tests.media.frame_codes import CLICK_TONES, Clip
from videoexport.v1 import export_pb2 as pb

Range = tuple[int, int]
Box = tuple[int, int, int, int]
Colour = tuple[int, int, int]

# Small outputs encode fast; the codes stay readable.
SIZE = (256, 144)
# The clip of most cases: four seconds of pictures in colour, and a click every fifth frame. Of
# what is off in the end its own encoder is to have done little.
PLAIN = Clip(frames=100, clicks=0.2, colours=Stored(), tones=CLICK_TONES, encoder=("-crf", "6"))
# Beginnings on keyframes, before and after them, a jump back, a repetition, the end.
CUTS: tuple[Range, ...] = ((24, 40), (50, 60), (9, 20), (9, 20), (76, 100))


@dataclass(frozen=True, kw_only=True)
class Remade:
    """A file that FFmpeg makes of others.

    Attributes:
        of: the inputs, in order.
        arguments: of the output; those of input `n` are in `before`.
    """

    of: tuple[Source, ...] = ()
    arguments: tuple[str, ...] = ("-c", "copy")
    before: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    container: str = "mp4"


@dataclass(frozen=True, kw_only=True)
class Changed:
    """A file whose bytes are made of those of others.

    Attributes:
        how: from the contents of `of`, in order, to the file's.
    """

    of: tuple[Source, ...]
    how: Edit
    container: str = "mp4"


@dataclass(frozen=True, kw_only=True, eq=False)
class Patches:
    """A still file of coloured patches.

    Attributes:
        light: of each, in BT.709's primaries.
        codec: options of FFmpeg's; one that loses nothing if none are given.
        told: whether the file says what its values mean.
        alpha: by patch, how little can be seen through it, 0 to 1.
    """

    light: Array
    tags: Tags
    pixel_format: str
    codec: tuple[str, ...] = ()
    told: bool = True
    alpha: Array | None = None
    rate: int = 25
    container: str = "mkv"


Source = Clip | Remade | Changed | Patches
Edit = Callable[..., bytes]


@dataclass(frozen=True, kw_only=True, eq=False)
class Looks:
    """What the patches of a source look like in an output.

    Attributes:
        light: of each, in BT.709's primaries.
        alike: those that must have that colour.
        hues: those that may be paler or darker, but of the same hue.
        white: from where to where the signal of white may be, 0 to 1, where the patches are greys
            of growing light, up to 1,000 nits; None where they are not.
    """

    light: Array
    alike: slice = field(default_factory=lambda: slice(None))
    hues: slice = field(default_factory=lambda: slice(0))
    white: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Told:
    """What an output says of itself, and nothing else.

    Attributes:
        chapters: first and last frame of the output, the last not included, and the title.
        languages: of its pictures and its sound; empty where they are not said.
    """

    tags: Mapping[str, str] = field(default_factory=dict)
    chapters: Sequence[tuple[int, int, str]] = ()
    languages: Sequence[str] = ("", "")


@dataclass(frozen=True, kw_only=True)
class Refused:
    """That an export fails, and why.

    Attributes:
        reason: of docs/errors.md.
        words: a regular expression that its sentence holds.
    """

    reason: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One case.

    Attributes:
        name: unique; says what is particular about the source or the settings.
        settings: of the export.
        segments: frames of the output's grid, `end` not included; None is the whole source.
        size: of the output, where the named ones of the settings are too large to be quick;
            None leaves it to the settings.
        chunk_seconds: made in parts of about so long; None makes it whole.

        shows: the clip that the numbers and the clicks come from; needed where the source is
            not a clip itself.
        starts: seconds of that clip at which frame 0 of the grid is.
        rate: that the output must have; by default the clip's.
        numbers: of the frames of the grid, where no clip says, None for those without; else by the
            rule of frames.
        in_order: frames need only be readable and in order, as where they are made of fields.
        codes: of all warnings that the owner is given. Where that is SOURCE_DAMAGED, the output
            may look and sound so at the times that are told, and nowhere else.
        least_right: share of the frames that must be the right ones all the same.
        box: left, top, width and height of the picture in the output; by default all of it.
        made_size: of the output, where `size` is None.
        delta_e: by how much the colour of each corner, or patch, may be off; None where that is
            not compared.
        looks: of patches; None where frames carry numbers.
        stored: how its pictures are stored: codec, pixel format, primaries, transfer, matrix and
            range; None where that is not compared.
        rotation: degrees clockwise by which the source is turned; by default as the source is.
        clicks: whether clicks are heard, each where it belongs.
        sound: whether the output has any.
        silent: spans of the clip in seconds, from and to, that have lost their sound.
        levels: in the output, by tone in Hz: decibels left and right, relative to the loudest.
        smooth: of full scale, the most that a sample may differ from the one before; None where
            that is not measured.
        offset: seconds by which sound may be off its pictures.
        joins: at how many places that is measured, at the least.
        told: what the output says of itself; None where that is not compared.
        subtitles: of the output, each with its first and last moment in seconds.
        drawn: frames of the output that have letters, and no others; None where that is not
            compared.
        poster: frame of the output that it is of, and the number that it carries; None where
            there is none.
        tiles: numbers that the sprites carry, in order.
        image: makes the image of the watermark.
        mark: where it must be seen, and in which colour.
        copied: frames that are copied from the source as they are.
        warned: a regular expression that the warning holds where they are not; empty where there
            is none.
        refused: why there is no output.
        gpu: whether the command for the GPU is compared.
    """

    name: str
    topic: str
    source: Source
    settings: pb.ExportSettings = field(default_factory=pb.ExportSettings)
    segments: Sequence[Range] | None = CUTS
    size: tuple[int, int] | None = SIZE
    chunk_seconds: float | None = None

    shows: Clip | None = None
    starts: Fraction = Fraction(0)
    rate: Fraction | None = None
    numbers: Sequence[int | None] | None = None
    in_order: bool = False
    codes: Sequence[str] = ()
    least_right: float = 1.0
    box: Box | None = None
    made_size: tuple[int, int] | None = None
    delta_e: float | None = 2.0
    looks: Looks | None = None
    stored: str | None = None
    rotation: int | None = None
    clicks: bool = True
    sound: bool = True
    silent: Sequence[tuple[float, float]] = ()
    levels: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    smooth: float | None = None
    offset: float = 0.005
    joins: int = 1
    told: Told | None = None
    subtitles: Sequence[tuple[float, float, str]] = ()
    drawn: Sequence[Range] | None = None
    poster: tuple[int, int] | None = None
    tiles: Sequence[int] = ()
    image: Callable[[], bytes] | None = None
    mark: tuple[Box, Colour] | None = None
    copied: int = 0
    warned: str = ""
    refused: Refused | None = None
    gpu: bool = True

    @property
    def clip(self) -> Clip:
        """The clip that the numbers and the clicks come from."""
        clip = self.shows or self.source
        assert isinstance(clip, Clip), f"{self.name}: what does it show?"
        return clip

    @property
    def damaged(self) -> bool:
        """Whether the owner is told of damage."""
        return Reason.SOURCE_DAMAGED in self.codes

    @property
    def turned(self) -> int:
        """Degrees clockwise by which the source's pictures must be turned."""
        if self.rotation is not None:
            return self.rotation
        return self.source.rotation if isinstance(self.source, Clip) else 0

    @property
    def output_rate(self) -> Fraction:
        """Frames per second that the output must have."""
        return self.rate or self.clip.rate

    @property
    def pictures(self) -> bool:
        """Whether the output has any."""
        return has_pictures(self.settings.format)

    @property
    def output_size(self) -> tuple[int, int]:
        """Width and height that the output must have."""
        size = self.size or self.made_size
        assert size is not None, f"{self.name}: how large is the output?"
        return size
