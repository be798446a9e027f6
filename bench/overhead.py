"""What the service adds to FFmpeg: a 2 s clip from CreateExport to COMPLETED, less FFmpeg itself.

FFmpeg's own time is that of the encoder's very command, run bare on a presigned URL. Where
other work shares the machine, two runs of FFmpeg differ by more than is to be measured;
so what passed outside FFmpeg in the very same run is told as well.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from bench import ffmpeg, sources
from bench.report import Figure, say
from bench.stage import SETTINGS, Stage
from services.encoder.commands.builder import whole_commands
from services.encoder.commands.ffmpeg_command import Site
from videoexport.v1 import export_pb2 as pb

# More than elsewhere: the difference of two short times is noisy.
RUNS = 11
MOST_P50_S = 0.5


async def measure(stage: Stage) -> list[Figure]:
    """Return the median of what is added, for a probed and for a fresh source."""
    source = await sources.short(stage.folder)
    probed = await stage.client.upload(source)
    plan = await stage.client.plan(probed, settings=SETTINGS)
    info = await stage.client.probe(probed)
    if plan is None:
        raise RuntimeError("the source could not be planned")
    url = await stage.source_url(probed)
    bare: list[float] = []
    known: list[float] = []
    fresh: list[float] = []
    outside: list[float] = []
    for run in range(RUNS):
        bare.append(await _bare(stage, url, info, plan))
        before = await _frames_per_second(stage)
        known.append((await stage.export(probed))[0])
        speed = await _frames_per_second(stage) - before
        outside.append(known[-1] - plan.frame_count / speed)
        never_seen = await stage.client.upload(source)
        fresh.append((await stage.export(never_seen))[0])
        say(
            f"overhead {run + 1}/{RUNS}: FFmpeg {bare[-1]:.3f} s, "
            f"probed {known[-1]:.3f} s ({outside[-1]:.3f} s outside FFmpeg), "
            f"fresh {fresh[-1]:.3f} s"
        )
    added, added_fresh = (
        median(service - alone for service, alone in zip(services, bare, strict=True))
        for services in (known, fresh)
    )
    return [
        Figure("overhead", added, "s", f"≤ {MOST_P50_S} s", added <= MOST_P50_S),
        Figure("overhead.outside_ffmpeg", median(outside), "s"),
        Figure("overhead.fresh", added_fresh, "s"),
        Figure("overhead.service", median(known), "s"),
        Figure("overhead.service_fresh", median(fresh), "s"),
        Figure("overhead.ffmpeg", median(bare), "s"),
    ]


async def _frames_per_second(stage: Stage) -> float:
    """Return the sum of the speeds of all encodes so far; its growth is that of the last one."""
    return await stage.counter("videoexport_encode_frames_per_second_sum")


async def _bare(stage: Stage, url: str, info: pb.SourceInfo, plan: pb.Plan) -> float:
    with TemporaryDirectory(dir=stage.outputs) as folder:
        commands = whole_commands(
            site=Site(Path(ffmpeg.ffmpeg_exe()), url, stage.threads, Path(folder)),
            info=info,
            plan=plan,
            family=pb.ENCODER_FAMILY_CPU,
        )
        spent = ffmpeg.Spent(0, 0)
        for command in commands:
            command.write_scripts()
            spent += await ffmpeg.run(command.arguments)
    return spent.wall
