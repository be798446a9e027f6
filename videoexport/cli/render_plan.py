"""What a person reads on stdout of a plan, and of a source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from videoexport.cli.text import Pair, clock, details, size, table
from videoexport.v1 import export_pb2

# Characters of what a file says of itself that a line has room for.
_MOST_SAID = 60

_FORMATS = {
    export_pb2.FORMAT_MP4: "MP4",
    export_pb2.FORMAT_MOV: "MOV",
    export_pb2.FORMAT_WEBM: "WebM",
    export_pb2.FORMAT_M4A: "M4A, the sound alone",
}

_CODECS = {
    export_pb2.VIDEO_CODEC_H264: "H.264",
    export_pb2.VIDEO_CODEC_HEVC: "HEVC",
    export_pb2.VIDEO_CODEC_AV1: "AV1",
    export_pb2.VIDEO_CODEC_VP9: "VP9",
}

_FITS = {
    export_pb2.FIT_CROP: ", filled and cropped",
    export_pb2.FIT_STRETCH: ", filled out of shape",
}

_QUALITIES = {
    export_pb2.QUALITY_HIGH: "high",
    export_pb2.QUALITY_MEDIUM: "medium",
    export_pb2.QUALITY_LOW: "low",
    export_pb2.QUALITY_SOURCE: "the source's",
}


def plan_details(plan: export_pb2.Plan) -> str:
    """Return the segments as they will be cut, and what that makes."""
    rate = f"{plan.frame_rate.numerator}/{plan.frame_rate.denominator}".removesuffix("/1")
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
                    ("Format", _FORMATS.get(plan.format, "MP4")),
                    *_planned_pictures(plan),
                    ("Sound", _planned_sound(plan)),
                    *_planned_metadata(plan),
                    ("Size", f"about {size(plan.estimated_size_bytes)}"),
                    ("Made in", f"{plan.chunk_count} chunks" if plan.chunk_count else "one piece"),
                    *_planned_copies(plan),
                    ("Time", f"about {seconds:.0f} s on idle encoders"),
                    *_reusable(plan),
                ]
            ),
        ]
    )


def _planned_pictures(plan: export_pb2.Plan) -> Iterator[Pair]:
    if plan.format == export_pb2.FORMAT_M4A:
        return
    yield "Resolution", f"{plan.width} × {plan.height}{_FITS.get(_fit_of(plan), '')}"
    if plan.quality:
        yield "Quality", _QUALITIES.get(plan.quality, "unknown")
    keep = plan.dynamic_range == export_pb2.DYNAMIC_RANGE_KEEP
    codec = _CODECS.get(plan.video_codec, "H.264")
    yield "Codec", codec + (", dynamic range kept" if keep else "")
    if plan.rotation:
        yield "Turned", f"by {plan.rotation}°"
    if plan.measure_quality:
        yield "Compared", "with the source (VMAF), before the export is completed"


def _fit_of(plan: export_pb2.Plan) -> export_pb2.Fit.ValueType:
    """Return how pictures are fitted; those of the source's own size are not."""
    own = plan.resolution == export_pb2.RESOLUTION_SOURCE
    return export_pb2.FIT_UNSPECIFIED if own else plan.fit


def _reusable(plan: export_pb2.Plan) -> Iterator[Pair]:
    if plan.format != export_pb2.FORMAT_M4A:
        share = plan.reusable_frame_count / plan.frame_count if plan.frame_count else 0
        yield "Reusable", f"{plan.reusable_frame_count:,} frames, {share:.0%}"


def _planned_copies(plan: export_pb2.Plan) -> Iterator[Pair]:
    if plan.copied_frame_count:
        share = plan.copied_frame_count / plan.frame_count
        yield "Copied", f"{plan.copied_frame_count:,} frames, {share:.0%}"


def _planned_sound(plan: export_pb2.Plan) -> str:
    if not plan.has_audio:
        return "no"
    said = f"stream {plan.audio_stream}" if plan.HasField("audio_stream") else "yes"
    return said + (f", at {plan.loudness_lufs:g} LUFS" if plan.HasField("loudness_lufs") else "")


def _planned_metadata(plan: export_pb2.Plan) -> Iterator[Pair]:
    metadata = plan.metadata
    if plan.HasField("poster"):
        frame = f"frame {plan.poster.frame:,}" if plan.poster.HasField("frame") else "not black"
        yield "Poster", f"{plan.poster.width} × {plan.poster.height}, {frame}"
    if plan.HasField("sprites"):
        sprites = plan.sprites
        size_of_one = f"{sprites.tile_width} × {sprites.tile_height}"
        yield "Sprites", f"{sprites.tile_count:,} of {size_of_one}, sheets: {sprites.sheet_count}"
    if plan.HasField("watermark"):
        width, seen = plan.watermark.width, plan.watermark.opacity
        position = export_pb2.WatermarkPosition.Name(plan.watermark.position)
        place = position.removeprefix("WATERMARK_POSITION_").replace("_", " ").lower()
        yield "Watermark", f"{place}, {width:.0%} of the width, {seen:.0%} opaque"
    if plan.HasField("subtitles"):
        yield "Subtitles", _planned_subtitles(plan.subtitles)
    if metadata.tags:
        yield "Says", _said(metadata.tags)
    if metadata.chapters:
        yield "Chapters", f"{len(metadata.chapters):,}"


def _planned_subtitles(subtitles: export_pb2.PlannedSubtitles) -> str:
    burnt = subtitles.mode == export_pb2.SUBTITLE_MODE_BURN_IN
    return f"stream {subtitles.stream}, {'burnt in' if burnt else 'kept as text'}"


def _said(tags: Iterable[export_pb2.MetadataTag]) -> str:
    """Return what a file says of itself, each thing in a few words."""
    return ", ".join(f"{tag.key} {_short(tag.value)}" for tag in tags)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MOST_SAID else line[: _MOST_SAID - 1] + "…"


def source_details(info: export_pb2.SourceInfo) -> str:
    """Return what a source is, for `probe`."""
    told = [*_video(info), *_audio(info), *_metadata(info)]
    rows = [*told, ("Size", size(info.size_bytes))]
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
    if video.copy_obstacle:
        yield "Copying", f"not possible: {video.copy_obstacle}"
    elif video.avc_configuration:
        yield "Copying", "possible"


def _metadata(info: export_pb2.SourceInfo) -> Iterator[Pair]:
    for stream in info.subtitle_streams:
        kind = "" if stream.text else "pictures of text"
        said = [stream.codec, stream.language, stream.title, kind]
        yield f"Subtitles {stream.index}", ", ".join(word for word in said if word)
    if info.metadata.tags:
        yield "Says", _said(info.metadata.tags)
    if info.metadata.location_and_device:
        yield "Recorded", _said(info.metadata.location_and_device)
    if info.chapters:
        yield "Chapters", f"{len(info.chapters):,}"


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
