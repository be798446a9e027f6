"""What an encoder of the release before would pass over, and so must not be asked for."""

from __future__ import annotations

import pytest

from services.api.requirements import requirements
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb

INFO = pb.SourceInfo(video=pb.VideoStream(field_order=pb.FIELD_ORDER_PROGRESSIVE))
PLAIN = pb.Plan(
    fit=pb.FIT_PAD,
    format=pb.FORMAT_MP4,
    video_codec=pb.VIDEO_CODEC_H264,
    quality=pb.QUALITY_HIGH,
    metadata=pb.OutputMetadata(tags=[pb.MetadataTag(key="title", value="A talk")]),
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
    ],
)
def test_setting_must_be_known_to_all_who_make_a_part_of_the_output(
    plan: pb.Plan, name: str, lane: Lane
) -> None:
    assert asked(plan, lane=lane) == {(name, lane), (name, Lane.MUX)}


@pytest.mark.parametrize("fit", [pb.FIT_CROP, pb.FIT_STRETCH])
def test_fit_must_be_known_to_those_who_make_pictures(fit: pb.Fit.ValueType) -> None:
    assert asked(pb.Plan(fit=fit), lane=Lane.GPU) == {(pb.Fit.Name(fit), Lane.GPU)}


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
