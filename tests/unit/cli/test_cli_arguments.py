"""Arguments become messages; what cannot be parsed is told by name."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from videoexport.cli.arguments import FrameRateType, LocalFile, SegmentType, SourceType, TimeType
from videoexport.cli.order_options import Order, order_options, suffix_of
from videoexport.cli.output import output_name, output_path
from videoexport.v1 import export_pb2

VIDEO_ID = "vid_" + "0f" * 16


def as_source(text: str) -> LocalFile | export_pb2.Source:
    return SourceType().convert(text, None, None)


def test_source_is_a_file_when_there_is_one(tmp_path: Path) -> None:
    file = tmp_path / "talk.mp4"
    file.write_bytes(b"x")
    assert as_source(str(file)) == LocalFile(file)


def test_source_is_a_video_id_even_beside_a_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(VIDEO_ID).write_bytes(b"x")
    assert as_source(VIDEO_ID) == export_pb2.Source(video_id=VIDEO_ID)
    assert as_source(f"./{VIDEO_ID}") == LocalFile(Path(VIDEO_ID))


def test_source_leaves_a_doubtful_video_id_to_the_service() -> None:
    assert as_source("vid_nope") == export_pb2.Source(video_id="vid_nope")


def test_source_names_bucket_and_key() -> None:
    s3_object = export_pb2.S3Object(bucket="footage", key="2026/talk 1.mp4")
    assert as_source("s3://footage/2026/talk 1.mp4") == export_pb2.Source(s3_object=s3_object)


@pytest.mark.parametrize(
    "text", ["", "nosuch.mp4", "s3://bucket", "s3:///key", "exp_12", "/dev/null", "."]
)
def test_source_refuses_what_names_nothing(text: str) -> None:
    with pytest.raises(click.BadParameter):
        as_source(text)


@pytest.mark.parametrize("text", ["5-nan", "inf-9", "-1-5", "1", "x-y", "1:99-2:00"])
def test_segment_names_the_text_that_is_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match="START-END") as caught:
        SegmentType().convert(text, None, None)
    assert repr(text) in caught.value.message


@pytest.mark.parametrize(
    ("text", "numerator", "denominator"),
    [
        ("25", 25, 1),
        ("29.97", 2997, 100),
        ("30000/1001", 30000, 1001),
        # The service lists these with all other violations.
        ("0", 0, 1),
        ("25/0", 25, 0),
    ],
)
def test_frame_rate_is_kept_as_written(text: str, numerator: int, denominator: int) -> None:
    rate = FrameRateType().convert(text, None, None)
    assert (rate.numerator, rate.denominator) == (numerator, denominator)


@given(st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_frame_rate_carries_every_fraction(numerator: int, denominator: int) -> None:
    rate = FrameRateType().convert(f"{numerator}/{denominator}", None, None)
    assert (rate.numerator, rate.denominator) == (numerator, denominator)


@pytest.mark.parametrize(
    "text", ["", "fast", "nan", "-25", "25/", "1e3", "2147483648", "0.00000000001"]
)
def test_frame_rate_refuses_what_is_none(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"rate|digits"):
        FrameRateType().convert(text, None, None)


def test_output_in_a_directory_is_named_after_the_source(tmp_path: Path) -> None:
    named = {
        output_name(LocalFile(Path("/videos/talk.mov"))): "talk-export",
        output_name(export_pb2.Source(video_id=VIDEO_ID)): f"{VIDEO_ID}-export",
        output_name(as_source("s3://footage/2026/talk.mp4")): "talk-export",
    }
    assert list(named) == list(named.values())
    assert (
        output_path(tmp_path, "talk-export", suffix=".mp4", force=False)
        == tmp_path / "talk-export.mp4"
    )


def test_output_does_not_replace_unless_forced(tmp_path: Path) -> None:
    file = tmp_path / "cut.mp4"
    assert output_path(file, "name", suffix=".mp4", force=False) == file
    file.write_bytes(b"kept")
    with pytest.raises(click.UsageError, match="--force"):
        output_path(file, "name", suffix=".mp4", force=False)
    with pytest.raises(click.UsageError, match="--force"):
        output_path(tmp_path, "cut", suffix=".mp4", force=False)
    assert output_path(file, "name", suffix=".mp4", force=True) == file


def test_output_never_replaces_the_source(tmp_path: Path) -> None:
    file = tmp_path / "talk.mp4"
    file.write_bytes(b"x")
    with pytest.raises(click.UsageError, match="is the source"):
        output_path(file, "name", suffix=".mp4", force=True, source=LocalFile(file))
    soft, hard = tmp_path / "soft.mp4", tmp_path / "hard.mp4"
    soft.symlink_to(file)
    hard.hardlink_to(file)
    for link in (soft, hard):
        with pytest.raises(click.UsageError, match="is the source"):
            output_path(link, "name", suffix=".mp4", force=True, source=LocalFile(file))


def test_output_is_no_link_that_leads_nowhere(tmp_path: Path) -> None:
    link = tmp_path / "cut.mp4"
    link.symlink_to(tmp_path / "unmounted" / "cut.mp4")
    for force in (False, True):
        with pytest.raises(click.UsageError, match=r"cut\.mp4 is not a file"):
            output_path(link, "name", suffix=".mp4", force=force)


def test_output_needs_a_place_that_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match="no directory"):
        output_path(tmp_path / "missing" / "cut.mp4", "name", suffix=".mp4", force=False)
    with pytest.raises(click.UsageError, match="not a file"):
        output_path(Path(os.devnull), "name", suffix=".mp4", force=True)


def test_file_in_a_directory_is_called_as_its_format_is(tmp_path: Path) -> None:
    assert output_path(tmp_path, "cut", suffix=".webm", force=False) == tmp_path / "cut.webm"
    # A file that is named keeps its name.
    named = tmp_path / "cut.bin"
    assert output_path(named, "cut", suffix=".webm", force=False) == named
    forms = (export_pb2.FORMAT_UNSPECIFIED, *export_pb2.Format.values()[1:])
    assert [suffix_of(form) for form in forms] == [".mp4", ".mp4", ".mov", ".webm", ".m4a"]


def test_file_that_is_named_for_another_format_is_refused(tmp_path: Path) -> None:
    for name, suffix in (("cut.mp4", ".webm"), ("cut.WebM", ".mp4"), ("cut.mov", ".m4a")):
        with pytest.raises(click.UsageError, match=f"not named for {suffix[1:]}"):
            output_path(tmp_path / name, "name", suffix=suffix, force=False)
    for name in ("cut.MP4", "cut.m4v", "cut"):
        assert output_path(tmp_path / name, "name", suffix=".mp4", force=False)


@pytest.mark.parametrize(
    ("given", "name", "suffix"),
    [
        ([], "cut.webm", ".webm"),
        ([], "cut.M4A", ".m4a"),
        ([], "cut.bin", ".mp4"),
        ([], "folder.mov", ".mp4"),
        (["--format", "mov"], "cut.bin", ".mov"),
        (["--format", "mp4"], "cut.webm", ".mp4"),
    ],
)
def test_format_is_that_of_the_file_unless_one_is_given(
    tmp_path: Path, given: list[str], name: str, suffix: str
) -> None:
    (tmp_path / "folder.mov").mkdir()
    order = order_of(given)
    order.name_format(tmp_path / name)
    assert suffix_of(order.settings.format) == suffix


# One that sets every field of the settings.
ALL = (
    "--resolution 720p --fit crop --quality low --format mov --codec hevc --dynamic-range keep"
    " --frame-rate 25 --encoder cpu --audio-stream 1 --loudness -16 --measure-quality"
    " --keep-location-and-device --subtitles 2 --watermark s3://logos/logo.png --poster --sprites"
)


def test_every_setting_has_an_option() -> None:
    given = {field.name for field, _ in ordered(ALL.split()).ListFields()}
    assert given == {field.name for field in export_pb2.ExportSettings.DESCRIPTOR.fields}


def test_every_option_says_what_it_does_and_by_default() -> None:
    @click.command()
    @order_options
    def keep(order: Order) -> None:
        raise AssertionError(order)

    # What is asked for by being named.
    alone = {"--watermark", "--poster", "--sprites"}
    for option in keep.params:
        assert isinstance(option, click.Option)
        assert option.help
        said = "Default: " in option.help or option.show_default
        assert said or set(option.opts) & alone, option.opts


def order_of(given: list[str]) -> Order:
    orders: list[Order] = []

    @click.command()
    @order_options
    def keep(order: Order) -> None:
        orders.append(order)

    keep.main(given, standalone_mode=False)
    [order] = orders
    return order


def ordered(given: list[str]) -> export_pb2.ExportSettings:
    return order_of(given).settings


def test_codec_format_and_range_are_ordered_as_given() -> None:
    usual = ordered([])
    assert (usual.format, usual.video_codec, usual.dynamic_range) == (
        export_pb2.FORMAT_MP4,
        export_pb2.VIDEO_CODEC_UNSPECIFIED,
        export_pb2.DYNAMIC_RANGE_SDR,
    )
    given = ordered(["--format", "webm", "--codec", "av1", "--dynamic-range", "keep"])
    assert (given.format, given.video_codec, given.dynamic_range) == (
        export_pb2.FORMAT_WEBM,
        export_pb2.VIDEO_CODEC_AV1,
        export_pb2.DYNAMIC_RANGE_KEEP,
    )
    for options in (["--format", "avi"], ["--codec", "mpeg2"], ["--dynamic-range", "hdr"]):
        with pytest.raises(click.BadParameter):
            ordered(options)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([], {}),
        (["--audio-stream", "0"], {"audio_stream": 0}),
        (["--audio-stream", "2", "--loudness", "-16"], {"audio_stream": 2, "loudness_lufs": -16}),
        (["--loudness=-23.5"], {"loudness_lufs": -23.5}),
        (["--measure-quality"], {"measure_quality": True}),
    ],
)
def test_sound_and_measuring_are_ordered_as_given(
    given: list[str], wanted: dict[str, float]
) -> None:
    told = {field.name: value for field, value in ordered(given).ListFields()}
    for others in ("fit", "encoder", "format", "dynamic_range"):
        told.pop(others, None)
    assert told == wanted


def test_place_and_device_are_kept_on_request_alone() -> None:
    kept: list[bool] = []

    @click.command()
    @order_options
    def keep(order: Order) -> None:
        kept.append(order.settings.keep_location_and_device)

    for arguments in ([], ["--keep-location-and-device"]):
        keep.main(arguments, standalone_mode=False)
    assert kept == [False, True]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], None),
        (["--subtitles", "0"], (0, export_pb2.SUBTITLE_MODE_KEEP)),
        (["--subtitles=3", "--subtitle-mode", "burn-in"], (3, export_pb2.SUBTITLE_MODE_BURN_IN)),
    ],
)
def test_subtitles_are_ordered_as_given(
    arguments: list[str], wanted: tuple[int, int] | None
) -> None:
    orders: list[Order] = []

    @click.command()
    @order_options
    def keep(order: Order) -> None:
        orders.append(order)

    keep.main(arguments, standalone_mode=False)
    told = orders[0].settings
    found = (told.subtitles.stream, told.subtitles.mode) if told.HasField("subtitles") else None
    assert found == wanted


@pytest.mark.parametrize(
    "given",
    [
        ["--subtitle-mode", "burn-in"],
        ["--watermark-position", "center"],
        ["--watermark-opacity", "0.5"],
    ],
)
def test_option_that_says_how_needs_the_one_that_says_what(given: list[str]) -> None:
    @click.command()
    @order_options
    def keep(order: Order) -> None:
        raise AssertionError(order)

    with pytest.raises(click.UsageError, match=r"needs --(subtitles|watermark)"):
        keep.main(given, standalone_mode=False)


def test_watermark_is_ordered_as_given(tmp_path: Path) -> None:
    orders: list[Order] = []

    @click.command()
    @order_options
    def keep(order: Order) -> None:
        orders.append(order)

    logo = tmp_path / "logo.png"
    logo.write_bytes(b"x")
    more = ["--watermark-position", "center", "--watermark-width", "0.3"]
    for arguments in ([], ["--watermark", VIDEO_ID], ["--watermark", str(logo), *more]):
        keep.main(arguments, standalone_mode=False)
    none, named, file = orders
    assert not none.settings.HasField("watermark")
    assert named.settings.watermark == export_pb2.Watermark(
        image=export_pb2.Source(video_id=VIDEO_ID),
        position=export_pb2.WATERMARK_POSITION_BOTTOM_RIGHT,
    )
    assert (named.image, file.image) == (None, logo)
    assert file.settings.watermark == export_pb2.Watermark(
        position=export_pb2.WATERMARK_POSITION_CENTER, width=0.3
    )


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([], export_pb2.ExportSettings()),
        (["--poster"], export_pb2.ExportSettings(poster=export_pb2.PosterSettings())),
        (["--sprites"], export_pb2.ExportSettings(sprites=export_pb2.SpriteSettings())),
        (
            ["--poster-time", "1:02.5", "--poster-width", "640"],
            export_pb2.ExportSettings(
                poster=export_pb2.PosterSettings(
                    time=Duration(seconds=62, nanos=500_000_000), width=640
                )
            ),
        ),
        (
            ["--sprite-interval=5", "--sprite-columns=4", "--sprite-width=80"],
            export_pb2.ExportSettings(
                sprites=export_pb2.SpriteSettings(
                    interval=Duration(seconds=5), columns=4, tile_width=80
                )
            ),
        ),
    ],
)
def test_stills_are_ordered_as_given(
    arguments: list[str], wanted: export_pb2.ExportSettings
) -> None:
    orders: list[Order] = []

    @click.command()
    @order_options
    def keep(order: Order) -> None:
        orders.append(order)

    keep.main(arguments, standalone_mode=False)
    found = orders[0].settings
    assert found.HasField("poster") == wanted.HasField("poster")
    assert found.HasField("sprites") == wanted.HasField("sprites")
    assert (found.poster, found.sprites) == (wanted.poster, wanted.sprites)


def test_time_names_the_text_that_is_none() -> None:
    with pytest.raises(click.BadParameter, match=r"12\.5"):
        TimeType().convert("soon", None, None)
