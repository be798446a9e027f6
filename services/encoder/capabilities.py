"""What this machine can encode with, proven by doing it."""

from __future__ import annotations

from pathlib import Path

from services.encoder.command import trial_command
from services.encoder.errors import MediaError
from services.encoder.ffmpeg import FfmpegProcess, ask_ffmpeg
from services.encoder.options import ENCODER_NAMES
from videoexport.v1 import export_pb2 as pb

__all__ = ["ENCODER_NAMES", "prove_encoder"]

# What an input is read with; FFmpeg 9 brought it.
_NEEDED_HTTP_OPTION = b"initial_request_size"


async def prove_encoder(
    ffmpeg: Path, family: pb.EncoderFamily.ValueType, *, timeout: float = 30.0
) -> str | None:
    """Encode a few frames as a real task would; return None, or the sentence why it fails.

    That NVENC is compiled in says nothing: the driver may be missing, the GPU may
    have no encoder, or its sessions may be used up.
    """
    try:
        if not await _reads_as_needed(ffmpeg, timeout):
            return "this FFmpeg is older than version 9, which reading over HTTP needs"
    except MediaError as error:
        return error.message
    trial = FfmpegProcess(trial_command(ffmpeg, family), stall_timeout=timeout, time_limit=timeout)
    try:
        await trial.run()
    except MediaError as error:
        return f"a trial encode with {ENCODER_NAMES[family]} failed: {error.message}"
    return None


async def _reads_as_needed(ffmpeg: Path, timeout: float) -> bool:
    arguments = ("-hide_banner", "-h", "protocol=http")
    return _NEEDED_HTTP_OPTION in await ask_ffmpeg(ffmpeg, *arguments, timeout=timeout)
