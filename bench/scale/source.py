"""The source that all simulated exports are cut from: two hours that nobody has filmed."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

SECONDS = 7200
RATE = 25
GOP_SECONDS = 2


def source_info(source: task_pb2.TaskSource) -> pb.SourceInfo:
    """Return what a probe says of the source."""
    frames = SECONDS * RATE
    return pb.SourceInfo(
        container="mov,mp4,m4a,3gp,3g2,mj2",
        duration=Duration(seconds=SECONDS),
        first_frame_time=Duration(),
        size_bytes=source.size_bytes,
        etag=source.etag,
        video=pb.VideoStream(
            index=0,
            codec="h264",
            width=1920,
            height=1080,
            sample_aspect_ratio=pb.Rational(numerator=1, denominator=1),
            frame_rate=pb.Rational(numerator=RATE, denominator=1),
            frame_count=frames,
            pixel_format="yuv420p",
            bit_depth=8,
            max_keyframe_interval=Duration(seconds=GOP_SECONDS),
            bit_rate=5_000_000,
            keyframes=range(0, frames, GOP_SECONDS * RATE),
        ),
        audio=pb.AudioStream(
            index=1,
            codec="aac",
            sample_rate=48_000,
            channels=2,
            channel_layout="stereo",
            first_sample_time=Duration(),
            duration=Duration(seconds=SECONDS),
            bit_rate=192_000,
        ),
    )
