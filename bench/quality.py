"""How like its source an export looks: SSIM and VMAF, as FFmpeg's filters measure them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av

from bench import ffmpeg
from services.common.frames import FrameRange
from services.common.planner import fraction_of
from services.encoder.commands.filters import Timeline, video_graph
from services.encoder.commands.picture import picture_filters
from services.encoder.commands.readings import Reading
from videoexport.v1 import export_pb2 as pb

# Of VMAF: every fifth frame. It costs more than decoding, and both sides lose the same ones.
SUBSAMPLE = 5
THREADS = 2
# Seconds that reading begins early, which is more than a GOP of the sources.
MARGIN_S = 6.0
# By number, whatever the files say of time. Not by `setpts=N/25/TB`, whose rounding compares some
# frames with their neighbours: one frame in thirteen did cost a clip a point of VMAF.
COUNTED = "settb=1/25,setpts=N"


@dataclass(frozen=True, slots=True)
class Quality:
    """Means over the frames.

    Attributes:
        ssim: over luma and chroma, 0 to 1.
        vmaf: of model v0.6.1, 0 to 100.
    """

    ssim: float
    vmaf: float


async def compare(
    made: Path, source: Path, segment: tuple[float, float], info: pb.SourceInfo, folder: Path
) -> Quality:
    """Compare a file with a segment of its source, cut and scaled as the encoder does it.

    Args:
        segment: in seconds of the source, on its frame grid.
        info: what the source is.
        folder: where the filters write, and FFmpeg runs: the paths are absolute.
    """
    with av.open(str(made)) as container:
        stream = container.streams.video[0]
        plan = pb.Plan(width=stream.width, height=stream.height)
    rate = Fraction(info.video.frame_rate.numerator, info.video.frame_rate.denominator)
    timeline = Timeline(rate, fraction_of(info.first_frame_time))
    frames = FrameRange(*(round(time * rate) for time in segment))
    wanted = video_graph(
        [Reading((frames,))],
        timeline,
        info.video.index,
        picture_filters(pb.ENCODER_FAMILY_CPU, info.video, plan),
    )
    graph = [
        wanted,
        f"[v]{COUNTED},split[ssim_wanted][vmaf_wanted]",
        f"[1:v]{COUNTED},split[ssim_made][vmaf_made]",
        "[ssim_made][ssim_wanted]ssim=stats_file=ssim.txt[ssim]",
        f"[vmaf_made][vmaf_wanted]libvmaf=n_subsample={SUBSAMPLE}:n_threads={THREADS}"
        ":log_fmt=json:log_path=vmaf.json[vmaf]",
    ]
    early = max(0.0, segment[0] - MARGIN_S)
    await ffmpeg.run(
        [
            *("-copyts", "-noaccurate_seek", "-ss", str(early), "-i", str(source)),
            *("-i", str(made), "-filter_complex", ";".join(graph)),
            *("-map", "[ssim]", "-f", "null", "-", "-map", "[vmaf]", "-f", "null", "-"),
        ],
        folder=folder,
    )
    logs = folder / "ssim.txt", folder / "vmaf.json"
    ssim, vmaf = (log.read_text(encoding="utf-8") for log in logs)
    for log in logs:
        log.unlink()
    return Quality(mean_ssim(ssim.splitlines()), json.loads(vmaf)["pooled_metrics"]["vmaf"]["mean"])


async def vmaf_of(made: Path, reference: Path, folder: Path) -> float:
    """Return how like a reference of the same size and frames a file looks, by VMAF.

    Args:
        folder: where the filter writes, and FFmpeg runs: the paths are absolute.
    """
    graph = (
        f"[0:v]{COUNTED}[made];[1:v]{COUNTED}[wanted];[made][wanted]libvmaf=n_subsample={SUBSAMPLE}"
        f":n_threads={THREADS}:log_fmt=json:log_path=vmaf.json"
    )
    files = ["-i", str(made), "-i", str(reference)]
    await ffmpeg.run([*files, "-lavfi", graph, "-f", "null", "-"], folder=folder)
    log = folder / "vmaf.json"
    told = json.loads(log.read_text(encoding="utf-8"))
    log.unlink()
    return float(told["pooled_metrics"]["vmaf"]["mean"])


def mean_ssim(lines: Iterable[str]) -> float:
    """Return the mean of what the filter has written: a line a frame, `n:1 Y:… All:0.98 (…)`."""
    values = [float(line.partition("All:")[2].split()[0]) for line in lines]
    return sum(values) / len(values)


def count_frames(path: Path) -> int:
    """Return how many packets with pictures a file holds."""
    with av.open(str(path)) as container:
        return sum(1 for packet in container.demux(video=0) if packet.size)
