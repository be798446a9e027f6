"""Makes the sources of recipes."""

from __future__ import annotations

import subprocess
from itertools import count
from pathlib import Path

from tests.media.frame_codes import Clip, ffmpeg_exe, generate
from tests.media.patches import make_patches
from tests.media.recipes.recipe import Patches, Remade, Source


def make(source: Source, clips: Path, folder: Path) -> Path:
    """Make a source; return its path.

    Args:
        clips: where generated clips are kept for others.
        folder: of this source alone.
    """
    return _make(source, clips, folder, count())


def _make(source: Source, clips: Path, folder: Path, numbers: count[int]) -> Path:
    if isinstance(source, Clip):
        return generate(source, clips)
    if isinstance(source, Patches):
        return make_patches(
            *(folder / f"source{next(numbers)}.{source.container}", source.light),
            *(source.tags, source.pixel_format),
            codec=source.codec,
            told=source.told,
            alpha=source.alpha,
            rate=source.rate,
        )
    inputs = [_make(each, clips, folder, numbers) for each in source.of]
    path = folder / f"source{next(numbers)}.{source.container}"
    if isinstance(source, Remade):
        _run(source, inputs, path)
    else:
        path.write_bytes(source.how(*(each.read_bytes() for each in inputs)))
    return path


def _run(source: Remade, inputs: list[Path], output: Path) -> None:
    arguments = [ffmpeg_exe(), "-nostdin", "-v", "error", "-y"]
    for number, path in enumerate(inputs):
        arguments += [*source.before.get(number, ()), "-i", str(path)]
    done = subprocess.run(
        [*arguments, *source.arguments, str(output)], capture_output=True, check=False, text=True
    )
    if done.returncode:
        raise RuntimeError(f"the source cannot be made: {done.stderr.strip()}")
