"""FFmpeg on behalf of a run: watched, limited, counted, and its result checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import structlog

from services.common.codecs import container_of
from services.common.frames import rate_of
from services.encoder.board import Run
from services.encoder.commands.containers import output_file
from services.encoder.commands.extras import NO_EXTRAS, Extras
from services.encoder.commands.ffmpeg_command import ChangedSound, FfmpegCommand, Site
from services.encoder.commands.loudness import (
    Aim,
    Draft,
    Measured,
    level_command,
    measure_command,
    read_measured,
    tag_command,
)
from services.encoder.deadline import Deadline
from services.encoder.errors import (
    DamagedSource,
    FramesMissing,
    InvalidSource,
    MediaError,
    SoundChanged,
    SoundMissing,
    TimeLimitExceeded,
)
from services.encoder.ffmpeg.failure import complains
from services.encoder.ffmpeg.process import FfmpegProcess, FfmpegResult
from services.encoder.inspection.output_facts import OutputFacts
from services.encoder.inspection.probe import verify_output
from services.encoder.metrics import EncoderMetrics
from services.encoder.settings import EncoderSettings
from services.encoder.sources.gateway import SourceHandle
from services.encoder.sources.readable import Readable, unless_lost
from services.encoder.tasks.damage import Damage, Wanted, find_damage
from videoexport.v1 import export_pb2 as pb

log = structlog.get_logger()

# Sounds are made beside the pictures of others, which are not to take longer for it; where
# nothing else runs they are as fast as ever.
SOUND_NICE = 10
# How often a sound is compressed until what comes of it is as loud, and as high, as it should be.
MOST_LEVELLINGS = 3
# Seconds that readings begin early at the least, in turn; the last is the whole source.
LEAST_MARGINS = (Fraction(0), Fraction(60), Fraction(10**6))
# The same where damage is passed over: pictures that are missing repeat one before them.
TOLERANT_MARGIN = Fraction(12)


# Takes a word from FFmpeg, `frames_before` and `rate` named.
Told = Callable[..., None]


@dataclass(frozen=True)
class Level:
    """What the sound of a file is brought to.

    Attributes:
        target: loudness in LUFS.
        samples: of the sound.
        form: of the file.
        pictures: codec of those beside it; None where there are none.
        tagged: whether the file says how loud it is, for those who find it later.
        extras: what the finished file has beside them.
    """

    target: float
    samples: int
    form: pb.Format.ValueType = pb.FORMAT_MP4
    pictures: pb.VideoCodec.ValueType | None = None
    tagged: bool = False
    extras: Extras = NO_EXTRAS


@dataclass(frozen=True)
class Order:
    """A file to make of a source.

    Attributes:
        commands: the runs that make it at a place, the last one's output being it.
        check: raises OutputMismatch unless the file is the one wanted.
        family: what encodes.
        rate: frames per second of the file.
        deadline: of the task, however often the file is begun anew.
        pictures: whether the file has any.
        level: where the commands make a draft, how its sound becomes final.
        wanted: what of the source it is made of; None where that must not be damaged.
    """

    commands: Callable[[Site], Sequence[FfmpegCommand]]
    check: Callable[[OutputFacts], None]
    family: pb.EncoderFamily.ValueType
    rate: pb.Rational
    deadline: Deadline
    pictures: bool = True
    level: Level | None = None
    wanted: Wanted | None = None


@dataclass(frozen=True)
class Made:
    """A finished and checked file on scratch.

    Attributes:
        seconds: that encoding took.
        loudness: of the sound, where one was asked for.
        damage: of the source, where it was read passing over that; else None.
        results: what the runs that read the source took.
    """

    path: Path
    facts: OutputFacts
    seconds: float
    loudness: pb.Loudness | None = None
    damage: Damage | None = None
    results: Sequence[FfmpegResult] = ()

    def warnings(self, rate: pb.Rational) -> list[pb.ExportWarning]:
        """Return what the owner is told of its source."""
        told = rate_of(rate)
        return self.damage.warnings(told) if self.damage else []


class FfmpegRuns:
    """Runs commands one after the other, and says what they made.

    Attributes:
        ffmpeg: the program.
        threads: of one encode on the CPU.
    """

    def __init__(self, settings: EncoderSettings, ffmpeg: Path, metrics: EncoderMetrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self.ffmpeg = ffmpeg
        self.threads = settings.threads

    async def fill(self, run: Run, order: Order, source: SourceHandle, folder: Path) -> Made:
        """Make a file of a source and check it.

        First strictly. Where that fails of the source alone, or FFmpeg has met something odd in
        it, damage is looked for and, where the order allows it, passed over: the file has all its
        frames, and says which may look or sound damaged. Sound that is meant to change its
        channels or its rate is made even before it is cut.

        Raises:
            MediaError, DomainError: why that failed.
        """
        site = Site(self.ffmpeg, source.url, self.threads, folder)
        try:
            return await self._fill_there(run, order, source, site)
        except SoundChanged as error:
            log.info("sound is made even beforehand", problem=error.message)
            even = replace(site, changed_sound=ChangedSound.EVENED)
            return await self._fill_there(run, order, source, even)

    async def _fill_there(self, run: Run, order: Order, source: SourceHandle, site: Site) -> Made:
        wanted, problem = order.wanted, None
        try:
            made = await self._fill_strictly(run, order, source, site)
        except (DamagedSource, SoundChanged, SoundMissing, FramesMissing) as error:
            if wanted is None:
                raise
            damage = await find_damage(source, wanted, order.deadline)
            unexpected = site.changed_sound is ChangedSound.UNEXPECTED
            if unexpected and damage.changed_sound is ChangedSound.EVENED:
                raise SoundChanged from error
            if not damage.explains(error):
                raise
            # Where is not known.
            if not damage.anywhere and isinstance(error, DamagedSource) and error.decoded:
                damage.frames = list(wanted.ranges)
            problem = error.message
        else:
            if wanted is None or not any(complains(each.errors) for each in made.results):
                return made
            try:
                damage = await find_damage(source, wanted, order.deadline)
            except MediaError as error:
                # What is made is all there.
                log.warning("damage was not looked for to the end", problem=error.message)
                return made
            if not damage.frames:
                return made
        log.warning("source is damaged; what can be decoded is used", problem=problem)
        site = replace(site, least_margin=TOLERANT_MARGIN, tolerant=True)
        if site.changed_sound is ChangedSound.UNEXPECTED:
            site = replace(site, changed_sound=damage.changed_sound)
        try:
            made = await self._fill(run, order, source, order.commands(site))
        except FramesMissing as error:
            if not damage.pictures:
                raise
            raise InvalidSource("the video is too damaged to be exported") from error
        return replace(made, damage=damage)

    async def _fill_strictly(
        self, run: Run, order: Order, source: SourceHandle, site: Site
    ) -> Made:
        """Make a file of a source that is not damaged.

        Where frames are missing, their source could not be decoded from where the reading
        began: it is read again from further ahead, in the end from its beginning.
        """
        ways = (order.commands(replace(site, least_margin=margin)) for margin in LEAST_MARGINS)
        commands = next(ways)
        while True:
            try:
                return await self._fill(run, order, source, commands)
            except FramesMissing as error:
                tried = commands
                # Where all is read from the beginning, there is nothing further ahead.
                commands = next((way for way in ways if way != tried), ())
                if not commands:
                    raise
                log.warning("frames are missing; read from further ahead", problem=error.message)

    async def _fill(
        self, run: Run, order: Order, source: SourceHandle, commands: Sequence[FfmpegCommand]
    ) -> Made:
        run.enter(pb.EXPORT_PHASE_ENCODING)
        results = await self.make(
            *(run, commands, source),
            family=order.family,
            deadline=order.deadline,
            rate=order.rate,
            told=run.encoded if order.pictures else run.heard,
        )
        path, loudness = commands[-1].output, None
        if order.level is not None:
            path, loudness = await self._level(run, order, order.level, path)
        run.enter(pb.EXPORT_PHASE_VERIFYING)
        facts = await self.inspect(path, order.deadline)
        order.check(facts)
        seconds = sum(result.wall_seconds for result in results)
        return Made(path, facts, seconds, loudness, results=results)

    async def _level(
        self, run: Run, order: Order, level: Level, path: Path
    ) -> tuple[Path, pb.Loudness]:
        """Bring the sound of a draft to its loudness; return the file that came of it."""
        codec = container_of(level.form).audio_codec
        draft = Draft(path, level.samples, level.pictures, codec, level.extras)
        before = await self._measure(run, order, path, level.samples)
        levelled = output_file(path.parent, "levelled", level.form)
        aim: Aim | None = Aim(level.target)
        for _ in range(MOST_LEVELLINGS):
            if aim is None:
                break
            command = level_command(self.ffmpeg, draft, levelled, before, aim)
            await self._make_locally(run, order, command)
            after = await self._measure(run, order, levelled, level.samples)
            aim = aim.after(before, after, level.target)
        loudness = pb.Loudness(
            target_lufs=level.target,
            measured_lufs=before.lufs,
            delivered_lufs=after.lufs,
            true_peak_dbtp=after.true_peak,
        )
        if not level.tagged:
            return levelled, loudness
        tagged = output_file(path.parent, "output", level.form)
        await self._make_locally(run, order, tag_command(self.ffmpeg, levelled, tagged, loudness))
        return tagged, loudness

    async def _measure(self, run: Run, order: Order, path: Path, samples: int) -> Measured:
        command = measure_command(self.ffmpeg, path, samples)
        await self._make_locally(run, order, command)
        return read_measured(command.output.read_text())

    async def _make_locally(self, run: Run, order: Order, command: FfmpegCommand) -> None:
        """Run a command that reads what earlier ones have made."""
        cpu = pb.ENCODER_FAMILY_CPU
        await self.make(run, [command], family=cpu, deadline=order.deadline, rate=order.rate)

    async def make(
        self,
        run: Run,
        commands: Sequence[FfmpegCommand],
        *readables: Readable,
        family: pb.EncoderFamily.ValueType,
        deadline: Deadline,
        rate: pb.Rational,
        told: Told | None = None,
    ) -> list[FfmpegResult]:
        """Run the commands; return what each has taken.

        Args:
            readables: everything that they read through the gateway.
            told: takes the word of those that encode.

        Raises:
            MediaError, DomainError: what FFmpeg ended with, or the true reason when what it
                reads is lost.
        """
        results = []
        frames_before = 0
        for command in commands:
            command.write_scripts()
            process = FfmpegProcess(
                command.arguments,
                stall_timeout=self._settings.stall_timeout,
                time_limit=deadline.left,
                memory_limit=self._memory_limit(family),
                nice=SOUND_NICE if run.live.kind == pb.TASK_KIND_AUDIO else 0,
                on_progress=partial(
                    told,
                    frames_before=frames_before,
                    rate=rate.numerator / rate.denominator,
                )
                # What joins finished parts copies frames that were counted when they were made.
                if told is not None and command.frame_count
                else None,
                environment=command.environment,
            )
            try:
                results.append(await unless_lost(process.run(), *readables))
            except TimeLimitExceeded:
                raise deadline.exceeded() from None
            finally:
                used = self._metrics.cpu_seconds.labels(pb.EncoderFamily.Name(family))
                used.inc(process.cpu_seconds)
            frames_before += command.frame_count
        return results

    async def inspect(
        self, path: Path, deadline: Deadline, *, decode_keyframes: bool = False
    ) -> OutputFacts:
        """Return what is in a finished file.

        Raises:
            OutputMismatch: it cannot be read.
            TimeLimitExceeded: that took too long.
        """
        own = deadline.of_part(self._settings.verify_timeout, "checking the output")
        return await verify_output(path, deadline=own, decode_keyframes=decode_keyframes)

    def _memory_limit(self, family: pb.EncoderFamily.ValueType) -> int | None:
        # A CUDA driver maps as much as it likes.
        on_gpu = family == pb.ENCODER_FAMILY_NVENC
        return None if on_gpu else self._settings.encode_memory_bytes
