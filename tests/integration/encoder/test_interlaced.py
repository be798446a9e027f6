"""Pictures of two fields: found by the probe, and the same wherever a part begins."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from services.encoder.commands.builder import video_commands
from services.encoder.commands.ffmpeg_command import Site
from services.encoder.ffmpeg.process import find_ffmpeg
from services.encoder.inspection.probe import probe
from services.encoder.sources.gateway import SourceGateway
from tests.integration.encoder.probing import probe_bytes
from tests.media.object_server import ObjectServer
from tests.media.recipes import chosen
from tests.media.recipes.making import make
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


def made(name: str, clips: Path, folder: Path) -> bytes:
    [recipe] = chosen([name])
    return make(recipe.source, clips, folder).read_bytes()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("interlaced, top field first", pb.FIELD_ORDER_TOP_FIRST),
        ("interlaced, bottom field first", pb.FIELD_ORDER_BOTTOM_FIRST),
        ("interlaced MPEG-2, ts", pb.FIELD_ORDER_TOP_FIRST),
        ("interlaced ProRes", pb.FIELD_ORDER_TOP_FIRST),
        ("interlaced Motion JPEG", pb.FIELD_ORDER_BOTTOM_FIRST),
        ("telecined by flags alone", pb.FIELD_ORDER_PROGRESSIVE),
        ("whole source, mkv", pb.FIELD_ORDER_PROGRESSIVE),
    ],
)
async def test_probe_says_which_field_is_first(
    name: str, fields: pb.FieldOrder.ValueType, tmp_path: Path
) -> None:
    info = await probe_bytes(made(name, tmp_path, tmp_path))
    assert info.video.field_order == fields


@pytest.mark.parametrize("name", ["interlaced, top field first", "interlaced MPEG-2, ts"])
@pytest.mark.parametrize("start", [1, 25, 26, 50, 63])
async def test_picture_is_the_same_wherever_a_part_begins(
    name: str, start: int, tmp_path: Path
) -> None:
    content = made(name, tmp_path, tmp_path)
    async with (
        ObjectServer.serving(content) as server,
        SourceGateway() as gateway,
        gateway.expose(server.source()) as handle,
    ):
        info = await probe(handle.url, size_bytes=len(content))
        whole = await pictures(handle.url, info, 0, 70, tmp_path)
        assert len(whole) == 70
        assert await pictures(handle.url, info, start, 70, tmp_path) == whole[start:]


async def pictures(url: str, info: pb.SourceInfo, start: int, end: int, folder: Path) -> list[str]:
    """Return what tells each picture of a chunk from all others, before it is encoded."""
    chunk = task_pb2.VideoChunk(
        info=info,
        frame_rate=info.video.frame_rate,
        start_frame=start,
        end_frame=end,
        width=128,
        height=72,
        family=pb.ENCODER_FAMILY_CPU,
    )
    [command] = video_commands(site=Site(find_ffmpeg(), url, 1, folder), chunk=chunk)
    command.write_scripts()
    arguments = [*command.arguments[: command.arguments.index("-map")], "-map", "[v]"]
    arguments += ["-fps_mode", "passthrough", "-f", "framemd5", "-"]
    arguments[arguments.index("-progress") : arguments.index("-progress") + 2] = []
    done = await asyncio.to_thread(
        subprocess.run, arguments, capture_output=True, check=True, text=True
    )
    return [line.split()[-1] for line in done.stdout.splitlines() if not line.startswith("#")]
