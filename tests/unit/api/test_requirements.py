"""What an encoder of the release before would pass over, and so must not be asked for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from services.api.requirements import requirements
from services.common.smart_copy import plan_with_copies
from services.common.sound import LEFT, RIGHT
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb

INFO = pb.SourceInfo(video=pb.VideoStream(field_order=pb.FIELD_ORDER_PROGRESSIVE))
PLAIN = pb.Plan(
    fit=pb.FIT_PAD,
    format=pb.FORMAT_MP4,
    video_codec=pb.VIDEO_CODEC_H264,
    quality=pb.QUALITY_HIGH,
    has_audio=True,
)


def asked(plan: pb.Plan, info: pb.SourceInfo = INFO, lane: Lane = Lane.CPU) -> set[tuple[str, str]]:
    """Return what must be known, and in which lanes, of a plan beside what all know."""
    merged, known = pb.Plan(), pb.SourceInfo()
    merged.CopyFrom(PLAIN)
    merged.MergeFrom(plan)
    known.CopyFrom(INFO)
    known.MergeFrom(info)
    return {(each.name, each.lane) for each in requirements(known, merged, lane)}


def test_usual_export_asks_for_nothing_new() -> None:
    assert requirements(INFO, PLAIN, Lane.CPU) == []
    # As plans of before say it, or an encoder that tells nothing of fields.
    assert requirements(pb.SourceInfo(), pb.Plan(), Lane.GPU) == []


@pytest.mark.parametrize("lane", [Lane.CPU, Lane.GPU])
@pytest.mark.parametrize(
    ("plan", "name"),
    [
        (pb.Plan(loudness_lufs=-16), "loudness_lufs"),
        (pb.Plan(video_codec=pb.VIDEO_CODEC_HEVC), "VIDEO_CODEC_HEVC"),
        (pb.Plan(format=pb.FORMAT_WEBM), "FORMAT_WEBM"),
        (pb.Plan(quality=pb.QUALITY_SOURCE), "QUALITY_SOURCE"),
        (
            pb.Plan(metadata=pb.OutputMetadata(has_location_and_device=True)),
            "keep_location_and_device",
        ),
        (pb.Plan(subtitles=pb.PlannedSubtitles(stream=2)), "subtitles"),
        *(
            (pb.Plan(metadata=told), "tags, chapters and languages")
            for told in (
                pb.OutputMetadata(tags=[pb.MetadataTag(key="title", value="A talk")]),
                pb.OutputMetadata(chapters=[pb.PlannedChapter(end_frame=10)]),
                pb.OutputMetadata(video_language="deu"),
                pb.OutputMetadata(audio_language="deu"),
            )
        ),
    ],
)
def test_setting_must_be_known_to_all_who_make_a_part_of_the_output(
    plan: pb.Plan, name: str, lane: Lane
) -> None:
    assert asked(plan, lane=lane) == {(name, lane), (name, Lane.MUX)}


@pytest.mark.parametrize("fit", [pb.FIT_CROP, pb.FIT_STRETCH])
def test_fit_must_be_known_to_those_who_make_pictures(fit: pb.Fit.ValueType) -> None:
    assert asked(pb.Plan(fit=fit), lane=Lane.GPU) == {(pb.Fit.Name(fit), Lane.GPU)}


def test_size_of_the_source_is_called_by_its_name() -> None:
    own = pb.Plan(resolution=pb.RESOLUTION_SOURCE, fit=pb.FIT_CROP)
    assert asked(own) == {("RESOLUTION_SOURCE", Lane.CPU)}


def test_watermark_must_be_known_to_those_who_make_pictures() -> None:
    assert asked(pb.Plan(watermark=pb.Watermark(width=0.2))) == {("watermark", Lane.CPU)}


def test_comparison_is_made_on_the_cpu_whoever_encodes() -> None:
    found = asked(pb.Plan(measure_quality=True), lane=Lane.GPU)
    assert found == {("measure_quality", Lane.CPU)}


def test_sources_that_older_encoders_take_for_others_must_be_known() -> None:
    fields = pb.SourceInfo(video=pb.VideoStream(field_order=pb.FIELD_ORDER_TOP_FIRST))
    assert asked(pb.Plan(), fields) == {("interlaced sources", Lane.CPU)}
    jumps = pb.SourceInfo(time_breaks=[pb.TimeBreak(position=188, frame=10)])
    name = "recordings whose clock jumps"
    assert asked(pb.Plan(), jumps) == {(name, Lane.CPU), (name, Lane.MUX)}


@pytest.mark.parametrize(
    ("video", "name"),
    [
        (pb.VideoStream(color_transfer="smpte2084"), "sources in HDR or wide gamuts"),
        (pb.VideoStream(color_primaries="smpte432"), "sources in HDR or wide gamuts"),
        (pb.VideoStream(color_space="bt2020nc"), "sources in HDR or wide gamuts"),
        (pb.VideoStream(pixel_format="yuva444p10le"), "transparent sources"),
    ],
)
def test_pictures_that_older_encoders_make_look_otherwise_must_be_known(
    video: pb.VideoStream, name: str
) -> None:
    assert asked(pb.Plan(), pb.SourceInfo(video=video)) == {(name, Lane.CPU)}
    # Of its sound alone anybody makes the same.
    sound = requirements(pb.SourceInfo(video=video), pb.Plan(format=pb.FORMAT_M4A), Lane.CPU)
    assert {each.name for each in sound} == {"FORMAT_M4A"}


def test_sides_of_stereo_in_two_streams_must_be_known() -> None:
    sides = [pb.AudioStream(index=1, channel_layout=LEFT), pb.AudioStream(channel_layout=RIGHT)]
    pair = pb.SourceInfo(audio=sides[0], audio_streams=sides)
    name = "stereo in two streams"
    assert asked(pb.Plan(), pair) == {(name, Lane.CPU), (name, Lane.MUX)}
    usual = pb.SourceInfo(audio=sides[0], audio_streams=sides[:1])
    assert asked(pb.Plan(), usual) == set()


# Completeness


ROOT = Path(__file__).resolve().parents[3]
SOURCE = pb.SourceInfo(
    video=pb.VideoStream(
        width=1280,
        height=720,
        frame_count=100,
        frame_rate=pb.Rational(numerator=25, denominator=1),
        avc_configuration=b"x",
        keyframes=[0, 50],
    ),
    audio=pb.AudioStream(index=1),
    audio_streams=[pb.AudioStream(index=1)],
    metadata=pb.SourceMetadata(location_and_device=[pb.MetadataTag(key="make", value="Acme")]),
    subtitle_streams=[pb.SubtitleStream(index=2, text=True)],
)
# Settings that the release before did not have, by field: one that asks for it.
NEW_FIELDS = {
    "fit": pb.ExportSettings(fit=pb.FIT_CROP),
    "video_codec": pb.ExportSettings(video_codec=pb.VIDEO_CODEC_HEVC),
    "dynamic_range": pb.ExportSettings(
        dynamic_range=pb.DYNAMIC_RANGE_KEEP, video_codec=pb.VIDEO_CODEC_AV1
    ),
    "audio_stream": pb.ExportSettings(audio_stream=1),
    "loudness_lufs": pb.ExportSettings(loudness_lufs=-16),
    "keep_location_and_device": pb.ExportSettings(keep_location_and_device=True),
    "poster": pb.ExportSettings(poster=pb.PosterSettings()),
    "sprites": pb.ExportSettings(sprites=pb.SpriteSettings()),
    "subtitles": pb.ExportSettings(subtitles=pb.SubtitleSettings(stream=2)),
    "watermark": pb.ExportSettings(watermark=pb.Watermark(width=0.1)),
    "measure_quality": pb.ExportSettings(measure_quality=True),
}
# And values of those that it had.
NEW_VALUES = {
    "RESOLUTION_480P": pb.ExportSettings(resolution=pb.RESOLUTION_480P),
    "RESOLUTION_1440P": pb.ExportSettings(resolution=pb.RESOLUTION_1440P),
    "RESOLUTION_2160P": pb.ExportSettings(resolution=pb.RESOLUTION_2160P),
    "RESOLUTION_SOURCE": pb.ExportSettings(resolution=pb.RESOLUTION_SOURCE),
    "QUALITY_SOURCE": pb.ExportSettings(quality=pb.QUALITY_SOURCE),
    "FORMAT_MOV": pb.ExportSettings(format=pb.FORMAT_MOV),
    "FORMAT_WEBM": pb.ExportSettings(format=pb.FORMAT_WEBM),
    "FORMAT_M4A": pb.ExportSettings(format=pb.FORMAT_M4A),
}
# What an encoder of before makes right: tasks say the stream, and the size in pixels.
KNOWN_BEFORE = {"audio_stream", "RESOLUTION_480P", "RESOLUTION_1440P", "RESOLUTION_2160P"}


def test_every_new_setting_is_asked_of_those_that_know_it() -> None:
    before = FileDescriptorSet.FromString(
        (ROOT / "tests/fixtures/previous/descriptors.binpb").read_bytes()
    )
    [settings] = [
        kind for file in before.file for kind in file.message_type if kind.name == "ExportSettings"
    ]
    fields = {field.name: field for field in settings.field}
    values = {value.name for file in before.file for kind in file.enum_type for value in kind.value}
    now = pb.ExportSettings.DESCRIPTOR.fields
    assert set(NEW_FIELDS) == {field.name for field in now} - set(fields)
    assert (
        set(NEW_VALUES)
        == {
            value.name
            for field in now
            if field.name in fields and field.enum_type is not None
            for value in field.enum_type.values
        }
        - values
    )
    for name, wanted in {**NEW_FIELDS, **NEW_VALUES}.items():
        plan, _ = plan_with_copies(SOURCE, (), wanted)
        found = requirements(SOURCE, plan, Lane.CPU)
        assert bool(found) == (name not in KNOWN_BEFORE), name


def test_operators_are_told_all_that_waits_for_newer_encoders() -> None:
    asked_for = [*NEW_FIELDS.values(), *NEW_VALUES.values()]
    plans = [plan_with_copies(SOURCE, (), wanted)[0] for wanted in asked_for]
    plans += [pb.Plan(video_codec=codec) for codec in pb.VideoCodec.values()]
    plans += [pb.Plan(fit=fit) for fit in pb.Fit.values()]
    sides = [pb.AudioStream(index=1, channel_layout=LEFT), pb.AudioStream(channel_layout=RIGHT)]
    particular = [
        pb.SourceInfo(audio=sides[0], audio_streams=sides),
        pb.SourceInfo(time_breaks=[pb.TimeBreak(position=188)]),
        *(
            pb.SourceInfo(video=video)
            for video in (
                pb.VideoStream(field_order=pb.FIELD_ORDER_TOP_FIRST),
                pb.VideoStream(color_transfer="arib-std-b67"),
                pb.VideoStream(pixel_format="yuva420p"),
            )
        ),
    ]
    named = {each.name for plan in plans for each in requirements(SOURCE, plan, Lane.CPU)}
    named |= {each.name for info in particular for each in requirements(info, PLAIN, Lane.CPU)}
    told = (ROOT / "docs/deploy.md").read_text()
    listed = re.findall(r"^\| `?([^|`]+)`? \| recipe 2 \|", told, re.MULTILINE)
    assert sorted(each.strip() for each in listed) == sorted(named)
