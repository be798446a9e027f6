"""Settings that do not go together, or not with the source, are refused with the reason."""

from __future__ import annotations

import pytest

from services.common.checks import settings_violations
from services.common.codecs import CONTAINERS, NAMES, codec_of
from services.common.combinations import sound_violations
from videoexport.v1 import export_pb2 as pb

MUTE = pb.SourceInfo(video=pb.VideoStream(width=64, height=64))
HEARD = pb.SourceInfo(video=pb.VideoStream(width=64, height=64), audio=pb.AudioStream(index=1))
PAIRS = [(form, codec) for form in CONTAINERS for codec in NAMES]


def refused(**settings: object) -> dict[str, str]:
    found = settings_violations(pb.ExportSettings(**settings))  # type: ignore[arg-type]
    return {item.field.removeprefix("settings."): item.description for item in found}


@pytest.mark.parametrize(("form", "codec"), PAIRS)
def test_codec_goes_with_the_containers_that_hold_it(
    form: pb.Format.ValueType, codec: pb.VideoCodec.ValueType
) -> None:
    found = refused(format=form, video_codec=codec)
    container = CONTAINERS[form]
    if codec in container.codecs:
        assert not found
    elif container.codecs:
        assert list(found) == ["video_codec"]
        assert found["video_codec"].startswith(f"{container.name} is made with ")
        assert found["video_codec"].endswith(f", not with {NAMES[codec]}")
    else:
        assert "sound alone" in found["video_codec"]


def test_reason_names_what_a_container_holds() -> None:
    assert refused(format=pb.FORMAT_WEBM, video_codec=pb.VIDEO_CODEC_H264) == {
        "video_codec": "WebM is made with VP9 or AV1, not with H.264"
    }


@pytest.mark.parametrize(
    ("form", "codec"),
    [
        (pb.FORMAT_UNSPECIFIED, pb.VIDEO_CODEC_H264),
        (pb.FORMAT_MP4, pb.VIDEO_CODEC_H264),
        (pb.FORMAT_MOV, pb.VIDEO_CODEC_H264),
        (pb.FORMAT_WEBM, pb.VIDEO_CODEC_VP9),
        (pb.FORMAT_M4A, pb.VIDEO_CODEC_UNSPECIFIED),
    ],
)
def test_container_has_a_default_codec(
    form: pb.Format.ValueType, codec: pb.VideoCodec.ValueType
) -> None:
    assert codec_of(pb.ExportSettings(format=form)) == codec


def test_hdr_is_kept_with_ten_bits_only() -> None:
    keep = pb.DYNAMIC_RANGE_KEEP
    for given in ({}, {"video_codec": pb.VIDEO_CODEC_H264}, {"format": pb.FORMAT_MOV}):
        found = refused(dynamic_range=keep, **given)
        assert list(found) == ["dynamic_range"]
        assert "8 bits" in found["dynamic_range"]
    assert not refused(dynamic_range=keep, video_codec=pb.VIDEO_CODEC_AV1)
    assert not refused(dynamic_range=keep, format=pb.FORMAT_WEBM)
    assert not refused(dynamic_range=pb.DYNAMIC_RANGE_SDR)


@pytest.mark.parametrize("fit", [pb.FIT_CROP, pb.FIT_STRETCH])
def test_output_of_the_sources_size_has_nothing_to_fit(fit: pb.Fit.ValueType) -> None:
    for own in ({"resolution": pb.RESOLUTION_SOURCE}, {"quality": pb.QUALITY_SOURCE}):
        found = refused(fit=fit, **own)
        assert list(found) == ["fit"]
        assert "the source's own shape" in found["fit"]
        assert not refused(fit=pb.FIT_PAD, **own)
    # Where its source turns out to be of another size, it is encoded, and fitted.
    assert not refused(fit=fit, quality=pb.QUALITY_SOURCE, resolution=pb.RESOLUTION_720P)
    assert not refused(fit=fit)


def test_sound_alone_has_no_settings_of_pictures() -> None:
    found = refused(
        format=pb.FORMAT_M4A,
        resolution=pb.RESOLUTION_720P,
        fit=pb.FIT_CROP,
        quality=pb.QUALITY_HIGH,
        video_codec=pb.VIDEO_CODEC_HEVC,
        dynamic_range=pb.DYNAMIC_RANGE_KEEP,
        frame_rate=pb.Rational(numerator=25, denominator=1),
        encoder=pb.ENCODER_PREFERENCE_GPU,
        measure_quality=True,
        subtitles=pb.SubtitleSettings(stream=2),
        watermark=pb.Watermark(image=pb.Source(video_id="vid_" + "0" * 32)),
        poster=pb.PosterSettings(),
        sprites=pb.SpriteSettings(),
    )
    assert list(found) == [
        *("resolution", "fit", "quality", "video_codec", "dynamic_range", "frame_rate", "encoder"),
        *("measure_quality", "subtitles", "watermark", "poster", "sprites"),
    ]
    assert set(found.values()) == {"M4A is sound alone, which has no such setting"}
    # What a client always says, because it is the default, is no wish.
    assert not refused(
        format=pb.FORMAT_M4A,
        fit=pb.FIT_PAD,
        dynamic_range=pb.DYNAMIC_RANGE_SDR,
        encoder=pb.ENCODER_PREFERENCE_AUTO,
        loudness_lufs=-16,
        audio_stream=2,
    )


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("subtitles", pb.SubtitleSettings(stream=2, mode=pb.SUBTITLE_MODE_BURN_IN)),
        ("watermark", pb.Watermark(image=pb.Source(video_id="vid_" + "0" * 32))),
    ],
)
def test_what_is_drawn_does_not_go_with_copies_nor_with_a_comparison(
    name: str, drawn: pb.SubtitleSettings | pb.Watermark
) -> None:
    found = refused(quality=pb.QUALITY_SOURCE, measure_quality=True, **{name: drawn})
    assert list(found) == ["quality", "measure_quality"]
    hdr = {"dynamic_range": pb.DYNAMIC_RANGE_KEEP, "video_codec": pb.VIDEO_CODEC_HEVC}
    assert list(refused(**hdr, **{name: drawn})) == ["dynamic_range"]
    assert name in found["measure_quality"]
    kept = pb.SubtitleSettings(stream=2)
    assert not refused(quality=pb.QUALITY_SOURCE, measure_quality=True, subtitles=kept)


@pytest.mark.parametrize(
    "others",
    [
        {"format": pb.FORMAT_WEBM},
        {"format": pb.FORMAT_MOV},
        {"video_codec": pb.VIDEO_CODEC_HEVC},
    ],
)
def test_pictures_are_copied_as_h264_into_mp4_alone(others: dict[str, int]) -> None:
    assert "copies H.264 into MP4" in refused(quality=pb.QUALITY_SOURCE, **others)["quality"]
    assert not refused(quality=pb.QUALITY_SOURCE)


def test_sound_alone_needs_a_source_with_sound() -> None:
    [violation] = sound_violations(MUTE, pb.ExportSettings(format=pb.FORMAT_M4A))
    assert violation.field == "settings.format"
    assert violation.description == "the source has no sound, and M4A is sound alone"
    assert not sound_violations(HEARD, pb.ExportSettings(format=pb.FORMAT_M4A))
    assert not sound_violations(MUTE, pb.ExportSettings(format=pb.FORMAT_WEBM))


def test_unknown_values_are_listed_once() -> None:
    assert refused(format=9, video_codec=9) == {
        "format": "is not a known value",
        "video_codec": "is not a known value",
    }
