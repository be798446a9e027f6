"""Whether the record that comes with an export says what is in its file. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from conformance.evidence import Evidence
from services.common.planner import fraction_of
from tests.media.recipes.recipe import Range, Recipe
from videoexport.v1 import export_pb2 as pb

# Seconds: what is counted packet by packet is exact, what is heard of it is not.
LENGTH_TOLERANCE = 0.002
# Clicks are heard to some milliseconds where their codec smears them.
OFFSET_TOLERANCE = 0.005
# LU and decibels between two meters of one sound.
LOUDNESS_TOLERANCE, PEAK_TOLERANCE = 0.2, 0.5


def record_problems(
    recipe: Recipe,
    record: pb.Verification,
    evidence: Evidence,
    ranges: Sequence[Range],
    offset: float | None = None,
) -> list[str]:
    """Return where a record differs from what was read back, in words.

    Args:
        ranges: frames of the output's grid that it shows.
        offset: the largest of a click from its picture, in seconds; None where none was heard.
    """
    frames = len(evidence.shown.times)
    planned = sum(end - start for start, end in ranges) if recipe.pictures else 0
    compared: list[tuple[str, object, object]] = [
        ("planned frames", record.planned_frame_count, planned),
        ("frames", record.frame_count, frames),
        ("degrees turned", record.rotation, recipe.turned if recipe.pictures else 0),
        ("stored as", _stored(record), evidence.stored),
    ]
    problems = [
        f"the record says of {what}: {said}, not {found}"
        for what, said, found in compared
        if said != found
    ]
    pictures = float(frames / recipe.output_rate)
    heard = record.HasField("audio_duration")
    if heard != (evidence.seconds_of_sound is not None):
        problems.append("the record is wrong about whether there is sound")
    sound = float(fraction_of(record.audio_duration)) - (evidence.seconds_of_sound or 0.0)
    shown = float(fraction_of(record.video_duration)) - pictures
    for what, off in (("pictures", shown), ("sound", sound)):
        if abs(off) > LENGTH_TOLERANCE:
            problems.append(f"the record's {what} are {off * 1000:+.1f} ms longer than the file's")
    return problems + _offset_problems(recipe, record, evidence, offset)


def loudness_problems(told: pb.Loudness | None, found: tuple[float, float] | None) -> list[str]:
    """Return whether a sound is as loud as its record says.

    Args:
        found: in LUFS, and the true peak in dBTP, by another meter.
    """
    if told is None or found is None:
        return (
            []
            if (told is None) == (found is None)
            else ["a loudness is asked for or recorded, but not both"]
        )
    lufs, peak = found
    problems = []
    if abs(told.delivered_lufs - lufs) > LOUDNESS_TOLERANCE:
        problems.append(f"the record says {told.delivered_lufs:.1f} LUFS of {lufs:.1f}")
    if abs(told.true_peak_dbtp - peak) > PEAK_TOLERANCE:
        problems.append(f"the record says a peak of {told.true_peak_dbtp:.1f} dBTP of {peak:.1f}")
    return problems


def _offset_problems(
    recipe: Recipe, record: pb.Verification, evidence: Evidence, offset: float | None
) -> list[str]:
    both = recipe.pictures and evidence.seconds_of_sound is not None
    if record.HasField("largest_av_offset") != both:
        return ["the record has an A/V offset of one alone, or none of both"]
    said = float(fraction_of(record.largest_av_offset))
    if said > recipe.offset or abs(said - (offset or said)) > OFFSET_TOLERANCE:
        heard = "none" if offset is None else f"{offset * 1000:.1f} ms"
        return [f"the record has an A/V offset of {said * 1000:.1f} ms, heard is {heard}"]
    return []


def _stored(record: pb.Verification) -> str:
    if not record.video_codec:
        return ""
    names = (record.color_primaries, record.color_transfer, record.color_space, record.color_range)
    told = "/".join(name or "?" for name in names)
    return f"{record.video_codec} {record.pixel_format} {told}"
