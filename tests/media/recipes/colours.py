"""Colours in every coding: they look as they did, and the output says what its values mean."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from tests.media.colour import HDR_WHITE, Array, Tags
from tests.media.patches import SRGB, X265, shown, with_dolby_vision
from tests.media.recipes.recipe import Changed, Looks, Patches, Recipe, Refused
from videoexport.v1 import export_pb2 as pb

BT709 = Tags()
BT601_525 = Tags("smpte170m", "smpte170m", "smpte170m")
BT601_625 = Tags("bt470bg", "smpte170m", "bt470bg")
BT2020 = Tags("bt2020", "bt2020-10", "bt2020nc")
PQ = Tags("bt2020", "smpte2084", "bt2020nc")
HLG = Tags("bt2020", "arib-std-b67", "bt2020nc")
FULL_709 = Tags(range="pc")
FULL_601 = Tags("bt470bg", "smpte170m", "bt470bg", "pc")
RGB = Tags(matrix="gbr", range="pc")
SRGB_OF_709 = Tags(transfer="iec61966-2-1")
SRGB_OF_RGB = Tags(transfer="iec61966-2-1", matrix="gbr", range="pc")
X264 = ("-c:v", "libx264", "-qp", "0")
# Twice the patches' size: fitted without bars.
SIZE = (288, 192)
GREYS = SRGB.mean(axis=1, keepdims=True).repeat(3, axis=1)
# How little can be seen through patches: not at all, a little, all.
ALPHA = np.tile([1.0, 0.6, 0.0], 8)
MASTERED = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
HDR10 = (*X265[:-1], f"{X265[-1]}:{MASTERED}:max-cll=1000,400")
UNSAID = "hevc_metadata=colour_primaries=2:matrix_coefficients=2"
_DARK = (0, 0.5, 1, 2, 5, 10, 15, 20, 26, 35, 45, 55, 61)
_BRIGHT = (80, 100, 130, 160, 203, 300, 400, 500, 700, 850, 1000)
SCALE: Array = np.repeat(np.array([*_DARK, *_BRIGHT])[:, None] / HDR_WHITE, 3, axis=1)
# Pure colours as bright as white; faces and the like below 61 nits, where nothing is changed.
SOME_PURE: Array = SRGB * np.where(np.arange(24) < 6, 1.0, 0.28)[:, None]
BELOW: Array = SRGB * 0.28


def _case(name: str, source: Any, looks: Looks, tags: Tags = BT709, **more: Any) -> Recipe:
    """A case of the colour topic.

    Args:
        tags: of the output, but for its range.
    """
    given: dict[str, Any] = {
        "settings": pb.ExportSettings(quality=pb.QUALITY_HIGH),
        "segments": ((0, 2), (3, 5)),
        "rate": Fraction(25),
        "size": SIZE,
        "stored": f"h264 yuv420p {tags.primaries}/{tags.transfer}/{tags.matrix}/tv",
        "sound": False,
        "clicks": False,
        "joins": 0,
    }
    return Recipe(name=name, topic="colour", source=source, looks=looks, **(given | more))


def _carried(name: str, tags: Tags, pixels: str, light: Array = SRGB, **more: Any) -> Recipe:
    """SDR as most players show it: its tags are the output's."""
    source = Patches(light=light, tags=tags, pixel_format=pixels, **more)
    made = Tags(tags.primaries, tags.transfer, tags.matrix.replace("gbr", "bt709"))
    rate = Fraction(source.rate)
    return _case(name, source, Looks(light=shown(light, tags)), made, rate=rate)


def _converted(name: str, tags: Tags, pixels: str) -> Recipe:
    """SDR that few players show right: it is made BT.709, its curve alone is kept where it may."""
    source = Patches(light=SRGB, tags=tags, pixel_format=pixels)
    kept = tags.transfer if tags.transfer == "iec61966-2-1" else "bt709"
    return _case(name, source, Looks(light=shown(SRGB, tags)), Tags(transfer=kept))


def _seen_through(
    name: str, pixels: str, codec: Sequence[str], container: str, tags: Tags = BT601_625
) -> Recipe:
    # Mixed with black as players do: as coded, not as light.
    light = (shown(SRGB, tags) ** (1 / 2.4) * ALPHA[:, None]) ** 2.4
    source = Patches(
        light=SRGB,
        tags=tags,
        pixel_format=pixels,
        codec=tuple(codec),
        alpha=ALPHA,
        container=container,
    )
    told = Tags(tags.primaries, tags.transfer, tags.matrix.replace("gbr", "bt709"))
    return _case(name, source, Looks(light=light), told)


def _hdr(
    light: Array, tags: Tags, codec: tuple[str, ...] = X265, container: str = "mp4"
) -> Patches:
    return Patches(
        light=light, tags=tags, pixel_format="yuv420p10le", codec=codec, container=container
    )


def _dolby_vision(profile: int, compatibility: int, tags: Tags) -> Changed:
    return Changed(
        of=(_hdr(BELOW, tags),),
        how=lambda content: with_dolby_vision(content, profile, compatibility),
    )


COLOUR: tuple[Recipe, ...] = (
    _carried("BT.709, 4:2:0 of 8 bits", BT709, "yuv420p"),
    _carried("BT.709, 4:2:2 of 8 bits", BT709, "yuv422p"),
    _carried("BT.709, 4:4:4 of 8 bits", BT709, "yuv444p"),
    _carried("BT.709, 4:2:0 of 10 bits", BT709, "yuv420p10le"),
    _carried("BT.709, 4:2:2 of 10 bits", BT709, "yuv422p10le"),
    _carried("BT.709, 4:4:4 of 12 bits", BT709, "yuv444p12le"),
    _carried("BT.709 of full range, 4:2:0 of 8 bits", FULL_709, "yuv420p"),
    _carried("BT.709 of full range, 4:2:2 of 10 bits", FULL_709, "yuv422p10le"),
    _carried(
        "BT.709 of full range, by its old format", FULL_709, "yuvj420p", codec=X264, container="mp4"
    ),
    _carried("BT.601 of 525 lines, 4:2:0 of 8 bits", BT601_525, "yuv420p"),
    _carried("BT.601 of 625 lines, 4:2:2 of 10 bits", BT601_625, "yuv422p10le"),
    _carried("BT.601 of full range, 4:4:4 of 8 bits", FULL_601, "yuv444p"),
    _carried("sRGB's curve, 4:2:0 of 8 bits", SRGB_OF_709, "yuv420p"),
    _carried("RGB of 8 bits", RGB, "gbrp"),
    _carried("RGB of 10 bits", RGB, "gbrp10le"),
    _carried("RGB of 12 bits", RGB, "gbrp12le"),
    _carried("sRGB", SRGB_OF_RGB, "gbrp"),
    *(
        _carried(f"grey of {bits} bits{of_full_range}", tags, pixels, GREYS)
        for bits, pixels in ((8, "gray"), (10, "gray10le"), (12, "gray12le"))
        for of_full_range, tags in (("", BT709), (" of full range", FULL_709))
    ),
    *(
        _carried(
            f"small and untagged, {rate} frames a second: television of {lines} lines",
            *(tags, "yuv420p"),
            codec=X264,
            told=False,
            rate=rate,
            container="mp4",
        )
        for rate, lines, tags in ((25, 625, BT601_625), (30, 525, BT601_525))
    ),
    _converted("BT.2020 of SDR, 4:2:0 of 10 bits", BT2020, "yuv420p10le"),
    _converted("BT.2020 of SDR, 4:2:2 of 8 bits", BT2020, "yuv422p"),
    _converted(
        "BT.2020 of full range, 4:4:4 of 12 bits",
        Tags("bt2020", "bt709", "bt2020nc", "pc"),
        "yuv444p12le",
    ),
    _converted("BT.2020 with BT.709's matrix, 4:2:0", Tags("bt2020", "bt709", "bt709"), "yuv420p"),
    _converted(
        "BT.709 with BT.2020's matrix, 4:2:0", Tags("bt709", "bt709", "bt2020nc"), "yuv420p"
    ),
    _converted("P3, 4:2:0", Tags("smpte432", "bt709", "bt709"), "yuv420p"),
    _converted(
        "P3 of a telephone: sRGB's curve, BT.601's matrix, full range",
        Tags("smpte432", "iec61966-2-1", "smpte170m", "pc"),
        "yuv420p",
    ),
    _converted(
        "P3 of cinemas, 4:4:4 of 10 bits", Tags("smpte431", "bt709", "bt709"), "yuv444p10le"
    ),
    _converted("P3 as RGB", Tags("smpte432", "iec61966-2-1", "gbr", "pc"), "gbrp"),
    _seen_through("alpha over black, FFV1", "yuva420p", ("-c:v", "ffv1"), "mkv"),
    _seen_through("alpha over black, 10 bits", "yuva444p10le", ("-c:v", "ffv1"), "mkv"),
    _seen_through(
        "alpha over black, Animation", "gbrap", ("-pix_fmt", "argb", "-c:v", "qtrle"), "mov", RGB
    ),
    _seen_through(
        "alpha over black, PNG", "gbrap", ("-pix_fmt", "rgba", "-c:v", "png"), "mov", RGB
    ),
    _seen_through(
        "alpha over black, ProRes",
        "yuva444p10le",
        ("-c:v", "prores_ks", "-profile:v", "4444", "-qscale", "1"),
        "mov",
    ),
    _seen_through(
        "alpha over black, VP9",
        "yuva420p",
        ("-c:v", "libvpx-vp9", "-auto-alt-ref", "0", "-lossless", "1"),
        "webm",
    ),
    # A picture of VP8 is always in the colours of BT.601.
    _seen_through(
        "alpha over black, VP8",
        "yuva420p",
        ("-c:v", "libvpx", "-auto-alt-ref", "0", "-qmin", "0", "-qmax", "0", "-b:v", "50M"),
        "webm",
    ),
    *(
        _case(
            f"{name}, greys up to 1,000 nits",
            _hdr(SCALE, tags, HDR10),
            Looks(light=SCALE, alike=slice(0, len(_DARK)), white=white),
        )
        for name, tags, white in (("HDR10", PQ, (0.82, 0.85)), ("HLG", HLG, (0.83, 0.86)))
    ),
    *(
        _case(
            f"{name}, colours",
            _hdr(SOME_PURE, tags),
            Looks(light=SOME_PURE, alike=slice(6, 24), hues=slice(0, 6)),
        )
        for name, tags in (("HDR10", PQ), ("HLG", HLG))
    ),
    _case(
        "HDR10 that says no more than its curve",
        _hdr(BELOW, PQ, (*X265, "-bsf:v", UNSAID), "mkv"),
        Looks(light=BELOW),
    ),
    _case("Dolby Vision on HDR10", _dolby_vision(8, 1, PQ), Looks(light=BELOW)),
    _case("Dolby Vision on HLG", _dolby_vision(8, 4, HLG), Looks(light=BELOW)),
    _case(
        "Dolby Vision without a base",
        _dolby_vision(5, 0, PQ),
        Looks(light=BELOW),
        refused=Refused(reason="INVALID_SOURCE", words="Dolby Vision"),
    ),
)
