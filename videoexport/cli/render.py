"""What a person reads on stdout for each kind of answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from videoexport.cli.stages import Stage
from videoexport.cli.text import Pair, clock, details, elapsed, moment, size, table
from videoexport.v1 import export_pb2, export_service_pb2

_FAMILIES = {
    export_pb2.ENCODER_FAMILY_CPU: "CPU",
    export_pb2.ENCODER_FAMILY_NVENC: "GPU",
}
# Of a warning; --json has them all.
MAX_TIME_RANGES = 8


def state_of(export: export_pb2.Export) -> str:
    """Return the state of an export in a word."""
    return export_pb2.ExportState.Name(export.state).removeprefix("EXPORT_STATE_").lower()


def phase_of(export: export_pb2.Export) -> str:
    """Return the phase of an export in a word."""
    return export_pb2.ExportPhase.Name(export.phase).removeprefix("EXPORT_PHASE_").lower()


def export_details(export: export_pb2.Export) -> str:
    """Return all there is to say about an export, for `get`."""
    return details([*_course(export), *_trouble(export), *_result(export, None)])


def summary(export: export_pb2.Export, file: Path | None, stages: Mapping[Stage, float]) -> str:
    """Return what came out of an export.

    Args:
        file: where it was downloaded to; None leaves the download URL to the reader.
        stages: seconds that each stage took, as seen from here.
    """
    times = ", ".join(f"{stage.label.lower()} {spent:.1f} s" for stage, spent in stages.items())
    return details(
        [
            ("Export", f"{export.id} {state_of(export)}"),
            ("Stages", times),
            *_result(export, file),
        ]
    )


def _course(export: export_pb2.Export) -> Iterator[Pair]:
    yield "Export", export.id
    phase = f", {phase_of(export)}" if export.phase else ""
    yield "State", state_of(export) + phase
    yield "Progress", f"{export.progress:.0f} %"
    if export.queue_position:
        yield "In queue", f"{export.queue_position} ahead"
    if export.HasField("eta"):
        yield "Ready in", f"{export.eta.ToTimedelta().total_seconds():.0f} s"
    yield "Source", source_name(export.source)
    yield "Segments", str(len(export.segments)) if export.segments else "the whole source"
    if export.HasField("plan"):
        yield "Planned", f"{export.plan.frame_count:,} frames, {clock(export.plan.duration)}"
    yield "Created", moment(export.create_time)
    if export.HasField("end_time"):
        yield "Ended", moment(export.end_time)
    if export.HasField("expire_time"):
        yield "Kept until", moment(export.expire_time)


def _trouble(export: export_pb2.Export) -> Iterator[Pair]:
    if export.HasField("error"):
        again = "; a retry may help" if export.error.retryable else ""
        yield "Error", f"{export.error.message} ({export.error.code}{again})"
        for violation in export.error.violations:
            yield "", f"{violation.field}: {violation.description}"


def _result(export: export_pb2.Export, file: Path | None) -> Iterator[Pair]:
    for warning in export.warnings:
        yield "Warning", warning.message
        for each in warning.time_ranges[:MAX_TIME_RANGES]:
            yield "", f"{clock(each.start_time)} to {clock(each.end_time)}"
        more = len(warning.time_ranges) - MAX_TIME_RANGES
        if more > 0:
            yield "", f"and {more} more"
    if not export.HasField("output"):
        return
    output = export.output
    yield "Frames", f"{output.frame_count:,}"
    yield "Duration", clock(output.duration)
    yield "Size", size(output.size_bytes)
    yield "Resolution", f"{output.width} × {output.height}"
    if output.HasField("loudness"):
        yield "Loudness", _loudness(output.loudness)
    reason = f": {output.encoder_reason}" if output.encoder_reason else ""
    yield "Encoder", f"{output.encoder_name} on the {_family(output.encoder_family)}{reason}"
    if output.reused_share:
        yield "Reused", f"{output.reused_frame_count:,} frames, {output.reused_share:.0%}"
    if export.HasField("end_time"):
        yield "Took", _times(export)
    if file is not None:
        yield "File", str(file)
    elif output.download_url:
        yield "Link until", moment(output.download_url_expire_time)
        yield "Download", output.download_url


def _times(export: export_pb2.Export) -> str:
    whole = elapsed(export.create_time, export.end_time)
    if not export.HasField("start_time"):
        return whole
    return f"{whole}, of which {elapsed(export.create_time, export.start_time)} in the queue"


def _loudness(loudness: export_pb2.Loudness) -> str:
    return (
        f"{loudness.delivered_lufs:.1f} LUFS, before {loudness.measured_lufs:.1f}; "
        f"peaks of {loudness.true_peak_dbtp:.1f} dBTP"
    )


def _family(family: export_pb2.EncoderFamily.ValueType) -> str:
    return _FAMILIES.get(family, "unknown encoder")


def source_name(source: export_pb2.Source) -> str:
    """Return a source as it is written on the command line."""
    if source.WhichOneof("kind") == "s3_object":
        return f"s3://{source.s3_object.bucket}/{source.s3_object.key}"
    return source.video_id


def exports_table(page: export_service_pb2.ListExportsResponse) -> str:
    """Return a line an export, and how many there are in all."""
    rows = [
        (
            export.id,
            state_of(export),
            f"{export.progress:.0f} %",
            moment(export.create_time),
            clock(export.output.duration) if export.HasField("output") else "",
            size(export.output.size_bytes) if export.HasField("output") else "",
            source_name(export.source),
        )
        for export in page.exports
    ]
    count = f"{len(rows)} of {page.total_size} exports"
    if not rows:
        return count
    columns = ("ID", "STATE", "DONE", "CREATED", "DURATION", "SIZE", "SOURCE")
    return f"{table(columns, rows)}\n{count}"


def encoders_table(encoders: Sequence[export_pb2.Encoder]) -> str:
    """Return a line an encoder: where it is, what it can do, what it does."""
    if not encoders:
        return "no encoder is live"
    rows = [
        (
            encoder.id,
            encoder.address,
            _encoder_state(encoder),
            _slots(encoder.capabilities, export_pb2.ENCODER_FAMILY_CPU),
            _slots(encoder.capabilities, export_pb2.ENCODER_FAMILY_NVENC),
            str(len(encoder.running_tasks)),
            str(encoder.encoder_threads),
            encoder.ffmpeg_version,
        )
        for encoder in encoders
    ]
    columns = ("ID", "ADDRESS", "STATE", "CPU", "GPU", "TASKS", "THREADS", "FFMPEG")
    problems = [encoder.problem for encoder in encoders if encoder.problem]
    return "\n".join([table(columns, rows), *problems])


def _encoder_state(encoder: export_pb2.Encoder) -> str:
    if encoder.draining:
        return "draining"
    return "stuck" if encoder.problem else "ready"


def _slots(
    capabilities: Iterable[export_pb2.EncoderCapability],
    family: export_pb2.EncoderFamily.ValueType,
) -> str:
    for capability in capabilities:
        if capability.family == family and capability.available:
            return f"{capability.busy_slots} of {capability.slots} busy"
        if capability.family == family:
            return f"no: {capability.unavailable_reason}"
    return "no"


def plan_details(plan: export_pb2.Plan) -> str:
    """Return the segments as they will be cut, and what that makes."""
    rate = f"{plan.frame_rate.numerator}/{plan.frame_rate.denominator}".removesuffix("/1")
    reusable = plan.reusable_frame_count / plan.frame_count if plan.frame_count else 0
    seconds = plan.estimated_processing_time.ToTimedelta().total_seconds()
    rows = [
        (
            str(number),
            clock(segment.start_time),
            clock(segment.end_time),
            f"{segment.start_frame:,}",
            f"{segment.end_frame - segment.start_frame:,}",
        )
        for number, segment in enumerate(plan.segments, start=1)
    ]
    return "\n\n".join(
        [
            table(("SEGMENT", "START", "END", "FIRST FRAME", "FRAMES"), rows),
            details(
                [
                    ("Frames", f"{plan.frame_count:,} at {rate} a second"),
                    ("Duration", clock(plan.duration)),
                    ("Resolution", f"{plan.width} × {plan.height}"),
                    ("Sound", _planned_sound(plan)),
                    ("Size", f"about {size(plan.estimated_size_bytes)}"),
                    ("Made in", f"{plan.chunk_count} chunks" if plan.chunk_count else "one piece"),
                    ("Time", f"about {seconds:.0f} s on idle encoders"),
                    ("Reusable", f"{plan.reusable_frame_count:,} frames, {reusable:.0%}"),
                ]
            ),
        ]
    )


def _planned_sound(plan: export_pb2.Plan) -> str:
    if not plan.has_audio:
        return "no"
    said = f"stream {plan.audio_stream}" if plan.HasField("audio_stream") else "yes"
    return said + (f", at {plan.loudness_lufs:g} LUFS" if plan.HasField("loudness_lufs") else "")


def source_details(info: export_pb2.SourceInfo) -> str:
    """Return what a source is, for `probe`."""
    rows = [*_video(info), *_audio(info), ("Size", size(info.size_bytes))]
    if info.missing_bytes:
        rows.append(("Incomplete", f"its last {info.missing_bytes:,} bytes are missing"))
    return details(rows)


def _video(info: export_pb2.SourceInfo) -> Iterator[Pair]:
    video = info.video
    rate = video.frame_rate.numerator / max(1, video.frame_rate.denominator)
    yield "Container", info.container
    yield "Duration", clock(info.duration)
    yield "Video", f"{video.codec}, {video.width} × {video.height}, {video.pixel_format}"
    yield "Frames", f"{video.frame_count:,}"
    yield "Rate", f"{rate:.5g} a second{', varying' if video.variable_frame_rate else ''}"
    if video.field_order in (
        export_pb2.FIELD_ORDER_TOP_FIRST,
        export_pb2.FIELD_ORDER_BOTTOM_FIRST,
    ):
        first = "top" if video.field_order == export_pb2.FIELD_ORDER_TOP_FIRST else "bottom"
        yield "Interlaced", f"{first} field first"
    if video.rotation:
        yield "Rotation", f"{video.rotation}°"
    if video.HasField("max_keyframe_interval"):
        yield "Keyframes", f"at most {clock(video.max_keyframe_interval)} apart"


def _audio(info: export_pb2.SourceInfo) -> Iterator[Pair]:
    if not info.HasField("audio"):
        yield "Sound", "none"
        return
    # Services of before list none.
    for audio in info.audio_streams or [info.audio]:
        layout = audio.channel_layout or f"{audio.channels} channels"
        said = [audio.codec, layout, f"{audio.sample_rate:,} Hz", audio.language, audio.title]
        chosen = " (default)" if audio.index == info.audio.index else ""
        words = ", ".join(word for word in said if word)
        yield f"Sound {audio.index}", words + chosen
