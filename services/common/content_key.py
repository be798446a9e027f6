"""Names of parts by what they are made of: equal parts have equal names. Pure.

A key is the SHA-256 of everything that can change a bit of the part: its owner, the source
at one version, the frames and every parameter, the build of FFmpeg, the threads of the
encoder, and the recipe of the command builder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from services.common.frames import joined
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# Goes up with every change to what services/encoder/commands/job.py makes; a test that holds its
# whole output fails until it does. Also with what encoders can be asked for:
# services/api/requirements.py.
RECIPE_VERSION = 2


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What encodes.

    Attributes:
        build: of FFmpeg, fonts and what copies pictures, as encoders announce it.
        threads: of one encode on the CPU; libx264 makes other bits with other counts.
    """

    build: str
    threads: int


class VideoKeys:
    """The keys of chunks that differ in their frames alone.

    Args:
        user_id: the owner; nobody else's parts have the same key.
        template: a chunk; its frames do not matter.
    """

    def __init__(
        self,
        user_id: str,
        source: task_pb2.TaskSource,
        template: task_pb2.VideoChunk,
        tools: Toolchain,
    ) -> None:
        common = task_pb2.VideoChunk()
        common.CopyFrom(template)
        common.ClearField("start_frame")
        common.ClearField("end_frame")
        common.ClearField("copied")
        # Where reading begins changes no picture, and is another place for each chunk.
        common.info.video.ClearField("keyframes")
        # Pictures are the same with whatever sound.
        common.info.ClearField("audio")
        common.info.ClearField("audio_streams")
        # A GPU has no threads of ours, but its chunks are not worth another kind of key.
        self._common = _digest("video", user_id, source, common, tools.build, tools.threads)

    def of(self, start_frame: int, end_frame: int, *, copied: bool = False) -> bytes:
        """Return the key of one chunk."""
        how = " copied" if copied else ""
        return sha256(self._common + f"{start_frame}-{end_frame}{how}".encode()).digest()


def video_key(
    user_id: str, source: task_pb2.TaskSource, chunk: task_pb2.VideoChunk, tools: Toolchain
) -> bytes:
    """Return the key of the pictures of a chunk, 32 bytes."""
    keys = VideoKeys(user_id, source, chunk, tools)
    return keys.of(chunk.start_frame, chunk.end_frame, copied=chunk.copied)


def audio_key(
    user_id: str,
    source: task_pb2.TaskSource,
    soundtrack: task_pb2.Soundtrack,
    tools: Toolchain,
) -> bytes:
    """Return the key of a soundtrack, 32 bytes."""
    return _digest("audio", user_id, source, soundtrack, tools.build)


def output_key(
    user_id: str,
    source: task_pb2.TaskSource,
    info: pb.SourceInfo,
    plan: pb.Plan,
    family: pb.EncoderFamily.ValueType,
    build: str,
) -> bytes:
    """Return the key of a finished export, 32 bytes: who asks for the same gets the same.

    Threads are not in it, nor whether the output is made in parts: both change bits, but
    nothing that an owner asks for.
    """
    facts = pb.Plan()
    facts.CopyFrom(plan)
    for estimate in (
        "segments",
        "reusable_frame_count",
        "estimated_size_bytes",
        "estimated_processing_time",
        "chunk_count",
        # Says something of the output, and changes nothing in it.
        "measure_quality",
    ):
        facts.ClearField(estimate)
    for span in joined(plan.segments):
        facts.segments.add(start_frame=span.start, end_frame=span.end)
    known = pb.SourceInfo()
    known.CopyFrom(info)
    known.video.ClearField("keyframes")
    return _digest("output", user_id, source, facts, *(str(_plain(known)), family, build))


def _digest(kind: str, user_id: str, source: Message, work: Message, *tools: str | int) -> bytes:
    facts = [RECIPE_VERSION, kind, user_id, _plain(source), _plain(work), *tools]
    return sha256(json.dumps(facts, sort_keys=True).encode()).digest()


def _plain(message: Message) -> dict[str, object]:
    """Return a message as JSON values, which unlike its bytes are the same in every version."""
    return MessageToDict(message, preserving_proto_field_name=True)
