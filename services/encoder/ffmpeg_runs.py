"""FFmpeg on behalf of a run: watched, limited, counted, and its result checked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from google.protobuf.duration_pb2 import Duration

from services.common.errors import DomainError
from services.encoder.board import Run
from services.encoder.command import FfmpegCommand
from services.encoder.errors import MediaError
from services.encoder.ffmpeg import FfmpegProcess
from services.encoder.metrics import EncoderMetrics
from services.encoder.output_facts import OutputFacts
from services.encoder.probe import verify_output
from services.encoder.settings import EncoderSettings
from videoexport.v1 import export_pb2 as pb


class Readable(Protocol):
    """What FFmpeg reads through the gateway: a source, or parts."""

    @property
    def failure(self) -> MediaError | DomainError | None:
        """Why it is lost for good; None while it is not."""

    async def wait_failed(self) -> None:
        """Return once it is lost for good."""


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

    async def make(
        self,
        run: Run,
        commands: Sequence[FfmpegCommand],
        *readables: Readable,
        family: pb.EncoderFamily.ValueType,
        time_limit: Duration,
        rate: pb.Rational,
    ) -> float:
        """Run the commands; return how many seconds that took.

        Args:
            readables: everything that they read through the gateway.

        Raises:
            MediaError, DomainError: what FFmpeg ended with, or the true reason when what it
                reads is lost.
        """
        started = time.monotonic()
        deadline = started + time_limit.ToTimedelta().total_seconds()
        frames_before = 0
        for command in commands:
            command.write_scripts()
            process = FfmpegProcess(
                command.arguments,
                stall_timeout=self._settings.stall_timeout,
                time_limit=deadline - time.monotonic(),
                memory_limit=self._memory_limit(family),
                on_progress=partial(
                    run.encoded,
                    frames_before=frames_before,
                    rate=rate.numerator / rate.denominator,
                ),
            )
            try:
                await _watched(process, readables)
            finally:
                used = self._metrics.cpu_seconds.labels(pb.EncoderFamily.Name(family))
                used.inc(process.cpu_seconds)
            frames_before += command.frame_count
        return time.monotonic() - started

    async def inspect(self, path: Path, *, decode_keyframes: bool = False) -> OutputFacts:
        """Return what is in a finished file.

        Raises:
            OutputMismatch: it cannot be read.
            TimeLimitExceeded: that took too long.
        """
        return await verify_output(
            path, timeout=self._settings.verify_timeout, decode_keyframes=decode_keyframes
        )

    def _memory_limit(self, family: pb.EncoderFamily.ValueType) -> int | None:
        # A CUDA driver maps as much as it likes.
        on_gpu = family == pb.ENCODER_FAMILY_NVENC
        return None if on_gpu else self._settings.encode_memory_bytes


async def _watched(process: FfmpegProcess, readables: Sequence[Readable]) -> None:
    """Run FFmpeg, but stop as soon as something that it reads is lost, with the true reason."""
    encoding = asyncio.create_task(process.run())
    tasks = [encoding, *(asyncio.create_task(each.wait_failed()) for each in readables)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for each in readables:
            if each.failure is not None:
                raise each.failure
        await encoding
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
