"""Made in parts beside made in one run: 5 minutes of 720p on one encoder.

What the parts cost is everything that FFmpeg does for them: their pictures, the sound and
the assembly. Both files are compared with the source, as it is when scaled to their size.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench import ffmpeg, sources
from bench.quality import Quality, compare, count_frames
from bench.report import Figure, say
from bench.stage import NEVER_IN_PARTS, Shape, stage

MOST_CPU = 1.08
MOST_SIZE_DIFFERENCE = 1.0
MOST_SSIM_LOSS = 0.0005
MOST_VMAF_LOSS = 0.6
# Neither end lies on a keyframe, which are on even seconds.
SEGMENT = (61.32, 361.32)


@dataclass(frozen=True, slots=True)
class Made:
    """An export and what it cost.

    Attributes:
        cpu: seconds of FFmpeg.
        encoder_cpu: of the encoder with all its children, FFmpeg included.
        parts: with pictures; 0 where it was made in one run.
        complaints: of a decoder that is told to be strict.
    """

    wall: float
    cpu: float
    encoder_cpu: float
    parts: int
    size_bytes: int
    frames: int
    quality: Quality
    complaints: list[str]


async def measure(folder: Path) -> list[Figure]:
    """Return the cost in parts over the cost in one run, and how the files differ."""
    source = await sources.ten_minutes(folder)
    whole = await _make(folder, source, Shape(api=NEVER_IN_PARTS))
    parts = await _make(folder, source, Shape())
    if whole.parts or not parts.parts:
        raise RuntimeError(f"made in {whole.parts} and {parts.parts} parts")
    for complaint in parts.complaints:
        say(f"chunked: {complaint}")
    return figures(whole, parts)


def figures(whole: Made, parts: Made) -> list[Figure]:
    """Return what the two exports say."""
    cpu = parts.cpu / whole.cpu
    size = 100 * (parts.size_bytes / whole.size_bytes - 1)
    ssim = whole.quality.ssim - parts.quality.ssim
    vmaf = whole.quality.vmaf - parts.quality.vmaf
    frames = parts.frames - whole.frames
    complaints = len(parts.complaints)
    return [
        Figure("chunked", cpu, "× CPU of one run", f"≤ {MOST_CPU} ×", cpu <= MOST_CPU),
        Figure(
            "chunked.size",
            size,
            "% larger",
            f"within ± {MOST_SIZE_DIFFERENCE:g} %",
            abs(size) <= MOST_SIZE_DIFFERENCE,
        ),
        Figure(
            "chunked.ssim_loss",
            1000 * ssim,
            "thousandths of SSIM",
            f"≤ {1000 * MOST_SSIM_LOSS:g}",
            ssim <= MOST_SSIM_LOSS,
        ),
        Figure(
            "chunked.vmaf_loss",
            vmaf,
            "VMAF",
            f"within ± {MOST_VMAF_LOSS}",
            abs(vmaf) <= MOST_VMAF_LOSS,
        ),
        Figure("chunked.frames_off", frames, "frames", "0", frames == 0),
        Figure("chunked.warnings", complaints, "lines", "0", complaints == 0),
        Figure("chunked.parts", parts.parts, "parts with pictures"),
        *(
            Figure(f"chunked.{name}_{detail}", value, unit)
            for name, made in (("whole", whole), ("parts", parts))
            for detail, value, unit in (
                ("cpu", made.cpu, "CPU s"),
                ("encoder_cpu", made.encoder_cpu, "CPU s"),
                ("time", made.wall, "s"),
                ("ssim", made.quality.ssim, "SSIM"),
                ("vmaf", made.quality.vmaf, "VMAF"),
            )
        ),
    ]


async def _make(folder: Path, source: Path, shape: Shape) -> Made:
    async with stage(folder, shape) as ready:
        video_id = await ready.probed(source)
        info = await ready.client.probe(video_id)
        cpu, encoder_cpu = await ready.ffmpeg_cpu(), ready.cpu_seconds("encoder-1")
        wall, done = await ready.export(video_id, [SEGMENT], keep=True)
        cpu = await ready.ffmpeg_cpu() - cpu
        encoder_cpu = ready.cpu_seconds("encoder-1") - encoder_cpu
        output = await ready.client.download(done, ready.outputs / "made.mp4")
        made = Made(
            *(wall, cpu, encoder_cpu, done.plan.chunk_count, done.output.size_bytes),
            frames=count_frames(output),
            quality=await compare(output, source, SEGMENT, info, ready.outputs),
            complaints=await ffmpeg.complaints(output),
        )
    say(
        f"chunked: {made.parts} parts, {wall:.1f} s, {cpu:.1f} CPU s, {made.size_bytes} bytes, "
        f"SSIM {made.quality.ssim:.5f}, VMAF {made.quality.vmaf:.2f}"
    )
    return made
