"""What is done to the colours of every kind of source: the whole lists of filters."""

from __future__ import annotations

import pytest

from services.encoder.commands.colour import Colour, colour_of
from videoexport.v1 import export_pb2 as pb

TO_TV, TO_BT709 = ":out_range=tv", ":out_range=tv:out_color_matrix=bt709"
BT709 = ("bt709", "bt709", "bt709", "tv")
FORGET = (
    "sidedata=mode=delete:type=MASTERING_DISPLAY_METADATA",
    "sidedata=mode=delete:type=CONTENT_LIGHT_LEVEL",
)
FROM_PQ = (
    "zscale=p=bt709:t=linear:npl=203",
    "format=gbrpf32le",
    "tonemap=mobius:param=0.3:desat=0:peak=49.261",
    "zscale=t=bt709:m=bt709:r=tv:d=ordered",
    *FORGET,
)
FROM_HLG = (
    "zscale=p=bt709:t=linear:npl=203:agamma=0",
    "format=gbrpf32le",
    "tonemap=mobius:param=0.3:desat=0:peak=4.926",
    "zscale=t=bt709:m=bt709:r=tv:d=ordered",
    *FORGET,
)


def source(
    tags: tuple[str, str, str, str] = ("", "", "", ""),
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (1920, 1080),
    rate: tuple[int, int] = (25, 1),
) -> pb.VideoStream:
    """Return a source that says so of its primaries, transfer, matrix and range."""
    primaries, transfer, matrix, colour_range = tags
    return pb.VideoStream(
        width=size[0],
        height=size[1],
        frame_rate=pb.Rational(numerator=rate[0], denominator=rate[1]),
        pixel_format=pixel_format,
        bit_depth=10 if "10" in pixel_format else 8,
        color_primaries=primaries,
        color_transfer=transfer,
        color_space=matrix,
        color_range=colour_range,
    )


@pytest.mark.parametrize(
    "tags",
    [
        BT709,
        ("smpte170m", "smpte170m", "smpte170m", "tv"),
        ("bt470bg", "bt470bg", "bt470bg", "tv"),
        ("bt709", "iec61966-2-1", "bt709", "tv"),
        ("bt709", "bt709", "bt470bg", "pc"),
    ],
)
def test_colours_that_players_show_cost_nothing(tags: tuple[str, str, str, str]) -> None:
    assert colour_of(source(tags)) == Colour((), (), TO_TV, ())


@pytest.mark.parametrize(
    ("video", "said"),
    [
        (source(), "range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"),
        (
            source(size=(1280, 536)),
            "range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709",
        ),
        (
            source(size=(720, 576)),
            "range=tv:color_primaries=bt470bg:color_trc=smpte170m:colorspace=bt470bg",
        ),
        (
            source(size=(640, 360), rate=(50, 1)),
            "range=tv:color_primaries=bt470bg:color_trc=smpte170m:colorspace=bt470bg",
        ),
        (
            source(size=(720, 480)),
            "range=tv:color_primaries=smpte170m:color_trc=smpte170m:colorspace=smpte170m",
        ),
        (
            source(size=(640, 360), rate=(30000, 1001)),
            "range=tv:color_primaries=smpte170m:color_trc=smpte170m:colorspace=smpte170m",
        ),
        (
            source(("", "", "bt709", "tv"), size=(640, 360)),
            "color_primaries=bt709:color_trc=bt709",
        ),
        (source(("", "", "bt470bg", "tv")), "color_primaries=bt709:color_trc=bt709"),
        (source(("", "", "bt470bg", "pc"), "yuvj420p"), "color_primaries=bt709:color_trc=bt709"),
        (source(("bt709", "bt709", "bt709", "")), "range=tv"),
    ],
)
def test_what_is_not_said_is_guessed_and_said(video: pb.VideoStream, said: str) -> None:
    assert colour_of(video) == Colour((f"setparams={said}",), (), TO_TV, ())


@pytest.mark.parametrize(
    "pixel_format", ["rgb24", "gbrp10le", "0rgb", "bgr0", "x2rgb10le", "gbrp", "bgr48le"]
)
@pytest.mark.parametrize("matrix", ["gbr", ""])
def test_rgb_becomes_bt709(pixel_format: str, matrix: str) -> None:
    colour = colour_of(source(("", "", matrix, "pc"), pixel_format, size=(640, 480)))
    said = ("setparams=color_primaries=bt709:color_trc=bt709",)
    assert colour == Colour(said, (), TO_BT709, ())


@pytest.mark.parametrize(
    ("tags", "said", "after"),
    [
        (("bt2020", "smpte2084", "bt2020nc", "tv"), "", FROM_PQ),
        (("bt2020", "arib-std-b67", "bt2020nc", "tv"), "", FROM_HLG),
        (("", "smpte2084", "", "tv"), "color_primaries=bt2020:colorspace=bt2020nc", FROM_PQ),
        (("bt2020", "smpte2084", "ictcp", "pc"), "", FROM_PQ),
        (
            ("bt2020", "bt2020-10", "bt2020nc", "tv"),
            "",
            ("zscale=p=bt709:t=bt709:m=bt709:r=tv:d=ordered",),
        ),
        (
            ("bt2020", "", "", "tv"),
            "color_trc=bt709:colorspace=bt2020nc",
            ("zscale=p=bt709:t=bt709:m=bt709:r=tv:d=ordered",),
        ),
        (
            ("smpte432", "iec61966-2-1", "bt709", "tv"),
            "",
            ("zscale=p=bt709:t=iec61966-2-1:m=bt709:r=tv:d=ordered",),
        ),
        (
            ("smpte431", "bt709", "bt709", "tv"),
            "color_primaries=smpte432",
            ("zscale=p=bt709:t=bt709:m=bt709:r=tv:d=ordered",),
        ),
        (("bt709", "bt709", "bt709", "pc"), "", ("zscale=r=tv:d=ordered",)),
    ],
)
def test_other_colours_are_converted(
    tags: tuple[str, str, str, str], said: str, after: tuple[str, ...]
) -> None:
    before = (f"setparams={said}",) if said else ()
    assert colour_of(source(tags, "yuv420p10le")) == Colour(before, (), "", after)


@pytest.mark.parametrize("colour_range", ["tv", "pc"])
def test_grey_keeps_its_range_until_zscale_reads_it(colour_range: str) -> None:
    colour = colour_of(source(("bt709", "bt709", "bt709", colour_range), "gray12le"))
    assert colour == Colour(
        ("setparams=range=pc:color_primaries=bt709:color_trc=bt709:colorspace=bt709",),
        (),
        "",
        ("format=gray|gray10le", f"setparams=range={colour_range}", "zscale=r=tv:d=ordered"),
    )


@pytest.mark.parametrize(
    ("pixel_format", "alpha"),
    [
        *((name, True) for name in ("yuva420p", "yuva444p12le", "gbrap", "gbrap16le", "pal8")),
        *((name, True) for name in ("rgba", "argb", "bgra", "abgr", "rgba64le", "ya8", "ayuv64le")),
        *((name, False) for name in ("yuv420p", "yuvj422p", "gray", "gbrp", "0rgb", "rgb0")),
    ],
)
def test_what_can_be_seen_through_lies_over_black(pixel_format: str, alpha: bool) -> None:
    over_black = ("premultiply=inplace=1",) if alpha else ()
    assert colour_of(source(BT709, pixel_format)).over_black == over_black


@pytest.mark.parametrize(
    ("told", "curve"),
    [("bt470m", "bt470m"), ("gamma22", "bt470m"), ("gamma28", "bt470bg")],
)
def test_curves_are_named_as_filters_name_them(told: str, curve: str) -> None:
    """Versions of before had names that these do not know."""
    wide = colour_of(source(("smpte432", told, "bt709", "tv")))
    assert wide.after == (f"zscale=p=bt709:t={curve}:m=bt709:r=tv:d=ordered",)
    grey = colour_of(source(("bt709", told, "bt709", "tv"), "gray"))
    assert f"color_trc={curve}" in grey.before[0]
