"""From a source and a plan to the FFmpeg runs that make a file of it. Pure: no I/O.

Everything that decides the file's bytes is in the argument lists and the graphs beside
them, so equal tasks give equal files: threads are pinned, versions and dates are kept out,
and every length is counted in frames or samples. A change to what they make needs a new
RECIPE_VERSION in services/common/content_key.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from services.common.frames import FrameRange, joined
from services.common.sound import pair_of
from services.common.subtitles import burnt_stream
from services.encoder.cues import Cues, burnt, shown
from services.encoder.extras import NO_EXTRAS, Extras
from services.encoder.filters import (
    Drawn,
    SoundCut,
    Timeline,
    audio_graph,
    drawn_graph,
    samples_of,
    video_graph,
)
from services.encoder.fonts import fonts_in
from services.encoder.marking import mark_filters, place_of
from services.encoder.options import (
    DECODER_THREADS,
    MP4_FORMAT,
    audio_codec,
    clean_output,
    devices,
    escaped,
    first_read,
    fraction,
    global_options,
    source_input,
    video_codec,
)
from services.encoder.picture import picture_filters
from services.encoder.readings import (
    Reading,
    group_ranges,
    input_limit,
    max_gap,
    split_readings,
)
from services.encoder.stereo import fold
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


@dataclass(frozen=True, slots=True)
class FfmpegCommand:
    """One run of FFmpeg.

    Attributes:
        arguments: the whole list, the program first.
        scripts: files that must be there when it starts, with their text. Graphs
            go by file because an argument holds at most 128 KiB.
        output: the file it makes.
        frame_count: frames that it encodes; 0 when it joins finished parts.
        environment: variables that it needs beside the usual ones.
    """

    arguments: tuple[str, ...]
    scripts: Mapping[Path, str]
    output: Path
    frame_count: int
    environment: Mapping[str, str] = field(default_factory=dict)

    def write_scripts(self) -> None:
        """Write the scripts where the arguments say they are."""
        for path, text in self.scripts.items():
            path.write_text(text)


@dataclass(frozen=True, slots=True)
class Site:
    """Where the runs of a task take place.

    Attributes:
        ffmpeg: the program.
        url: the source as the gateway serves it, on loopback HTTP, without secrets.
        threads: of libx264; other counts give other bytes.
        folder: where scripts and outputs go; nothing else is in it.
        least_margin: seconds that readings begin early at the least, because with the usual
            margin frames were missing.
    """

    ffmpeg: Path
    url: str
    threads: int
    folder: Path
    least_margin: Fraction = Fraction(0)


@dataclass(frozen=True, slots=True)
class _Job:
    """What is the same for all runs of a task.

    Attributes:
        picture: size, fit and quality of the pictures; None where only sound is made.
        draft: whether the sound stays uncompressed, to be made louder or quieter.
        stitchable: whether what comes out is joined with others of its kind.
        extras: what goes into the finished file beside them.
        burnt: subtitles of the source that are drawn into the pictures.
    """

    site: Site
    info: pb.SourceInfo
    timeline: Timeline
    ranges: Sequence[FrameRange]
    family: pb.EncoderFamily.ValueType
    picture: pb.Plan | None
    sound: bool
    draft: bool = False
    stitchable: bool = False
    extras: Extras = NO_EXTRAS
    burnt: Cues | None = None

    @property
    def frame_count(self) -> int:
        """Frames of the output."""
        return sum(frames.frame_count for frames in self.ranges)

    @property
    def drawn(self) -> bool:
        """Whether something is drawn onto the pictures."""
        marked = self.picture is not None and self.picture.HasField("watermark")
        return marked or self.burnt is not None

    @property
    def fitted_on_gpu(self) -> bool:
        """Whether the GPU makes pictures of the output's size; else they stay here until then."""
        return self.family == pb.ENCODER_FAMILY_NVENC and not self.drawn


def whole_commands(
    *,
    site: Site,
    info: pb.SourceInfo,
    plan: pb.Plan,
    family: pb.EncoderFamily.ValueType,
    subtitles: Cues | None = None,
) -> tuple[FfmpegCommand, ...]:
    """Return the runs that make the whole output, in order; the last one's output is it.

    A draft of it, where its sound is to have a certain loudness, which has yet to be measured.

    That is one run, from the source to the finished file. Only where segments
    jump about the source so often that the inputs of one run would not fit in
    memory are there more: parts with pictures encoded and sound uncompressed, then
    one that joins them, copying the pictures and encoding the sound once.

    Args:
        subtitles: of the source, where the output has any.
    """
    draft = plan.HasField("loudness_lufs")
    ranges = [FrameRange(segment.start_frame, segment.end_frame) for segment in plan.segments]
    timeline = timeline_of(info, plan.frame_rate)
    return _commands(
        _Job(
            *(site, info, timeline, ranges, family),
            picture=plan,
            sound=plan.has_audio,
            draft=draft,
            extras=NO_EXTRAS if draft else extras_of(info, plan, subtitles),
            burnt=None if burnt_stream(plan) is None else subtitles,
        )
    )


def extras_of(info: pb.SourceInfo, plan: pb.Plan, subtitles: Cues | None) -> Extras:
    """Return what goes into a whole output beside pictures and sound.

    Args:
        subtitles: of the source, where the output has any.
    """
    extras = Extras.of(plan)
    if subtitles is None or plan.subtitles.mode != pb.SUBTITLE_MODE_KEEP:
        return extras
    ranges = [FrameRange(span.start, span.end) for span in joined(plan.segments)]
    return extras.with_subtitles(shown(subtitles.cues, ranges, timeline_of(info, plan.frame_rate)))


def video_commands(
    *, site: Site, chunk: task_pb2.VideoChunk, subtitles: Cues | None = None
) -> tuple[FfmpegCommand, ...]:
    """Return the run that makes the pictures of one chunk.

    Args:
        subtitles: of the source, where some are drawn into it.
    """
    picture = pb.Plan(width=chunk.width, height=chunk.height, fit=chunk.fit, quality=chunk.quality)
    if chunk.HasField("burnt_subtitles"):
        picture.subtitles.mode = pb.SUBTITLE_MODE_BURN_IN
    if chunk.HasField("watermark"):
        picture.watermark.CopyFrom(chunk.watermark)
    ranges = [FrameRange(chunk.start_frame, chunk.end_frame)]
    timeline = timeline_of(chunk.info, chunk.frame_rate)
    return _commands(
        _Job(
            *(site, chunk.info, timeline, ranges, chunk.family),
            picture=picture,
            sound=False,
            stitchable=True,
            burnt=subtitles,
        )
    )


def audio_commands(*, site: Site, soundtrack: task_pb2.Soundtrack) -> tuple[FfmpegCommand, ...]:
    """Return the runs that make the sound of a whole output, in order, or a draft of it.

    One, unless there are too many inputs for it.
    """
    ranges = [FrameRange(span.start_frame, span.end_frame) for span in soundtrack.spans]
    timeline = timeline_of(soundtrack.info, soundtrack.frame_rate)
    family = pb.ENCODER_FAMILY_CPU
    return _commands(
        _Job(
            *(site, soundtrack.info, timeline, ranges, family),
            picture=None,
            sound=True,
            draft=soundtrack.HasField("loudness_lufs"),
        )
    )


def trial_command(ffmpeg: Path, family: pb.EncoderFamily.ValueType) -> tuple[str, ...]:
    """Return a run that takes generated frames through the filters and codec of `family`."""
    video = pb.VideoStream(width=640, height=480)
    plan = pb.Plan(width=1280, height=720, quality=pb.QUALITY_MEDIUM)
    filters = ",".join(picture_filters(family, video, plan))
    return (
        *global_options(ffmpeg),
        *devices(family),
        *("-f", "lavfi", "-i", f"testsrc2=size={video.width}x{video.height}:rate=25"),
        *("-filter_complex", f"[0:v]{filters}[v]", "-map", "[v]"),
        *video_codec(family, plan.quality, threads=1, stitchable=False),
        *("-frames:v", "10", "-f", "null", "-"),
    )


def timeline_of(info: pb.SourceInfo, rate: pb.Rational) -> Timeline:
    """Return the grid of a source at a rate."""
    return Timeline(Fraction(rate.numerator, rate.denominator), fraction(info.first_frame_time))


def _commands(job: _Job) -> tuple[FfmpegCommand, ...]:
    readings = group_ranges(job.ranges, max_gap(job.info.video, job.timeline.rate))
    limit = input_limit(job.info, pictures=job.picture is not None)
    parts = split_readings(readings, limit)
    if len(parts) == 1:
        return (_encode(job, _result(job), parts[0], 0, parts=False),)
    commands = []
    first_frame = 0
    for index, part in enumerate(parts):
        commands.append(_encode(job, f"part{index}", part, first_frame, parts=True))
        first_frame += commands[-1].frame_count
    return (*commands, _join(job, commands))


def _result(job: _Job) -> str:
    """Return the name of the file that the runs of a task make."""
    return "draft" if job.draft else "output"


def _encode(
    job: _Job, name: str, readings: Sequence[Reading], first_frame: int, *, parts: bool
) -> FfmpegCommand:
    """Return the run that reads `readings` and encodes them into one file."""
    frame_count = sum(reading.frame_count for reading in readings)
    lossless = parts or job.draft
    output = job.site.folder / f"{name}.{'mov' if lossless else 'mp4'}"
    graphs = _graphs(job, name, readings, first_frame)
    arguments = [*global_options(job.site.ffmpeg), "-copyts", *devices(job.family)]
    threads = max(1, min(job.site.threads, DECODER_THREADS // len(readings)))
    for reading in readings:
        first = first_read(
            *(job.info, job.timeline.rate, reading.start),
            sound=job.sound,
            least_margin=job.site.least_margin,
        )
        arguments += source_input(
            *(job.site.url, job.info, job.timeline, first),
            threads=threads,
            on_cpu=not job.fitted_on_gpu,
        )
    if not parts:
        arguments += job.extras.inputs(job.site.folder)
    arguments += ["-filter_complex_threads", str(job.site.threads)]
    for graph in graphs:
        if graph.suffix == ".txt":
            arguments += ["-/filter_complex", str(graph)]
    if job.picture is not None:
        codec = video_codec(
            job.family,
            job.picture.quality,
            threads=job.site.threads,
            stitchable=parts or job.stitchable,
        )
        arguments += ["-map", "[v]", *codec]
    if job.sound:
        # Parts keep the sound as it is: compressed pieces do not join to the sample.
        arguments += ["-map", "[a]", *audio_codec(lossless=lossless)]
    extras = NO_EXTRAS if parts else job.extras
    arguments += extras.options(len(readings))
    arguments += clean_output(output, extras.described_by(len(readings)))
    scripts = {**graphs, **extras.scripts(job.site.folder)}
    environment: dict[str, str] = {}
    if job.burnt is not None:
        fonts, environment = fonts_in(job.site.folder)
        scripts |= fonts
    return FfmpegCommand(tuple(arguments), scripts, output, frame_count, environment)


def _may_repeat_frames(job: _Job) -> bool:
    """Return whether frames of the source may be shown for more than one frame of the output.

    Only a complete index of mov and mp4 names every picture; matroska's has keyframes alone,
    and any other may hide a pause. Being wrong about a steady source costs little: cuts from
    an mkv of 1920×1080 took as long either way. On the GPU frames are few and large;
    joining inputs that each have their own pool of them is left to the end.
    """
    video = job.info.video
    own_rate = Fraction(video.frame_rate.numerator, video.frame_rate.denominator)
    every_picture_known = job.info.container == MP4_FORMAT and video.HasField(
        "max_keyframe_interval"
    )
    repeats = video.variable_frame_rate or job.timeline.rate > own_rate or not every_picture_known
    return repeats and not job.fitted_on_gpu


def _graphs(job: _Job, name: str, readings: Sequence[Reading], first_frame: int) -> dict[Path, str]:
    graphs = {}
    if job.picture is not None:
        video = job.info.video
        mark = mark_filters(job.site.folder, job.picture, video)
        filters: list[str] = []
        if job.burnt is not None:
            script = job.site.folder / f"{name}.ass"
            ranges = [frames for reading in readings for frames in reading.ranges]
            size = (job.picture.width, job.picture.height)
            graphs[script] = burnt(job.burnt, ranges, job.timeline, *size)
            filters.append(f"ass=filename={escaped(script)}")
        graphs[job.site.folder / f"{name}.video.txt"] = video_graph(
            readings,
            job.timeline,
            video.index,
            picture_filters(job.family, video, job.picture),
            picture_first=_may_repeat_frames(job),
            out="bare" if job.drawn else "v",
        )
        if job.drawn:
            place = place_of(job.picture.watermark, job.picture.width)
            after = ["hwupload_cuda"] if job.family == pb.ENCODER_FAMILY_NVENC else []
            graph = drawn_graph(Drawn(mark, place, filters, after))
            graphs[job.site.folder / f"{name}.drawn.txt"] = graph
    if job.sound:
        pair = pair_of(job.info)
        graphs[job.site.folder / f"{name}.audio.txt"] = audio_graph(
            readings,
            job.timeline,
            pair or [job.info.audio.index],
            SoundCut(first_frame, job.frame_count),
            [] if pair else fold(job.info.audio),
        )
    return graphs


def _join(job: _Job, parts: Sequence[FfmpegCommand]) -> FfmpegCommand:
    """Return the run that puts finished parts together, without encoding pictures."""
    folder = job.site.folder
    output = folder / f"{_result(job)}.{'mov' if job.draft else 'mp4'}"
    script = folder / "parts.ffconcat"
    names = [part.output.name for part in parts]
    text = concat_script(names, [part.frame_count for part in parts], job.timeline.rate)
    arguments = [*global_options(job.site.ffmpeg), "-protocol_whitelist", "file"]
    arguments += ["-format_whitelist", f"concat,{MP4_FORMAT}"]
    arguments += ["-f", "concat", "-i", str(script), *job.extras.inputs(folder)]
    if job.picture is not None:
        arguments += ["-map", "0:v:0", "-c:v", "copy"]
    if job.sound:
        samples = samples_of(job.frame_count, job.timeline.rate)
        counted = f"asetpts=N/SR/TB,apad=whole_len={samples},atrim=end_sample={samples}"
        arguments += ["-map", "0:a:0", "-filter:a", counted, *audio_codec(lossless=job.draft)]
    arguments += [*job.extras.options(1), *clean_output(output, job.extras.described_by(1))]
    scripts = {script: text, **job.extras.scripts(folder)}
    return FfmpegCommand(tuple(arguments), scripts, output, 0)


def concat_script(
    names: Sequence[str], frame_counts: Sequence[int], rate: Fraction, options: str = ""
) -> str:
    """Return a script for FFmpeg's concat demuxer.

    It counts in microseconds, which a frame rarely is a whole number of: so each length is
    the distance of two rounded places, lest a thousand rounding errors add up.

    Args:
        names: of the files, as URLs or relative to the script.
        options: lines that go with every file.
    """
    lines = ["ffconcat version 1.0"]
    frames, place = 0, 0
    for name, frame_count in zip(names, frame_counts, strict=True):
        frames += frame_count
        end = round(frames * 1_000_000 / rate)
        lines += [f"file {name}", f"duration {(end - place) / 1e6:.6f}"]
        lines += [options] if options else []
        place = end
    return "\n".join(lines) + "\n"
