"""Pictures that are copied: into parts, and in what is joined of them. Asks child processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.common.frames import rate_of
from services.common.planner import fraction_of
from services.common.smart_copy import NOT_COPIED
from services.encoder.deadline import Deadline
from services.encoder.errors import NotCopyable, OutputMismatch, ScratchFull, SourceUnavailable
from services.encoder.formats.copied_part import Seal
from services.encoder.inspection.probe import ask
from services.encoder.inspection.protocol import NO_ROOM, OK, UNAVAILABLE
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# That a part may have beside its pictures, which are at most the source: for its index.
_INDEX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Survey:
    """What parts say that are joined without being alike.

    Attributes:
        head: an mp4 without pictures that has the parameters of all, to be joined first.
        ahead: how many frames ahead of when they show pictures are decoded, at the most.
        seals: of each part, what was copied into it.
    """

    head: Path
    ahead: int
    seals: tuple[Seal | None, ...]


async def copy_part(
    url: str, size_bytes: int, chunk: task_pb2.VideoChunk, folder: Path, deadline: Deadline
) -> Path:
    """Copy the pictures of a chunk; return the part, checked against the source.

    Args:
        url: the source on loopback HTTP.

    Raises:
        NotCopyable: they are not as the index had let expect.
        SourceUnavailable, ScratchFull, TimeLimitExceeded: what else was wrong.
    """
    part = folder / "output.mp4"
    order = {
        "url": url,
        "size_bytes": size_bytes,
        "stream": chunk.info.video.index,
        "origin": str(fraction_of(chunk.info.first_frame_time)),
        "rate": str(rate_of(chunk.frame_rate)),
        "start": chunk.start_frame,
        "end": chunk.end_frame,
        "ahead": chunk.info.video.reordered_frames,
        "part": str(part),
    }
    answer = await ask({"copy": order, "file_bytes": size_bytes + _INDEX_BYTES}, deadline)
    kind, content = answer[:1], answer[1:]
    if kind == UNAVAILABLE:
        raise SourceUnavailable(content.decode())
    if kind == NO_ROOM:
        raise ScratchFull(content.decode())
    if kind != OK:
        raise _not_copyable(content.decode() or "the file is damaged")
    frames = chunk.end_frame - chunk.start_frame
    try:
        # They are decoded once they are joined, which may be the first time that they are.
        alone = [(frames, content.hex(), False)]
        await check_joins(part, alone, chunk.frame_rate, folder, deadline)
    except OutputMismatch as error:
        raise _not_copyable(error.message) from error
    Seal(content, chunk.start_frame).write(part)
    return part


def _not_copyable(problem: str) -> NotCopyable:
    return NotCopyable(f"{NOT_COPIED}: {problem}")


async def survey(
    parts: Sequence[tuple[str, int]], rate: pb.Rational, folder: Path, deadline: Deadline
) -> Survey:
    """Return what parts say, in order.

    Args:
        parts: their URLs on loopback HTTP, and their sizes in bytes.

    Raises:
        OutputMismatch: they do not go together.
        SourceUnavailable, TimeLimitExceeded: what else was wrong.
    """
    order = folder / "survey.json"
    order.write_text(json.dumps({"parts": parts, "rate": str(rate_of(rate))}))
    answer = await ask({"survey": str(order)}, deadline)
    kind, content = answer[:1], answer[1:]
    if kind == UNAVAILABLE:
        raise SourceUnavailable(content.decode())
    if kind != OK:
        raise OutputMismatch(content.decode() or "a part cannot be read")
    told = json.loads(content)
    head = folder / "head.mp4"
    head.write_bytes(bytes.fromhex(told["head"]))
    seals = [seal and Seal(bytes.fromhex(seal[0]), seal[1]) for seal in told["seals"]]
    return Survey(head, told["ahead"], tuple(seals))


def checks_of(
    frame_counts: Sequence[int], seals: Sequence[Seal | None]
) -> list[tuple[int, str | None, bool]]:
    """Return what is checked of each part of a joined file, for `check_joins`.

    Where one that was copied goes on with what was copied into the part before it, nothing was
    joined that was apart.
    """
    checks = []
    follows = None
    for frame_count, seal in zip(frame_counts, seals, strict=True):
        goes_on = seal is not None and seal.start == follows
        checks.append((frame_count, None if seal is None else seal.digest.hex(), not goes_on))
        follows = None if seal is None else seal.start + frame_count
    return checks


async def check_joins(
    path: Path,
    parts: Sequence[tuple[int, str | None, bool]],
    rate: pb.Rational,
    folder: Path,
    deadline: Deadline,
) -> None:
    """Check every picture of a file, and decode around places where parts of it meet.

    Args:
        parts: of each its frames, the SHA-256 of its pictures where it has to be a certain one,
            and whether it is decoded from before its beginning.

    Raises:
        OutputMismatch: bytes, times or what is decoded are not what they should be.
        TimeLimitExceeded: that took too long.
    """
    order = folder / "joins.json"
    order.write_text(json.dumps({"parts": parts, "rate": str(rate_of(rate))}))
    answer = await ask({"path": str(path), "joins": str(order)}, deadline)
    if answer[:1] != OK:
        raise OutputMismatch(answer[1:].decode() or "pictures around a join cannot be decoded")
