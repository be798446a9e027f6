"""From what a task wants of a source to the FFmpeg runs that make it. Pure: no I/O.

Everything that decides the file's bytes is in the argument lists and the graphs beside
them, so equal tasks give equal files: threads are pinned, versions and dates are kept out,
and every length is counted in frames or samples. A change to what they make needs a new
RECIPE_VERSION in services/common/content_key.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from services.common.codecs import container_of, is_ten_bit
from services.common.frames import FrameRange, rate_of
from services.common.planner import fraction_of
from services.common.sound import pair_of
from services.encoder.commands.codecs import audio_codec, joined_pictures, video_codec
from services.encoder.commands.containers import MP4_FORMAT, clean_output, draft_file, output_file
from services.encoder.commands.cues import Cues, burnt
from services.encoder.commands.even_sound import even_command, even_inputs
from services.encoder.commands.extras import NO_EXTRAS, Extras
from services.encoder.commands.ffmpeg_command import (
    ChangedSound,
    FfmpegCommand,
    Site,
    concat_script,
)
from services.encoder.commands.fields import field_filters
from services.encoder.commands.filters import (
    Drawn,
    SoundCut,
    Timeline,
    audio_graph,
    drawn_graph,
    samples_of,
    video_graph,
)
from services.encoder.commands.fonts import fonts_in
from services.encoder.commands.marking import mark_filters, place_of
from services.encoder.commands.matching import matched_codec
from services.encoder.commands.options import (
    DECODER_THREADS,
    devices,
    escaped,
    first_read,
    global_options,
    source_input,
)
from services.encoder.commands.picture import picture_filters
from services.encoder.commands.pieces import pieces_of
from services.encoder.commands.readings import (
    Reading,
    input_limit,
    max_gap,
    readings_of,
    split_readings,
)
from services.encoder.commands.stereo import fold
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


@dataclass(frozen=True, slots=True)
class Job:
    """What is the same for all runs of a task.

    Attributes:
        picture: size, fit, quality, codec and dynamic range of the pictures; None where only
            sound is made.
        form: of the file that comes out; its sound is coded as goes with it.
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
    form: pb.Format.ValueType = pb.FORMAT_MP4
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

    @property
    def pictures_first(self) -> bool:
        """Whether pictures are finished before they are laid on the grid.

        On the GPU frames are few and large; joining inputs that each have their own pool of them
        is left to the end.
        """
        repeats = self.site.tolerant or may_repeat_frames(self.info, self.timeline.rate)
        return repeats and not self.fitted_on_gpu

    @property
    def evens_sound(self) -> bool:
        """Whether runs of their own make the sound even that the others cut."""
        return self.sound and self.site.changed_sound is ChangedSound.EVENED

    @property
    def audio_codec(self) -> task_pb2.AudioCodec.ValueType:
        """Codec of the finished sound."""
        return container_of(self.form).audio_codec

    def file(self, name: str, *, draft: bool) -> Path:
        """Return where a file goes, or an intermediate step to it."""
        folder = self.site.folder
        return draft_file(folder, name) if draft else output_file(folder, name, self.form)


def timeline_of(info: pb.SourceInfo, rate: pb.Rational) -> Timeline:
    """Return the grid of a source at a rate."""
    return Timeline(rate_of(rate), fraction_of(info.first_frame_time))


def commands_of(job: Job) -> tuple[FfmpegCommand, ...]:
    rate = job.timeline.rate
    readings = readings_of(job.ranges, pieces_of(job.info, rate), max_gap(job.info.video, rate))
    held = job.picture if job.pictures_first else None
    limit = input_limit(job.info, pictures=job.picture is not None, held=held)
    parts = split_readings(readings, limit)
    if len(parts) == 1:
        return _encodes(job, _result(job), parts[0], 0, parts=False)
    commands: list[FfmpegCommand] = []
    encoded = []
    first_frame = 0
    for index, part in enumerate(parts):
        commands += _encodes(job, f"part{index}", part, first_frame, parts=True)
        encoded.append(commands[-1])
        first_frame += commands[-1].frame_count
    return (*commands, _join(job, encoded))


def _result(job: Job) -> str:
    """Return the name of the file that the runs of a task make."""
    return "draft" if job.draft else "output"


def _encodes(
    job: Job, name: str, readings: Sequence[Reading], first_frame: int, *, parts: bool
) -> tuple[FfmpegCommand, ...]:
    """Return the runs that make one file of `readings`; the last one encodes it."""
    even: list[FfmpegCommand] = []
    if job.evens_sound:
        even = [
            even_command(
                *(job.site, job.info, job.timeline, reading),
                job.site.folder / f"{name}.sound{index}",
            )
            for index, reading in enumerate(readings)
        ]
    return (*even, _encode(job, name, readings, even, first_frame, parts=parts))


def _encode(
    job: Job,
    name: str,
    readings: Sequence[Reading],
    even: Sequence[FfmpegCommand],
    first_frame: int,
    *,
    parts: bool,
) -> FfmpegCommand:
    """Return the run that reads `readings` and encodes them into one file.

    Args:
        even: what has made their sound even before.
    """
    frame_count = sum(reading.frame_count for reading in readings)
    lossless = parts or job.draft
    output = job.file(name, draft=lossless)
    graphs = _graphs(job, name, readings, first_frame)
    begin = global_options(job.site.ffmpeg, tolerant=job.site.tolerant)
    arguments = [*begin, "-copyts", *devices(job.family)]
    threads = max(1, min(job.site.threads, DECODER_THREADS // len(readings)))
    for reading in readings:
        first = first_read(
            *(job.info, job.timeline.rate, reading.start),
            sound=job.sound,
            least_margin=job.site.least_margin,
        )
        arguments += source_input(
            *(reading.url(job.site.url), job.info, job.timeline.of(reading.piece), first),
            begins=reading.begins,
            threads=threads,
            on_cpu=not job.fitted_on_gpu,
            changed_sound=job.site.changed_sound is not ChangedSound.PASSED_OVER,
        )
    arguments += even_inputs(even)
    if not parts:
        arguments += job.extras.inputs(job.site.folder)
    arguments += ["-filter_complex_threads", str(job.site.threads)]
    for graph in graphs:
        if graph.suffix == ".txt":
            arguments += ["-/filter_complex", str(graph)]
    if job.picture is not None:
        if job.picture.quality == pb.QUALITY_SOURCE:
            codec = matched_codec(job.info.video, threads=job.site.threads)
        else:
            codec = video_codec(
                *(job.family, job.picture.video_codec, job.picture.quality),
                threads=job.site.threads,
                stitchable=parts or job.stitchable,
                ten_bit=is_ten_bit(job.info.video, job.picture.dynamic_range),
            )
        arguments += ["-map", "[v]", *codec]
    if job.sound:
        # Parts keep the sound as it is: compressed pieces do not join to the sample.
        arguments += ["-map", "[a]", *audio_codec(job.audio_codec, lossless=lossless)]
    extras = NO_EXTRAS if parts else job.extras
    inputs = len(readings) + len(even)
    arguments += extras.options(inputs)
    described = extras.described_by(inputs)
    arguments += clean_output(output, draft=lossless, described_by=described)
    scripts = {**graphs, **extras.scripts(job.site.folder)}
    environment: dict[str, str] = {}
    if job.burnt is not None:
        fonts, environment = fonts_in(job.site.folder)
        scripts |= fonts
    return FfmpegCommand(tuple(arguments), scripts, output, frame_count, environment)


def may_repeat_frames(info: pb.SourceInfo, rate: Fraction) -> bool:
    """Return whether frames of the source may be shown for more than one frame of the output.

    Only a complete index of mov and mp4 names every picture; matroska's has keyframes alone,
    and any other may hide a pause. Being wrong about a steady source costs little: cuts from
    an mkv of 1920×1080 took as long either way.
    """
    video = info.video
    own_rate = rate_of(video.frame_rate)
    every_picture_known = info.container == MP4_FORMAT and video.HasField("max_keyframe_interval")
    return video.variable_frame_rate or rate > own_rate or not every_picture_known


def _graphs(job: Job, name: str, readings: Sequence[Reading], first_frame: int) -> dict[Path, str]:
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
            picture_first=job.pictures_first,
            pad="bare" if job.drawn else "v",
            fields=field_filters(job.info),
            fill=job.site.tolerant,
        )
        if job.drawn:
            after = ["hwupload_cuda"] if job.family == pb.ENCODER_FAMILY_NVENC else []
            place = place_of(job.picture.watermark, job.picture.width)
            graph = drawn_graph(Drawn(mark, place, filters, after))
            graphs[job.site.folder / f"{name}.drawn.txt"] = graph
    if job.sound:
        pair, even = pair_of(job.info), job.evens_sound
        streams = pair or [job.info.audio.index]
        graphs[job.site.folder / f"{name}.audio.txt"] = audio_graph(
            readings,
            job.timeline,
            range(len(streams)) if even else streams,
            SoundCut(first_frame, job.frame_count),
            [] if pair or even else fold(job.info.audio),
            fill=job.site.tolerant,
            evened=len(readings) if even else None,
        )
    return graphs


def _join(job: Job, parts: Sequence[FfmpegCommand]) -> FfmpegCommand:
    """Return the run that puts finished parts together, without encoding pictures."""
    folder = job.site.folder
    output = job.file(_result(job), draft=job.draft)
    script = folder / "parts.ffconcat"
    names = [part.output.name for part in parts]
    text = concat_script(names, [part.frame_count for part in parts], job.timeline.rate)
    arguments = [*global_options(job.site.ffmpeg), "-protocol_whitelist", "file"]
    arguments += ["-format_whitelist", f"concat,{MP4_FORMAT}"]
    arguments += ["-f", "concat", "-i", str(script), *job.extras.inputs(folder)]
    if job.picture is not None:
        codec = job.picture.video_codec
        arguments += ["-map", "0:v:0", *joined_pictures(codec, job.timeline.rate)]
    if job.sound:
        samples = samples_of(job.frame_count, job.timeline.rate)
        counted = f"asetpts=N/SR/TB,apad=whole_len={samples},atrim=end_sample={samples}"
        arguments += ["-map", "0:a:0", "-filter:a", counted]
        arguments += audio_codec(job.audio_codec, lossless=job.draft)
    arguments += job.extras.options(1)
    described = job.extras.described_by(1)
    arguments += clean_output(output, draft=job.draft, described_by=described)
    scripts = {script: text, **job.extras.scripts(folder)}
    return FfmpegCommand(tuple(arguments), scripts, output, 0)
