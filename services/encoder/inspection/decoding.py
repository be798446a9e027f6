"""A decoder that passes over nothing. Runs in a child process only."""

from __future__ import annotations

from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from services.encoder.errors import OutputMismatch


def strict_decoder(video: VideoStream, **options: str) -> VideoCodecContext:
    """Return a decoder for packets of a stream that stops at whatever it cannot decode.

    Args:
        options: of its own.

    Raises:
        OutputMismatch: there are no pictures in the stream.
    """
    decoder = CodecContext.create(video.codec_context.name, "r")
    if not isinstance(decoder, VideoCodecContext):
        raise OutputMismatch("there are no pictures")
    decoder.extradata = video.codec_context.extradata
    # Threads of frames wait for each other for ever once one has met an error.
    decoder.thread_type = "NONE"
    decoder.options = {"err_detect": "explode", **options}
    return decoder
