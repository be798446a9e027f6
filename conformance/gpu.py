"""Whether the command for the GPU makes the same of a source as the one for the CPU. Pure."""

from __future__ import annotations

from pathlib import Path

from conformance.placement import Placement, UnknownFilter, placement
from services.common.geometry import upright_size
from services.encoder.commands.builder import whole_commands
from services.encoder.commands.codecs import encoder_name
from services.encoder.commands.ffmpeg_command import FfmpegCommand, Site
from services.encoder.commands.picture import picture_filters
from videoexport.v1 import export_pb2 as pb


def gpu_problems(info: pb.SourceInfo, plan: pb.Plan) -> list[str]:
    """Return what is wrong with the command for the GPU, in words."""
    try:
        commands = _commands(info, plan, pb.ENCODER_FAMILY_NVENC)
    except ValueError as error:
        return [f"no command for the GPU: {error}"]
    try:
        cpu = placed(pb.ENCODER_FAMILY_CPU, info, plan)
        gpu = placed(pb.ENCODER_FAMILY_NVENC, info, plan)
    except UnknownFilter as error:
        return [str(error)]
    problems = command_problems(commands, info, plan)
    if cpu != gpu:
        problems.append(f"the GPU places the picture at {_told(gpu)}, the CPU at {_told(cpu)}")
    ours = _commands(info, plan, pb.ENCODER_FAMILY_CPU)
    if [each.frame_count for each in ours] != [each.frame_count for each in commands]:
        problems.append("the GPU makes other frames")
    return problems


def placed(family: pb.EncoderFamily.ValueType, info: pb.SourceInfo, plan: pb.Plan) -> Placement:
    """Return where a family's filters put the picture.

    Raises:
        UnknownFilter: one of them is not known.
    """
    return placement(picture_filters(family, info.video, plan), *upright_size(info.video))


def command_problems(
    commands: tuple[FfmpegCommand, ...], info: pb.SourceInfo, plan: pb.Plan
) -> list[str]:
    """Return what the runs of the GPU lack: the encoder, the device, their filters."""
    chain = ",".join(picture_filters(pb.ENCODER_FAMILY_NVENC, info.video, plan))
    problems = []
    needed = ("-init_hw_device", encoder_name(pb.ENCODER_FAMILY_NVENC, plan.video_codec))
    encoding = [command for command in commands if command.frame_count]
    for command in encoding:
        missing = [word for word in needed if word not in command.arguments]
        if missing:
            problems.append(f"the GPU's command has no {', '.join(missing)}")
        if not any(chain in text for text in command.scripts.values()):
            problems.append("the GPU's graph lacks its filters")
    return problems


def _commands(
    info: pb.SourceInfo, plan: pb.Plan, family: pb.EncoderFamily.ValueType
) -> tuple[FfmpegCommand, ...]:
    site = Site(Path("ffmpeg"), "http://127.0.0.1/", 1, Path("."))
    return whole_commands(site=site, info=info, plan=plan, family=family)


def _told(where: Placement) -> str:
    left, top, width, height = where.area
    shown = ", ".join(str(share) for share in where.shown)
    frame = f"{where.frame[0]} × {where.frame[1]}"
    return f"{left}, {top} ({width} × {height}) of {frame}, shown {shown}"
