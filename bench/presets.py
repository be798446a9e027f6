"""How alike the codecs' presets look: python -m bench.presets CLIP…

Each clip is made once as the encoder scales it, without loss. From there every codec encodes it
at every quality, with the encoder's own options, and is compared with it by VMAF. What is
looked for is the same quality as H.264's: docs/quality.md.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from bench import ffmpeg
from bench.quality import vmaf_of
from bench.report import EXIT_MISSED, say
from services.common.codecs import H264, NAMES
from services.common.geometry import frame_of
from services.encoder.commands.codecs import CRF, video_codec
from services.encoder.commands.picture import picture_filters
from services.encoder.formats.colour_names import MATRICES, PRIMARIES, RANGES, TRANSFERS
from videoexport.v1 import export_pb2 as pb

CPU = pb.ENCODER_FAMILY_CPU
QUALITIES = {pb.QUALITY_HIGH: "HIGH", pb.QUALITY_MEDIUM: "MEDIUM", pb.QUALITY_LOW: "LOW"}
THREADS = 2
# By how much VMAF may differ from H.264's.
MOST_APART = 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What one encode came to.

    Attributes:
        vmaf: mean over the frames.
        size_bytes: of the pictures.
        cpu_seconds: of the encode alone, from pictures that need no decoding to speak of.
    """

    clip: str
    codec: pb.VideoCodec.ValueType
    quality: pb.Quality.ValueType
    vmaf: float
    size_bytes: int
    cpu_seconds: float


async def reference_of(clip: Path, folder: Path) -> Path:
    """Make of a clip what the encoder encodes of it by default, without loss."""
    video = await asyncio.to_thread(_described, clip)
    frame = frame_of(video, pb.ExportSettings())
    plan = pb.Plan(width=frame.width, height=frame.height, fit=frame.fit)
    filters = ",".join([f"fps={_rate(video)}", *picture_filters(CPU, video, plan)])
    path = folder / f"{clip.stem}.mkv"
    await ffmpeg.run(["-i", str(clip), "-an", "-vf", filters, "-c:v", "ffv1", str(path)])
    return path


async def measure(
    reference: Path,
    codec: pb.VideoCodec.ValueType,
    quality: pb.Quality.ValueType,
    folder: Path,
) -> Measured:
    """Encode a reference as a task would, and compare the two."""
    made = folder / f"{reference.stem}.mp4"
    options = video_codec(CPU, codec, quality, threads=THREADS, stitchable=False)
    spent = await ffmpeg.run(["-i", str(reference), *options, str(made)])
    found = Measured(
        *(reference.stem, codec, quality, await vmaf_of(made, reference, folder)),
        *(made.stat().st_size, spent.cpu),
    )
    made.unlink()
    return found


def page(rows: Sequence[Measured]) -> str:
    """Return a table in Markdown, each codec beside H.264."""
    usual = {(row.clip, row.quality): row for row in rows if row.codec == H264}
    lines = [
        "| clip | quality | codec | CRF | VMAF | beside H.264 | size | beside H.264 | CPU s |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        beside = usual[row.clip, row.quality]
        apart, share = "", ""
        if row.codec != H264:
            apart = f"{row.vmaf - beside.vmaf:+.2f}"
            share = f"× {row.size_bytes / beside.size_bytes:.2f}"
        cells = (
            *(row.clip, QUALITIES[row.quality], NAMES[row.codec]),
            *(f"{CRF[row.codec][row.quality]:g}", f"{row.vmaf:.2f}", apart),
            *(f"{row.size_bytes / 1000:.0f} kB", share, f"{row.cpu_seconds:.1f}"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def far_apart(rows: Sequence[Measured]) -> list[Measured]:
    """Return what looks unlike H.264 at the same quality."""
    usual = {(row.clip, row.quality): row.vmaf for row in rows if row.codec == H264}
    return [row for row in rows if abs(row.vmaf - usual[row.clip, row.quality]) > MOST_APART]


async def run(clips: Sequence[Path]) -> list[Measured]:
    """Measure every codec at every quality of clips."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for clip in clips:
            reference = await reference_of(clip.absolute(), Path(scratch))
            for quality in QUALITIES:
                for codec in CRF:
                    rows.append(await measure(reference, codec, quality, Path(scratch)))
                    say(f"{rows[-1]}")
            reference.unlink()
    return rows


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.presets", description=__doc__)
    parser.add_argument("clips", nargs="+", type=Path, metavar="CLIP")
    rows = asyncio.run(run(parser.parse_args().clips))
    sys.stdout.write(page(rows))
    return EXIT_MISSED if far_apart(rows) else 0


def _described(clip: Path) -> pb.VideoStream:
    with av.open(str(clip)) as file:
        stream = file.streams.video[0]
        rate = stream.average_rate or stream.guessed_rate
        frame = next(file.decode(stream))
        return pb.VideoStream(
            width=frame.width,
            height=frame.height,
            frame_rate=pb.Rational(numerator=rate.numerator, denominator=rate.denominator),
            bit_depth=max(component.bits for component in frame.format.components),
            pixel_format=frame.format.name,
            color_primaries=PRIMARIES.get(frame.color_primaries, ""),
            color_transfer=TRANSFERS.get(frame.color_trc, ""),
            color_space=MATRICES.get(frame.colorspace, ""),
            color_range=RANGES.get(frame.color_range, ""),
        )


def _rate(video: pb.VideoStream) -> str:
    return f"{video.frame_rate.numerator}/{video.frame_rate.denominator}"


if __name__ == "__main__":
    sys.exit(main())
