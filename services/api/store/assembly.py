"""What the message of an assembly says of the parts that it joins. Pure."""

from __future__ import annotations

from collections.abc import Container

from videoexport.v1 import task_pb2


def frames_made_of(message: bytes, keys: Container[bytes]) -> tuple[int, int]:
    """Return how many chunks an assembly joins, and the frames of those with one of the keys."""
    video = task_pb2.Task.FromString(message).assemble.video
    return len(video), sum(part.frame_count for part in video if part.key in keys)


def with_other_key(message: bytes, planned: bytes, stored: bytes) -> bytes:
    """Return the message of an assembly that takes a part from where it was really stored."""
    task = task_pb2.Task.FromString(message)
    for part in task.assemble.video:
        if part.key == planned:
            part.key = stored
    if task.assemble.audio_key == planned:
        task.assemble.audio_key = stored
    return task.SerializeToString()
