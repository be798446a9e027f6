"""What this machine can encode with, proven by doing it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import structlog

from services.common.codecs import H264, NAMES
from services.encoder.commands.builder import trial_command
from services.encoder.commands.codecs import ENCODER_NAMES, encoder_name
from services.encoder.errors import MediaError
from services.encoder.ffmpeg.process import FfmpegProcess, ask_ffmpeg
from videoexport.v1 import export_pb2 as pb

log = structlog.get_logger()

# What an input is read with; FFmpeg 9 brought it.
_NEEDED_HTTP_OPTION = b"initial_request_size"

Family: TypeAlias = "pb.EncoderFamily.ValueType"
Capabilities: TypeAlias = Mapping[Family, pb.EncoderCapability]


async def prove_encoders(ffmpeg: Path, *, timeout: float = 30.0) -> Capabilities:
    """Return what each family can do, its slots left open."""
    return {family: await prove_family(ffmpeg, family, timeout=timeout) for family in ENCODER_NAMES}


async def prove_family(ffmpeg: Path, family: Family, *, timeout: float) -> pb.EncoderCapability:
    """Return what a family can do: every codec of it, where it works at all."""
    problem = await prove_encoder(ffmpeg, family, timeout=timeout)
    capability = pb.EncoderCapability(
        family=family,
        encoder_name=encoder_name(family, H264),
        available=problem is None,
        unavailable_reason=problem or "",
    )
    _log(family, H264, problem)
    for codec in ENCODER_NAMES[family] if problem is None else ():
        capability.codecs.append(await _prove_codec(ffmpeg, family, codec, timeout))
    return capability


async def _prove_codec(
    ffmpeg: Path, family: Family, codec: pb.VideoCodec.ValueType, timeout: float
) -> pb.CodecCapability:
    proven = pb.CodecCapability(
        video_codec=codec, encoder_name=encoder_name(family, codec), available=True
    )
    if codec == H264:
        return proven
    problem = await _try(ffmpeg, family, codec, timeout)
    _log(family, codec, problem)
    proven.available, proven.unavailable_reason = problem is None, problem or ""
    if problem is None:
        problem = await _try(ffmpeg, family, codec, timeout, ten_bit=True)
        proven.ten_bit = problem is None
    return proven


async def prove_encoder(ffmpeg: Path, family: Family, *, timeout: float = 30.0) -> str | None:
    """Encode a few frames as a real task would; return None, or the sentence why it fails.

    That NVENC is compiled in says nothing: the driver may be missing, the GPU may
    have no encoder, or its sessions may be used up.
    """
    try:
        if not await _reads_as_needed(ffmpeg, timeout):
            return "this FFmpeg is older than version 9, which reading over HTTP needs"
    except MediaError as error:
        return error.message
    return await _try(ffmpeg, family, H264, timeout)


async def _try(
    ffmpeg: Path,
    family: Family,
    codec: pb.VideoCodec.ValueType,
    timeout: float,
    *,
    ten_bit: bool = False,
) -> str | None:
    command = trial_command(ffmpeg, family, codec, ten_bit=ten_bit)
    trial = FfmpegProcess(command, stall_timeout=timeout, time_limit=timeout)
    try:
        await trial.run()
    except MediaError as error:
        return f"a trial encode with {encoder_name(family, codec)} failed: {error.message}"
    return None


async def _reads_as_needed(ffmpeg: Path, timeout: float) -> bool:
    arguments = ("-hide_banner", "-h", "protocol=http")
    return _NEEDED_HTTP_OPTION in await ask_ffmpeg(ffmpeg, *arguments, timeout=timeout)


def _log(family: Family, codec: pb.VideoCodec.ValueType, problem: str | None) -> None:
    name = pb.EncoderFamily.Name(family)
    log.info("trial encode", family=name, codec=NAMES[codec], problem=problem)
