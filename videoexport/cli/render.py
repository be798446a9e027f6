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
    yield from _measured(output)
    reason = f": {output.encoder_reason}" if output.encoder_reason else ""
    yield "Encoder", f"{output.encoder_name} on the {_family(output.encoder_family)}{reason}"
    if output.reused_share:
        yield "Reused", f"{output.reused_frame_count:,} frames, {output.reused_share:.0%}"
    if export.HasField("end_time"):
        yield "Took", _times(export)
    yield from _stills(output)
    if file is not None:
        yield "File", str(file)
    elif output.download_url:
        yield "Link until", moment(output.download_url_expire_time)
        yield "Download", output.download_url


def _measured(output: export_pb2.Output) -> Iterator[Pair]:
    pictures = output.width > 0
    if pictures:
        yield "Frames", f"{output.frame_count:,}"
    yield "Duration", clock(output.duration)
    yield "Size", size(output.size_bytes)
    if pictures:
        yield "Resolution", f"{output.width} × {output.height}"
    if output.HasField("loudness"):
        yield "Loudness", _loudness(output.loudness)
    if output.HasField("verification"):
        yield "Verified", _verified(output.verification)
    if output.verification.HasField("quality"):
        yield "Quality", _quality(output.verification.quality)


def _stills(output: export_pb2.Output) -> Iterator[Pair]:
    if output.HasField("poster") and output.poster.download_url:
        yield "Poster", output.poster.download_url
    if output.HasField("sprites") and output.sprites.vtt_url:
        yield "Sprites", output.sprites.vtt_url
        for url in output.sprites.sheet_urls:
            yield "", url


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


def _quality(found: export_pb2.VideoQuality) -> str:
    return (
        f"VMAF {found.vmaf_mean:.1f} (harmonic mean {found.vmaf_harmonic_mean:.1f}, worst frame "
        f"{found.vmaf_min:.1f}) over {found.frame_count:,} frames, by {found.model}"
    )


def _verified(found: export_pb2.Verification) -> str:
    if not found.HasField("video_duration"):
        return f"{found.audio_duration.ToTimedelta().total_seconds():.3f} s of sound, as planned"
    colours = (found.color_primaries, found.color_transfer, found.color_space, found.color_range)
    said = [
        f"{found.frame_count:,} of {found.planned_frame_count:,} frames",
        f"turned by {found.rotation}°" if found.rotation else "",
        f"{found.video_codec} {found.pixel_format}",
        "/".join(name or "?" for name in colours),
    ]
    if found.HasField("largest_av_offset"):
        off = found.largest_av_offset.ToTimedelta().total_seconds() * 1000
        said.append(f"sound at most {off:.1f} ms off")
    return ", ".join(word for word in said if word)


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
    problems = [f"{encoder.id}: {encoder.problem}" for encoder in encoders if encoder.problem]
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
