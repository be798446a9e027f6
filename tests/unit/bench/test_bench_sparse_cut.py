"""What a cut must read at least."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from bench.sparse_cut import index_bytes, needed_bytes
from tests.media.frame_codes import Clip, generate

GOP = 25


@pytest.fixture(scope="module")
def clip(scratch: Path) -> Path:
    """Eight GOPs of a second each."""
    muxer = ("-movflags", "+faststart")
    return generate(Clip(frames=8 * GOP, gop=GOP, muxer=muxer), scratch / "clips")


def boxes(path: Path) -> Iterator[tuple[bytes, int]]:
    """Yield the type and the size of each box at the top of a small mp4."""
    data = path.read_bytes()
    position = 0
    while position < len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        yield data[position + 4 : position + 8], size
        position += size


def test_index_is_every_box_but_the_media(clip: Path) -> None:
    sizes = dict(boxes(clip))
    assert index_bytes(clip) == sizes[b"ftyp"] + sizes[b"moov"]


def test_whole_source_needs_its_index_and_all_of_its_media(clip: Path) -> None:
    sizes = dict(boxes(clip))
    media = sizes[b"mdat"] - 8  # without the box's own header
    with av.open(str(clip)) as container:
        # Nothing of the sound before the first picture is needed by this measure.
        first = next(container.demux(video=0)).pos
    assert first is not None
    before = first - (clip.stat().st_size - media)
    assert needed_bytes(clip, [(0, 8)]) == index_bytes(clip) + media - before


def test_cut_needs_the_gops_that_it_touches_and_no_other(clip: Path) -> None:
    within = needed_bytes(clip, [(2.2, 2.8)])
    assert needed_bytes(clip, [(2.0, 3.0)]) == within
    assert needed_bytes(clip, [(2.2, 2.8), (2.3, 2.9)]) == within
    across = needed_bytes(clip, [(2.8, 3.2)])
    beyond = needed_bytes(clip, [(3.2, 3.8)])
    assert across == within + beyond - index_bytes(clip)
