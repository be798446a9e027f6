"""From a source and a plan to the FFmpeg runs that make the output. Pure: no I/O.

Everything that decides the output's bytes is in the argument lists and the graphs
beside them, so equal tasks give equal files: threads are pinned, versions and
dates are kept out, and every length is counted in frames or samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from services.common.frames import FrameRange
from services.encoder.filters import (
    SAMPLE_RATE,
    Timeline,
    audio_graph,
    cpu_picture,
    gpu_picture,
    video_graph,
    working_rate,
)
from services.encoder.readings import (
    Reading,
    group_ranges,
    input_limit,
    max_gap,
    split_readings,
)
from videoexport.v1 import export_pb2 as pb

ENCODER_NAMES: Mapping[pb.EncoderFamily.ValueType, str] = {
    pb.ENCODER_FAMILY_CPU: "libx264",
    pb.ENCODER_FAMILY_NVENC: "h264_nvenc",
}
CRF = {pb.QUALITY_HIGH: 18, pb.QUALITY_MEDIUM: 23, pb.QUALITY_LOW: 28}
# NVENC's constant quality is on the same scale; a step above CRF is the usual
# correspondence.
CQ = {quality: crf + 1 for quality, crf in CRF.items()}
AUDIO_BIT_RATE = "192k"

# A damaged index may announce any size; the largest honest one is far below.
MAX_ALLOC_BYTES = 512 << 20
# 8192 × 8192, which the probe allows; a stream may change its size after it.
MAX_PIXELS = 1 << 26
# The gateway retries and backs off for 30 s before it gives up on S3; FFmpeg
# waits a little longer than that, and far shorter when the gateway has given up.
RW_TIMEOUT_MICROSECONDS = 45_000_000

# How much earlier than its first frame a reading begins, in seconds, by container.
# A complete index of mov and mp4 leads every stream to its own packet. In matroska
# the sound of the first pictures may lie in the cluster before theirs: seeking
# exactly lost 30 ms of it.
SEEK_MARGINS = {"mov,mp4,m4a,3gp,3g2,mj2": Fraction(0), "matroska,webm": Fraction(1, 4)}
# Without an index, timestamps are searched that need not be a keyframe's: seeking
# exactly hit a wrong frame in 22 of 25 cuts of a ts. 6 s is design §8's.
DEFAULT_SEEK_MARGIN = Fraction(6)

# Inputs beyond this many get one decoder thread each.
_DECODER_THREADS = 8


@dataclass(frozen=True, slots=True)
class FfmpegCommand:
    """One run of FFmpeg.

    Attributes:
        arguments: the whole list, the program first.
        scripts: files that must be there when it starts, with their text. Graphs
            go by file because an argument holds at most 128 KiB.
        output: the file it makes.
        frame_count: frames that it encodes; 0 when it joins finished parts.
    """

    arguments: tuple[str, ...]
    scripts: Mapping[Path, str]
    output: Path
    frame_count: int

    def write_scripts(self) -> None:
        """Write the scripts where the arguments say they are."""
        for path, text in self.scripts.items():
            path.write_text(text)


@dataclass(frozen=True, slots=True)
class _Job:
    """What is the same for all runs of a task."""

    ffmpeg: Path
    url: str
    info: pb.SourceInfo
    plan: pb.Plan
    family: pb.EncoderFamily.ValueType
    threads: int
    folder: Path
    timeline: Timeline


def whole_commands(
    *,
    ffmpeg: Path,
    url: str,
    info: pb.SourceInfo,
    plan: pb.Plan,
    family: pb.EncoderFamily.ValueType,
    encoder_threads: int,
    folder: Path,
) -> tuple[FfmpegCommand, ...]:
    """Return the runs that make the whole output, in order; the last one's output is it.

    That is one run, from the source to the finished file. Only where segments
    jump about the source so often that the inputs of one run would not fit in
    memory are there more: parts with pictures encoded and sound uncompressed, then
    one that joins them, copying the pictures and encoding the sound once.

    Args:
        url: the source as the gateway serves it, on loopback HTTP, without secrets.
        encoder_threads: threads of libx264; other counts give other bytes.
        folder: where scripts and outputs go; nothing else is in it.
    """
    rate = Fraction(plan.frame_rate.numerator, plan.frame_rate.denominator)
    timeline = Timeline(rate, _fraction(info.first_frame_time))
    job = _Job(ffmpeg, url, info, plan, family, encoder_threads, folder, timeline)
    gap = max_gap(info.video, rate)
    if plan.has_audio and working_rate(rate) is None:
        gap = 0
    ranges = [FrameRange(segment.start_frame, segment.end_frame) for segment in plan.segments]
    readings = group_ranges(ranges, gap)
    parts = split_readings(readings, input_limit(info))
    if len(parts) == 1:
        return (_encode(job, "output", parts[0], 0, parts=False),)
    commands = []
    first_frame = 0
    for index, part in enumerate(parts):
        commands.append(_encode(job, f"part{index}", part, first_frame, parts=True))
        first_frame += commands[-1].frame_count
    return (*commands, _join(job, commands))


def trial_command(ffmpeg: Path, family: pb.EncoderFamily.ValueType) -> tuple[str, ...]:
    """Return a run that takes generated frames through the filters and codec of `family`."""
    video = pb.VideoStream(width=640, height=480)
    plan = pb.Plan(width=1280, height=720, quality=pb.QUALITY_MEDIUM)
    filters = ",".join(_picture(family, video, plan))
    return (
        *_global_options(ffmpeg),
        *_devices(family),
        *("-f", "lavfi", "-i", f"testsrc2=size={video.width}x{video.height}:rate=25"),
        *("-filter_complex", f"[0:v]{filters}[v]", "-map", "[v]"),
        *_video_codec(family, plan.quality, threads=1, parts=False),
        *("-frames:v", "10", "-f", "null", "-"),
    )


def _encode(
    job: _Job, name: str, readings: Sequence[Reading], first_frame: int, *, parts: bool
) -> FfmpegCommand:
    """Return the run that reads `readings` and encodes them into one file."""
    frame_count = sum(reading.frame_count for reading in readings)
    output = job.folder / f"{name}.{'mov' if parts else 'mp4'}"
    graphs = _graphs(job, name, readings, first_frame, frame_count)
    arguments = [*_global_options(job.ffmpeg), "-copyts", *_devices(job.family)]
    for reading in readings:
        arguments += _input(job, reading, len(readings))
    arguments += ["-filter_complex_threads", str(job.threads)]
    for graph in graphs:
        arguments += ["-/filter_complex", str(graph)]
    codec = _video_codec(job.family, job.plan.quality, threads=job.threads, parts=parts)
    arguments += ["-map", "[v]", *codec]
    if job.plan.has_audio:
        # Parts keep the sound as it is: compressed pieces do not join to the sample.
        arguments += ["-map", "[a]", *(["-c:a", "pcm_f32le"] if parts else _audio_codec())]
    arguments += _clean_output(output)
    return FfmpegCommand(tuple(arguments), graphs, output, frame_count)


def _may_repeat_frames(job: _Job) -> bool:
    """Return whether frames of the source may be shown for more than one frame of the output.

    Without an index nobody knows. On the GPU frames are few and large; joining
    inputs that each have their own pool of them is left to the end.
    """
    video = job.info.video
    own_rate = Fraction(video.frame_rate.numerator, video.frame_rate.denominator)
    indexed = video.HasField("max_keyframe_interval")
    repeats = video.variable_frame_rate or job.timeline.rate > own_rate or not indexed
    return repeats and job.family == pb.ENCODER_FAMILY_CPU


def _graphs(
    job: _Job, name: str, readings: Sequence[Reading], first_frame: int, frame_count: int
) -> dict[Path, str]:
    picture = _picture(job.family, job.info.video, job.plan)
    video = video_graph(
        readings,
        job.timeline,
        job.info.video.index,
        picture,
        picture_first=_may_repeat_frames(job),
    )
    graphs = {job.folder / f"{name}.video.txt": video}
    if job.plan.has_audio:
        first = _samples(first_frame, job.timeline)
        samples = _samples(first_frame + frame_count, job.timeline) - first
        audio = audio_graph(readings, job.timeline, job.info.audio.index, first, samples)
        graphs[job.folder / f"{name}.audio.txt"] = audio
    return graphs


def _join(job: _Job, parts: Sequence[FfmpegCommand]) -> FfmpegCommand:
    """Return the run that puts finished parts together, without encoding pictures."""
    output = job.folder / "output.mp4"
    script = job.folder / "parts.ffconcat"
    lines = ["ffconcat version 1.0"]
    for part in parts:
        seconds = float(part.frame_count / job.timeline.rate)
        lines += [f"file {part.output.name}", f"duration {seconds:.6f}"]
    arguments = [*_global_options(job.ffmpeg)]
    arguments += ["-protocol_whitelist", "file"]
    arguments += ["-format_whitelist", "concat,mov,mp4,m4a,3gp,3g2,mj2"]
    arguments += ["-f", "concat", "-i", str(script), "-map", "0:v:0", "-c:v", "copy"]
    if job.plan.has_audio:
        samples = _samples(job.plan.frame_count, job.timeline)
        counted = f"asetpts=N/SR/TB,apad=whole_len={samples},atrim=end_sample={samples}"
        arguments += ["-map", "0:a:0", "-filter:a", counted, *_audio_codec()]
    arguments += _clean_output(output)
    return FfmpegCommand(tuple(arguments), {script: "\n".join(lines) + "\n"}, output, 0)


def _global_options(ffmpeg: Path) -> list[str]:
    return [
        *(str(ffmpeg), "-nostdin", "-y", "-hide_banner", "-loglevel", "error", "-nostats"),
        *("-progress", "pipe:1", "-stats_period", "0.5"),
        # A cut connection or a damaged packet must end the run, not shorten the file.
        "-xerror",
        *("-max_alloc", str(MAX_ALLOC_BYTES)),
    ]


def _input(job: _Job, reading: Reading, inputs: int) -> list[str]:
    """Return the options of one input and its URL."""
    options = [
        *("-protocol_whitelist", "http,tcp"),
        # Only what the probe found: a playlist or a script is never followed.
        *("-format_whitelist", job.info.container),
        # A packet that a recording lost the half of costs its frame, not the export.
        *("-fflags", "+discardcorrupt"),
        *("-max_pixels", str(MAX_PIXELS), "-http_proxy", ""),
        *("-rw_timeout", str(RW_TIMEOUT_MICROSECONDS), "-max_redirects", "0"),
        *("-reconnect", "1", "-reconnect_on_network_error", "1", "-reconnect_delay_max", "2"),
        # A request costs little on loopback, and what is asked for is read from S3 although
        # it may not be used: 1 and 2 MB read twice as much for three cuts of 4 s.
        *("-multiple_requests", "1"),
        *("-initial_request_size", "65536", "-request_size", "65536"),
        *("-threads", str(max(1, min(job.threads, _DECODER_THREADS // inputs)))),
    ]
    if reading.start > 0:
        margin = DEFAULT_SEEK_MARGIN
        if job.info.video.HasField("max_keyframe_interval"):
            margin = SEEK_MARGINS.get(job.info.container, DEFAULT_SEEK_MARGIN)
        # A quarter of a frame late, lest rounding miss a keyframe that is the first frame.
        target = job.timeline.time(reading.start) + 1 / job.timeline.rate / 4 - margin
        if target > job.timeline.origin:
            # Not "accurate": the graph needs the picture that shows at its start,
            # which may have begun earlier.
            options += ["-seek_timestamp", "1", "-noaccurate_seek", "-ss", f"{float(target):.6f}"]
    return [*options, "-i", job.url]


def _devices(family: pb.EncoderFamily.ValueType) -> list[str]:
    if family == pb.ENCODER_FAMILY_NVENC:
        return ["-init_hw_device", "cuda=gpu", "-filter_hw_device", "gpu"]
    return []


def _picture(family: pb.EncoderFamily.ValueType, video: pb.VideoStream, plan: pb.Plan) -> list[str]:
    """Return the filters that make a source's frame a frame of the output."""
    if family == pb.ENCODER_FAMILY_NVENC:
        return gpu_picture(video, plan)
    return cpu_picture(video, plan)


def _video_codec(
    family: pb.EncoderFamily.ValueType, quality: pb.Quality.ValueType, *, threads: int, parts: bool
) -> list[str]:
    quality = quality or pb.QUALITY_MEDIUM
    # Frames are already on the grid and counted; nothing may be repeated or dropped
    # after it. Not with -frames:v: reaching it drops the last frame of sound.
    timing = ["-fps_mode:v", "passthrough", "-flags:v", "+bitexact"]
    if family == pb.ENCODER_FAMILY_NVENC:
        codec = ["-c:v", "h264_nvenc", "-preset", "p5", "-tune", "hq", "-profile:v", "high"]
        return [*codec, "-rc", "vbr", "-cq", str(CQ[quality]), "-b:v", "0", *timing]
    codec = ["-c:v", "libx264", "-preset", "medium", "-crf", str(CRF[quality])]
    if parts:
        # Parameter sets that are the same in every part.
        codec += ["-x264-params", "stitchable=1"]
    return [*codec, "-threads:v", str(threads), *timing]


def _audio_codec() -> list[str]:
    return ["-c:a", "aac", "-b:a", AUDIO_BIT_RATE, "-flags:a", "+bitexact"]


def _clean_output(output: Path) -> list[str]:
    """Return the options of an output that tells nothing of the source but its picture."""
    form = ["-f", "mov"] if output.suffix == ".mov" else ["-movflags", "+faststart", "-f", "mp4"]
    clean = ["-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact"]
    return [*clean, *form, str(output)]


def _samples(frames: int, timeline: Timeline) -> int:
    """Return how many samples of sound the first `frames` frames of the output have."""
    return round(frames * SAMPLE_RATE / timeline.rate)


def _fraction(duration: Duration) -> Fraction:
    return Fraction(duration.seconds * 10**9 + duration.nanos, 10**9)
