"""What is done to a source's colours, so that they look the same, as text for FFmpeg. Pure.

Colours that every player shows are carried and tagged; the others are converted to BT.709,
unless they are to be kept: then only what has no place in the output's codec is converted.
What a source leaves unsaid is guessed as players do, and then said: they would guess anew for
an output of another size.
"""

from __future__ import annotations

from dataclasses import dataclass

from services.common.colours import (
    CONVERTED_TRANSFERS,
    HLG,
    PQ,
    has_alpha,
    is_converted,
)
from videoexport.v1 import export_pb2 as pb

# What few players know also of those that show wide gamuts and HDR.
_ODD_PRIMARIES = ("smpte428", "film")
_ODD_TRANSFERS = ("linear", "log100", "log316")
_ODD_MATRICES = ("bt2020c", "ictcp", "ycgco")

# Nits of diffuse white in HDR (ITU-R BT.2408), which 1.0 stands for in linear light.
_WHITE = 203
# The brightest that each can say; HLG's is that of the screen it is defined for.
_PEAKS = {PQ: 10_000, HLG: 1_000}
# In linear light, on the brightest of the three colours, so that hue and saturation stay.
# - mobius leaves alone what is darker than `param`, 61 nits, so that faces and greys are as
#   bright beside white as in HDR, and bends all that is brighter without a kink. Hable and
#   Reinhard would darken these, too; clip would lose all above white.
# - `peak` is the format's, not the recording's: what recordings say is often missing or wrong,
#   and it hardly matters. Diffuse white comes out at 84 % of SDR's signal (PQ) and 85 % (HLG),
#   1,000 nits at 96 %, and nothing is clipped.
# - desat=0: the default turns highlights grey that are as colourful as their surroundings.
_TONEMAP = "tonemap=mobius:param=0.3:desat=0:peak={:.3f}"
# Ordered, so that gradients of 10 bits do not band in 8.
_TO_TV = "r=tv:d=ordered"
# x264 would write what a screen was mastered for into the file, and that makes it HDR to some.
_FORGET_HDR = tuple(
    f"sidedata=mode=delete:type={name}"
    for name in ("MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL")
)
# How versions of before have named two curves.
_AS_FILTERS_SAY = {"gamma22": "bt470m", "gamma28": "bt470bg"}


@dataclass(frozen=True, slots=True)
class Colour:
    """What is done to a source's colours.

    Attributes:
        before: filters for pictures as they are decoded, of any size.
        over_black: filters that lay what can be seen through over black; like `after` they
            take pictures of one size only.
        scale: options of the `scale` that fits pictures; it converts them where `after` does not.
        after: filters for pictures of the output's size.
    """

    before: tuple[str, ...]
    over_black: tuple[str, ...]
    scale: str
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tags:
    """What pictures say of their colours, by FFmpeg's names."""

    primaries: str
    transfer: str
    matrix: str
    range: str = "tv"

    @property
    def usual(self) -> bool:
        """Whether every player shows them as they are meant."""
        named = (self.primaries, self.transfer, self.matrix)
        return all(named) and not is_converted(*named)


def colour_of(video: pb.VideoStream, *, keep: bool = False) -> Colour:
    """Return what is done to a source's colours.

    Args:
        keep: whether wide gamuts and HDR stay.
    """
    rgb, grey = _is_rgb(video), video.pixel_format.startswith("gray")
    alpha = has_alpha(video)
    colour_range, primaries, transfer = _range(video), _primaries(video), _transfer(video)
    matrix = _matrix(video)
    tags = tags_of_output(video, keep=keep)
    after: tuple[str, ...] = ()
    if _is_tone_mapped(video, keep=keep):
        after = _tone_mapped(transfer)
    elif _is_converted(video, keep=keep):
        after = (f"zscale=p={tags.primaries}:t={tags.transfer}:m={tags.matrix}:{_TO_TV}",)
    elif grey or (colour_range == "pc" and not rgb and video.bit_depth > 8):
        # `scale` would tint greys by a step of 8 bits.
        after = (f"zscale={_TO_TV}",)
    if grey:
        # `scale` takes grey for full range whatever it is told, so it is told that; nor may one
        # be put in for what zscale cannot read.
        after = ("format=gray|gray10le", f"setparams=range={colour_range}", *after)
    to_tv = ":out_range=tv"
    if rgb:
        to_tv += f":out_color_matrix={tags.matrix.replace('bt2020nc', 'bt2020')}"
    meant = {
        "range": ("pc" if grey else colour_range, video.color_range),
        "color_primaries": (primaries, video.color_primaries),
        "color_trc": (transfer, video.color_transfer),
        "colorspace": (matrix, video.color_space or ("gbr" if rgb else "")),
    }
    # Grey pictures come without their matrix, and what libvpx decodes for its alpha without
    # VP8's.
    unsaid = [
        f"{name}={value}"
        for name, (value, said) in meant.items()
        if value != said or ((grey or alpha) and value != "gbr")
    ]
    return Colour(
        before=(f"setparams={':'.join(unsaid)}",) if unsaid else (),
        over_black=("premultiply=inplace=1",) if alpha else (),
        scale="" if after else to_tv,
        after=after,
    )


def tags_of_output(video: pb.VideoStream, *, keep: bool = False) -> Tags:
    """Return what an output says of its colours.

    Args:
        keep: whether wide gamuts and HDR stay.
    """
    primaries, transfer, matrix = _primaries(video), _transfer(video), _matrix(video)
    wide = "bt2020nc" if keep and primaries == "bt2020" else "bt709"
    if _is_tone_mapped(video, keep=keep):
        return Tags("bt709", "bt709", "bt709")
    if _is_converted(video, keep=keep):
        if keep:
            gamut = "bt709" if primaries in _ODD_PRIMARIES else primaries
            return Tags(gamut, "bt709" if transfer in _ODD_TRANSFERS else transfer, wide)
        # The curve stays where it can, for players differ in what light they make of one.
        curve = "bt709" if transfer in CONVERTED_TRANSFERS else transfer
        return Tags("bt709", curve, "bt709")
    return Tags(primaries, transfer, wide if matrix == "gbr" else matrix)


def is_carried(video: pb.VideoStream, *, keep: bool = False) -> bool:
    """Return whether an output has the colours of its source, wherever in it they may change."""
    return not (_is_tone_mapped(video, keep=keep) or _is_converted(video, keep=keep))


def _is_tone_mapped(video: pb.VideoStream, *, keep: bool) -> bool:
    return not keep and _transfer(video) in _PEAKS


def _is_converted(video: pb.VideoStream, *, keep: bool) -> bool:
    """Return whether an output has other primaries, another curve or another matrix."""
    primaries, transfer, matrix = _primaries(video), _transfer(video), _matrix(video)
    if not keep:
        return is_converted(primaries, transfer, matrix)
    return primaries in _ODD_PRIMARIES or transfer in _ODD_TRANSFERS or matrix in _ODD_MATRICES


def _tone_mapped(transfer: str) -> tuple[str, ...]:
    # HLG's light for a screen depends on the whole colour: a curve for each would shift hues.
    exact = ":agamma=0" if transfer == HLG else ""
    return (
        f"zscale=p=bt709:t=linear:npl={_WHITE}{exact}",
        "format=gbrpf32le",
        _TONEMAP.format(_PEAKS[transfer] / _WHITE),
        f"zscale=t=bt709:m=bt709:{_TO_TV}",
        *_FORGET_HDR,
    )


def _primaries(video: pb.VideoStream) -> str:
    if video.color_primaries:
        # The same but for white, which zscale would show as the green that it is beside D65.
        return video.color_primaries.replace("smpte431", "smpte432")
    if _is_bt2020(video):
        return "bt2020"
    if _is_rgb(video) or _is_hd(video) or video.color_space == "bt709":
        return "bt709"
    return "bt470bg" if _has_625_lines(video) else "smpte170m"


def _transfer(video: pb.VideoStream) -> str:
    if video.color_transfer:
        return _AS_FILTERS_SAY.get(video.color_transfer, video.color_transfer)
    # One curve by two names, and BT.2020's is no other.
    return "smpte170m" if _primaries(video) in ("bt470bg", "smpte170m") else "bt709"


def _matrix(video: pb.VideoStream) -> str:
    if _is_rgb(video):
        return "gbr"
    if video.color_space:
        return video.color_space
    if _is_bt2020(video):
        return "bt2020nc"
    if _is_hd(video):
        return "bt709"
    return "bt470bg" if _has_625_lines(video) else "smpte170m"


def _range(video: pb.VideoStream) -> str:
    if video.color_range:
        return video.color_range
    return "pc" if _is_rgb(video) or video.pixel_format.startswith("yuvj") else "tv"


def _is_bt2020(video: pb.VideoStream) -> bool:
    """Return whether anything that is said goes with BT.2020 alone."""
    said = (video.color_primaries, video.color_transfer, video.color_space)
    return any(name.startswith("bt2020") or name in (PQ, HLG, "ictcp") for name in said)


def _is_hd(video: pb.VideoStream) -> bool:
    """Return whether players take BT.709 for granted; a film of 1280 columns has fewer lines."""
    return video.height >= 720 or video.width >= 1280


def _has_625_lines(video: pb.VideoStream) -> bool:
    """Return whether a small picture comes from television of 625 lines rather than 525."""
    if video.height in (240, 480, 486):
        return False
    rate = video.frame_rate
    return video.height in (288, 576) or rate.numerator in (
        25 * rate.denominator,
        50 * rate.denominator,
    )


def _is_rgb(video: pb.VideoStream) -> bool:
    return video.color_space == "gbr" or video.pixel_format.lstrip("a0x2").startswith(
        ("rgb", "bgr", "gbr", "pal8")
    )
