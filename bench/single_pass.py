"""The service beside the best bare FFmpeg command, for the same 60 s of 720p.

FFmpeg has every advantage: the source is a local file, the output stays one, nothing
is checked. The service reads from S3, verifies and stores, and answers over gRPC.
"""

from __future__ import annotations

from statistics import median

from bench import ffmpeg, sources
from bench.report import Figure, say
from bench.stage import Stage

RUNS = 5
MOST_RATIO = 1.05
ALLOWANCE_S = 0.5


async def measure(stage: Stage) -> list[Figure]:
    """Return the ratio of wall times, and what both sides took."""
    source = await sources.minute(stage.folder)
    # Probed now: what a fresh source costs is a figure of its own (overhead.fresh).
    video_id = await stage.probed(source)
    output = stage.outputs / "single-pass.mp4"
    bare_command = ["-i", str(source), *ffmpeg.encoding(stage.threads), str(output)]
    service: list[float] = []
    cluster_cpu: list[float] = []
    ffmpeg_cpu: list[float] = []
    bare: list[ffmpeg.Spent] = []
    for run in range(RUNS):
        cpu, inner = stage.cpu_seconds(), await stage.ffmpeg_cpu()
        wall, done = await stage.export(video_id)
        cluster_cpu.append(stage.cpu_seconds() - cpu)
        ffmpeg_cpu.append(await stage.ffmpeg_cpu() - inner)
        service.append(wall)
        bare.append(await ffmpeg.run(bare_command))
        if done.output.frame_count != sources.MINUTE_S * sources.FRAMES_PER_SECOND:
            raise RuntimeError(f"the service made {done.output.frame_count} frames")
        say(
            f"single_pass {run + 1}/{RUNS}: service {wall:.2f} s, bare {bare[-1].wall:.2f} s; "
            f"{done.output.size_bytes} and {output.stat().st_size} bytes"
        )
    wall, bare_wall = median(service), median(spent.wall for spent in bare)
    return [
        Figure(
            "single_pass",
            wall / bare_wall,
            "× bare FFmpeg",
            f"≤ {MOST_RATIO} × + {ALLOWANCE_S} s",
            wall <= MOST_RATIO * bare_wall + ALLOWANCE_S,
        ),
        Figure("single_pass.service", wall, "s"),
        Figure("single_pass.bare", bare_wall, "s"),
        Figure("single_pass.service_ffmpeg_cpu", median(ffmpeg_cpu), "CPU s"),
        Figure("single_pass.service_cluster_cpu", median(cluster_cpu), "CPU s"),
        Figure("single_pass.bare_cpu", median(spent.cpu for spent in bare), "CPU s"),
    ]
