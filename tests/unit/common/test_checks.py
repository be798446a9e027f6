"""Names of sources and settings of exports."""

from __future__ import annotations

import pytest

from services.common.checks import settings_violations, source_violations
from videoexport.v1 import export_pb2 as pb

VIDEO = "vid_" + "0" * 32


def fields(source: pb.Source) -> list[str]:
    return [item.field for item in source_violations(source)]


def s3(bucket: str = "rushes", key: str = "a.mp4") -> pb.Source:
    return pb.Source(s3_object=pb.S3Object(bucket=bucket, key=key))


@pytest.mark.parametrize(
    "source",
    [
        pb.Source(video_id=VIDEO),
        s3(key="day 1/Ünïcödé 映画 (1).mp4"),
        s3(key="x" * 1024),
        s3(key="é" * 512),
        s3(key="a..b/..c/d.."),
        s3(bucket="Old_Style.bucket-1"),
        s3(bucket="b" * 63),
    ],
)
def test_source_that_may_be(source: pb.Source) -> None:
    assert fields(source) == []


@pytest.mark.parametrize(
    ("source", "field"),
    [
        (pb.Source(), "source"),
        (pb.Source(video_id=""), "source.video_id"),
        (pb.Source(video_id="vid_../../etc"), "source.video_id"),
        (pb.Source(video_id="exp_" + "0" * 32), "source.video_id"),
        (pb.Source(video_id=VIDEO + "\x00"), "source.video_id"),
        (pb.Source(video_id="vid_" + "0" * 100_000), "source.video_id"),
        (s3(key=""), "source.s3_object.key"),
        (s3(key="x" * 1025), "source.s3_object.key"),
        (s3(key="é" * 513), "source.s3_object.key"),
        (s3(key="a\x00b"), "source.s3_object.key"),
        (s3(key="a\nb"), "source.s3_object.key"),
        (s3(key="a\u202eb"), "source.s3_object.key"),
        (s3(key=".."), "source.s3_object.key"),
        (s3(key="../other/a.mp4"), "source.s3_object.key"),
        (s3(key="a/../b.mp4"), "source.s3_object.key"),
        (s3(key="a/./b.mp4"), "source.s3_object.key"),
        (s3(key="a/.."), "source.s3_object.key"),
        (s3(key="/a.mp4"), "source.s3_object.key"),
        (s3(key="a//b.mp4"), "source.s3_object.key"),
        (s3(key="a/"), "source.s3_object.key"),
        (s3(bucket=""), "source.s3_object.bucket"),
        (s3(bucket="b" * 64), "source.s3_object.bucket"),
        (s3(bucket=".."), "source.s3_object.bucket"),
        (s3(bucket="a..b"), "source.s3_object.bucket"),
        (s3(bucket="a/b"), "source.s3_object.bucket"),
        (s3(bucket="../b"), "source.s3_object.bucket"),
        (s3(bucket="a\nb"), "source.s3_object.bucket"),
        (s3(bucket="rushes\n"), "source.s3_object.bucket"),
        (s3(bucket="bücket"), "source.s3_object.bucket"),
    ],
)
def test_source_that_may_not_be(source: pb.Source, field: str) -> None:
    assert fields(source) == [field]


def test_bucket_and_key_are_both_listed() -> None:
    assert fields(s3(bucket="", key="")) == ["source.s3_object.bucket", "source.s3_object.key"]


def test_settings_that_are_empty_or_known_may_be() -> None:
    assert settings_violations(pb.ExportSettings()) == []
    assert not settings_violations(
        pb.ExportSettings(
            resolution=pb.RESOLUTION_1080P,
            quality=pb.QUALITY_LOW,
            format=pb.FORMAT_MP4,
            encoder=pb.ENCODER_PREFERENCE_GPU,
            frame_rate=pb.Rational(numerator=30000, denominator=1001),
        )
    )


ENUMS = ["resolution", "quality", "format", "encoder", "fit", "video_codec", "dynamic_range"]


@pytest.mark.parametrize("name", ENUMS)
@pytest.mark.parametrize("value", [99, -1])
def test_unknown_enum_value_is_refused(name: str, value: int) -> None:
    [violation] = settings_violations(pb.ExportSettings(**{name: value}))  # type: ignore[arg-type]
    assert violation.field == f"settings.{name}"


@pytest.mark.parametrize(
    ("numerator", "denominator", "valid"),
    [
        (1, 1, True),
        (120, 1, True),
        (60000, 1001, True),
        (121, 1, False),
        (120001, 1000, False),
        (999, 1000, False),
        (0, 1, False),
        (25, 0, False),
        (0, 0, False),
        (-25, -1, False),
        (25, -1, False),
        (-25, 1, False),
    ],
)
def test_frame_rate_is_from_one_to_120(numerator: int, denominator: int, valid: bool) -> None:
    rate = pb.Rational(numerator=numerator, denominator=denominator)
    found = [item.field for item in settings_violations(pb.ExportSettings(frame_rate=rate))]
    assert found == ([] if valid else ["settings.frame_rate"])


def test_every_faulty_setting_is_listed() -> None:
    faulty = pb.ExportSettings(
        resolution=9,  # type: ignore[arg-type]
        quality=9,  # type: ignore[arg-type]
        format=9,  # type: ignore[arg-type]
        encoder=9,  # type: ignore[arg-type]
        frame_rate=pb.Rational(),
    )
    assert [item.field for item in settings_violations(faulty)] == [
        "settings.resolution",
        "settings.quality",
        "settings.format",
        "settings.encoder",
        "settings.frame_rate",
    ]


def test_watermark_is_an_image_somewhere_with_shares_of_the_frame() -> None:
    named = pb.Source(video_id="vid_" + "0" * 32)
    good = pb.Watermark(image=named, position=pb.WATERMARK_POSITION_CENTER, margin=0, width=1)
    assert settings_violations(pb.ExportSettings(watermark=good)) == []
    bad = pb.Watermark(
        image=pb.Source(s3_object=pb.S3Object(bucket="b", key="k")),
        position=9,  # type: ignore[arg-type]
        margin=-0.1,
        width=0,
        opacity=float("nan"),
    )
    found = settings_violations(pb.ExportSettings(watermark=bad))
    assert [violation.field for violation in found] == [
        f"settings.watermark.{name}"
        for name in ("image.s3_object.bucket", "position", "margin", "width", "opacity")
    ]
    [missing] = settings_violations(pb.ExportSettings(watermark=pb.Watermark()))
    assert missing.field == "settings.watermark.image"
