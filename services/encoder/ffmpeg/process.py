"""FFmpeg as a child process with one owner that starts, drains, stops and reaps it."""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

import imageio_ffmpeg
import psutil

from services.encoder.child_environment import child_environment
from services.encoder.errors import EncoderFailed, EncodeStalled, TimeLimitExceeded
from services.encoder.ffmpeg.failure import failure_in_spite_of, failure_of, is_telling

# How long FFmpeg may take to end by itself before it is killed, in seconds.
TERM_GRACE = 3.0
_KEPT_LINES = 50
_KEPT_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Progress:
    """How far FFmpeg is.

    Attributes:
        frame: frames written.
        frames_per_second: average since the start.
        out_time: seconds of output written; None until FFmpeg knows.
        speed: seconds of output per second; 0 until FFmpeg knows.
        size_bytes: bytes written.
    """

    frame: int = 0
    frames_per_second: float = 0.0
    out_time: float | None = None
    speed: float = 0.0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class FfmpegResult:
    """What a finished run took.

    Attributes:
        wall_seconds: from start to exit.
        cpu_seconds: user and system time, as of its last report.
        peak_memory_bytes: largest resident size seen at a report, twice a second.
        progress: its last report.
        errors: the last lines that it wrote, although it ended well.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    progress: Progress
    errors: tuple[str, ...] = ()


# Packages that make the bits of files, too: the fonts of subtitles that are drawn, and what copies
# pictures. libass, which draws them, is FFmpeg's own.
_BESIDE = ("manimgx-fonts", "manimgx-fonts-cjk", "av")


@dataclass(frozen=True, slots=True)
class FfmpegBuild:
    """Which FFmpeg: builds that differ make files that differ.

    Attributes:
        version: as FFmpeg names itself, such as `n9.0.2`.
        sha256: digest over version and configuration.
    """

    version: str
    sha256: str


def ffmpeg_environment() -> dict[str, str]:
    """Return what FFmpeg is told of our environment: where libraries and GPUs are."""
    told = child_environment("CUDA_", "NVIDIA_")
    # SVT-AV1 would tell of its settings at every start, where errors are read: 1 is errors alone.
    return told | {"SVT_LOG": "1"}


def find_ffmpeg(configured: Path | None = None) -> Path:
    """Return the program: the configured one, or the one that comes as a wheel.

    Raises:
        FileNotFoundError: the configured path is not a program.
    """
    path = configured or Path(imageio_ffmpeg.get_ffmpeg_exe())
    if not os.access(path, os.X_OK):
        raise FileNotFoundError(f"{path} is not a program that can be run")
    return path


async def ask_ffmpeg(ffmpeg: Path, *arguments: str, timeout: float) -> bytes:
    """Return what a program prints about itself; whatever becomes of it, nothing stays.

    Raises:
        EncoderFailed: it has not ended in time.
    """
    process = await asyncio.create_subprocess_exec(
        str(ffmpeg),
        *arguments,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=DEVNULL,
        env=ffmpeg_environment(),
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout):
            output, _ = await process.communicate()
    except TimeoutError:
        raise EncoderFailed(f"FFmpeg does not say what it is within {timeout:g} s") from None
    finally:
        await _stop(process)
    return output


async def ffmpeg_build(ffmpeg: Path, *, timeout: float = 30.0) -> FfmpegBuild:
    """Return which build a program is, together with what else decides the bits of a file.

    Raises:
        EncoderFailed: it does not answer `-version` as FFmpeg does.
    """
    output = await ask_ffmpeg(ffmpeg, "-version", timeout=timeout)
    lines = output.decode(errors="replace").splitlines()
    version = re.match(r"ffmpeg version (\S+)", lines[0] if lines else "")
    if version is None:
        raise EncoderFailed("FFmpeg does not say its version")
    told = [version[1], *(line for line in lines if line.startswith("configuration:"))]
    told += [f"{package} {_version_of(package)}" for package in _BESIDE]
    return FfmpegBuild(version[1], hashlib.sha256("\n".join(told).encode()).hexdigest())


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


class ProgressParser:
    """Reads what `-progress` writes: lines of `key=value`, a block ending with `progress`."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def feed(self, line: str) -> Progress | None:
        """Take one line; return the block when the line ends it. N/A is what is not known."""
        key, _, value = line.partition("=")
        if key != "progress":
            self._values[key] = value.strip()
            return None
        values, self._values = self._values, {}
        out_time = _number(values.get("out_time_us"))
        return Progress(
            frame=int(_number(values.get("frame")) or 0),
            frames_per_second=_number(values.get("fps")) or 0.0,
            out_time=None if out_time is None else out_time / 1e6,
            speed=_number(values.get("speed", "").removesuffix("x")) or 0.0,
            size_bytes=int(_number(values.get("total_size")) or 0),
        )


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


@dataclass(slots=True)
class _Usage:
    """Resources of a running process, as of the last look."""

    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    file_bytes_read: int = 0

    def update(self, pid: int) -> None:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            times = process.cpu_times()
            self.cpu_seconds = times.user + times.system
            self.peak_memory_bytes = max(self.peak_memory_bytes, process.memory_info().rss)
            if hasattr(process, "io_counters"):  # not on macOS
                self.file_bytes_read = process.io_counters().read_chars


@dataclass(slots=True)
class FfmpegProcess:
    """One run of FFmpeg.

    Attributes:
        arguments: the whole list, the program first; with `-progress pipe:1`.
        stall_timeout: seconds without progress after which it is stopped.
        time_limit: seconds it may run altogether; None for no limit.
        memory_limit: bytes of memory it may take; None for no limit. Linux only.
        nice: 0 to 19; the higher, the less CPU it gets beside others.
        on_progress: called in the event loop at every report, twice a second.
        environment: variables beside `ffmpeg_environment`.
    """

    arguments: Sequence[str]
    stall_timeout: float = 60.0
    time_limit: float | None = None
    memory_limit: int | None = None
    nice: int = 0
    on_progress: Callable[[Progress], None] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    _progress: Progress = field(default=Progress(), init=False)
    _usage: _Usage = field(default_factory=_Usage, init=False)
    _last_sign: float = field(default=0.0, init=False)
    _errors: deque[str] = field(default_factory=lambda: deque(maxlen=_KEPT_LINES), init=False)
    # Threads that still run may write any number of lines after those that say what went wrong.
    _telling: list[str] = field(default_factory=list, init=False)

    @property
    def cpu_seconds(self) -> float:
        """User and system time used so far, as of its last report."""
        return self._usage.cpu_seconds

    async def run(self) -> FfmpegResult:
        """Run to the end. When it does not end well, or the caller is cancelled, nothing stays.

        Raises:
            MediaError: exit status other than 0, with what it said as `failure_of` reads it.
            EncodeStalled: no frame, no byte in `stall_timeout`.
            TimeLimitExceeded: it was not done in `time_limit`.
        """
        loop = asyncio.get_running_loop()
        started = self._last_sign = loop.time()
        process = await asyncio.create_subprocess_exec(
            *self.arguments,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env={**ffmpeg_environment(), **self.environment},
            start_new_session=True,
        )
        self._limit_memory(process)
        self._give_way(process)
        # The readers outlive the waiting: a full pipe would keep FFmpeg from ending.
        readers = asyncio.gather(self._read_progress(process), self._read_errors(process))
        try:
            await self._wait(process, started)
        finally:
            await _stop(process)
            await readers
        if process.returncode:
            raise failure_of([*self._telling, *self._errors], self.memory_limit)
        if (failure := failure_in_spite_of(self._telling)) is not None:
            raise failure
        return FfmpegResult(
            loop.time() - started,
            self._usage.cpu_seconds,
            self._usage.peak_memory_bytes,
            self._progress,
            tuple(self._errors),
        )

    def _give_way(self, process: Process) -> None:
        """Lower its priority, and so that of the threads that it is about to start."""
        if not self.nice:
            return
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, process.pid, self.nice)
        # Where Linux shares out the CPUs by sessions, that acts within its own alone.
        with suppress(OSError):
            Path(f"/proc/{process.pid}/autogroup").write_text(str(self.nice))

    def _limit_memory(self, process: Process) -> None:
        """Have the kernel refuse the child more memory, rather than end the whole container.

        Set from outside, because `preexec_fn` does not go with gRPC's threads. What counts
        is memory that can be written to; address space that is only reserved does not.
        """
        if self.memory_limit is not None and sys.platform == "linux":
            with suppress(psutil.NoSuchProcess):
                limits = (self.memory_limit, self.memory_limit)
                psutil.Process(process.pid).rlimit(psutil.RLIMIT_DATA, limits)

    async def _wait(self, process: Process, started: float) -> None:
        """Return when the process has ended; raise when it must be ended."""
        loop = asyncio.get_running_loop()
        limit = math.inf if self.time_limit is None else started + self.time_limit
        while loop.time() < limit:
            stall = self._last_sign + self.stall_timeout
            if loop.time() >= stall:
                raise EncodeStalled(f"encoding made no progress for {self.stall_timeout:g} s")
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(limit, stall)):
                    await process.wait()
                    return
        raise TimeLimitExceeded(f"encoding was not done after {self.time_limit:g} s")

    async def _read_progress(self, process: Process) -> None:
        loop = asyncio.get_running_loop()
        parser = ProgressParser()
        signs: tuple[Progress, int] | None = None
        async for line in _lines(process.stdout):
            progress = parser.feed(line)
            if progress is None:
                continue
            self._progress = progress
            self._usage.update(process.pid)
            # Moving the index to the front writes no frame, but reads the file once more.
            now = (_counts(progress), self._usage.file_bytes_read)
            if now != signs:
                signs = now
                self._last_sign = loop.time()
            if self.on_progress is not None:
                # Not called here: whatever it raises must not end the draining.
                loop.call_soon(self.on_progress, progress)

    async def _read_errors(self, process: Process) -> None:
        async for line in _lines(process.stderr):
            kept = line[:_KEPT_CHARACTERS]
            self._errors.append(kept)
            if is_telling(kept) and len(self._telling) < _KEPT_LINES:
                self._telling.append(kept)


def _counts(progress: Progress) -> Progress:
    """Return only what grows with work: averages change while nothing happens."""
    return replace(progress, frames_per_second=0.0, speed=0.0)


async def _lines(stream: asyncio.StreamReader | None) -> AsyncIterator[str]:
    """Yield lines without their ends, however long; StreamReader's own refuses long ones."""
    if stream is None:
        raise ValueError("the child was started without a pipe")
    rest = b""
    while chunk := await stream.read(1 << 16):
        *complete, rest = re.split(rb"[\r\n]", rest + chunk)
        rest = rest[-(1 << 16) :]
        for line in complete:
            yield line.decode(errors="replace")
    if rest:
        yield rest.decode(errors="replace")


async def _stop(process: Process) -> None:
    """End a child and its process group, reap it; cancelling the caller does not hinder that."""
    if process.returncode is None:
        await asyncio.shield(asyncio.ensure_future(_kill(process)))


async def _kill(process: Process) -> None:
    for number, grace in ((signal.SIGTERM, TERM_GRACE), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await process.wait()
            return
