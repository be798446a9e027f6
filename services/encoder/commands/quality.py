"""How like its source an output looks: the runs of FFmpeg that compare them. Pure: no I/O.

Both are read by the same rules, the source as it was for the export, cut and scaled; so frame
stands beside frame.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from services.common.frames import FrameRange, rate_of
from services.common.planner import fraction_of
from services.encoder.commands.ffmpeg_command import FfmpegCommand, Site
from services.encoder.commands.fields import field_filters
from services.encoder.commands.filters import Timeline, video_graph
from services.encoder.commands.job import may_repeat_frames
from services.encoder.commands.options import first_read, global_options, source_input
from services.encoder.commands.picture import picture_filters
from services.encoder.commands.pieces import pieces_of
from services.encoder.commands.readings import Reading, input_limit, max_gap, readings_of
from services.encoder.errors import OutputMismatch
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# Every fifth frame is compared: what that costs is more than decoding, and means hardly change.
SUBSAMPLE = 5
MODEL, MODEL_2160P = "vmaf_v0.6.1", "vmaf_4k_v0.6.1"


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two files that are compared.

    Attributes:
        url: as the gateway serves it.
        info: what it is.
    """

    url: str
    info: pb.SourceInfo


@dataclass(frozen=True, slots=True)
class _Piece:
    """Frames of the output, and those of the source that they are of; equally many."""

    made: FrameRange
    wanted: FrameRange


def quality_commands(
    site: Site, output: Side, work: task_pb2.MeasureTask
) -> tuple[FfmpegCommand, ...]:
    """Return the runs that compare; the output of each is a log for `read_quality`.

    Args:
        site: where they take place; its URL is the source's.
        output: the finished file.
    """
    rate = rate_of(work.plan.frame_rate)
    limit = input_limit(work.info, pictures=True)
    runs: list[list[_Piece]] = []
    for piece in _pieces(work):
        together = [*runs[-1], piece] if runs else [piece]
        if runs and sum(map(len, _readings(together, work.info, output.info, rate))) <= limit:
            runs[-1] = together
        else:
            runs.append([piece])
    return tuple(
        _compare(site, output, work, rate, number, pieces) for number, pieces in enumerate(runs)
    )


def read_quality(logs: Sequence[str], frame_counts: Sequence[int], model: str) -> pb.VideoQuality:
    """Return what the runs have found, frame by frame, as one.

    Args:
        frame_counts: of each run, the frames that each of its sides has.

    Raises:
        OutputMismatch: they have found nothing, or not of every frame that they had to compare.
    """
    scores: list[float] = []
    for log, frame_count in zip(logs, frame_counts, strict=True):
        found = [float(frame["metrics"]["vmaf"]) for frame in json.loads(log)["frames"]]
        wanted = -(-frame_count // SUBSAMPLE)
        # That a side ends early is no error to FFmpeg.
        if len(found) != wanted:
            raise OutputMismatch(f"{len(found)} frames could be compared instead of {wanted}")
        scores += found
    if not scores:
        raise OutputMismatch("no frame could be compared")
    # One is added, as libvmaf does, for a score may be zero.
    harmonic = len(scores) / sum(1 / (score + 1) for score in scores) - 1
    return pb.VideoQuality(
        vmaf_mean=sum(scores) / len(scores),
        vmaf_harmonic_mean=harmonic,
        vmaf_min=min(scores),
        frame_count=len(scores),
        model=model,
    )


def model_of(plan: pb.Plan) -> str:
    """Return the model for outputs of a size: that of 2160p for more than 1440 lines."""
    return MODEL_2160P if plan.height > 1440 else MODEL


def _pieces(work: task_pb2.MeasureTask) -> list[_Piece]:
    """Return the frames that are compared, cut where segments meet."""
    pieces = []
    for span in work.spans:
        first = 0
        for segment in work.plan.segments:
            end = first + segment.end_frame - segment.start_frame
            made = FrameRange(max(first, span.start_frame), min(end, span.end_frame))
            if made.frame_count > 0:
                start = segment.start_frame + made.start - first
                pieces.append(_Piece(made, FrameRange(start, start + made.frame_count)))
            first = end
    return pieces


def _readings(
    pieces: Sequence[_Piece], source: pb.SourceInfo, output: pb.SourceInfo, rate: Fraction
) -> tuple[list[Reading], list[Reading]]:
    """Return how the source and the output are read."""
    wanted = readings_of(
        [piece.wanted for piece in pieces], pieces_of(source, rate), max_gap(source.video, rate)
    )
    return wanted, readings_of([piece.made for piece in pieces], (), max_gap(output.video, rate))


def _compare(
    site: Site,
    output: Side,
    work: task_pb2.MeasureTask,
    rate: Fraction,
    number: int,
    pieces: Sequence[_Piece],
) -> FfmpegCommand:
    cpu = pb.ENCODER_FAMILY_CPU
    source = Side(site.url, work.info)
    arguments = [*global_options(site.ffmpeg), "-copyts"]
    graphs = []
    inputs = 0
    for side, readings, pad in zip(
        (source, output),
        _readings(pieces, source.info, output.info, rate),
        ("wanted", "made"),
        strict=True,
    ):
        timeline = Timeline(rate, fraction_of(side.info.first_frame_time))
        for reading in readings:
            first = first_read(
                *(side.info, rate, reading.start), sound=False, least_margin=site.least_margin
            )
            arguments += source_input(
                *(reading.url(side.url), side.info, timeline.of(reading.piece), first),
                begins=reading.begins,
                threads=site.threads,
                on_cpu=True,
            )
        # In one format, or FFmpeg would convert the one to the other's.
        picture = picture_filters(cpu, side.info.video, work.plan) if side is source else []
        graphs.append(
            video_graph(
                readings,
                timeline,
                side.info.video.index,
                [*picture, f"format={output.info.video.pixel_format}"],
                picture_first=may_repeat_frames(side.info, rate),
                fields=field_filters(side.info),
                first_input=inputs,
                pad=pad,
            )
        )
        inputs += len(readings)
    log = site.folder / f"quality{number}.json"
    # By itself the filter compares the last frame of a side that ends early with all that the
    # other still has.
    graphs.append(
        f"[made][wanted]libvmaf=model=version={model_of(work.plan)}:n_subsample={SUBSAMPLE}"
        f":n_threads={site.threads}:shortest=1:log_fmt=json:log_path={log}[v]\n"
    )
    script = site.folder / f"quality{number}.txt"
    arguments += ["-filter_complex_threads", str(site.threads), "-/filter_complex", str(script)]
    arguments += ["-map", "[v]", "-fps_mode", "passthrough", "-f", "null", "-"]
    frame_count = sum(piece.made.frame_count for piece in pieces)
    return FfmpegCommand(tuple(arguments), {script: ";\n".join(graphs)}, log, frame_count)
