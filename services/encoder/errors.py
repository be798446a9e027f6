"""What can go wrong with media, as plain exceptions.

`reason` is a row of the table in services/common/errors.py, which a test
checks. This module imports nothing, because the probe's child process, which
must stay free of gRPC, uses it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class MediaError(Exception):
    """An error that the owner of an export is meant to see.

    Attributes:
        reason: stable code.
        retryable: whether the same work may succeed when tried again.
        message: one sentence for a person, without paths and URLs.
    """

    reason: ClassVar[str]
    retryable: ClassVar[bool]

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidSource(MediaError):
    """The source is not a video that can be exported."""

    reason = "INVALID_SOURCE"
    retryable = False


class InvalidSubtitles(MediaError):
    """The subtitles that were asked for cannot be read, or not be drawn."""

    reason = "INVALID_SUBTITLES"
    retryable = False


class InvalidWatermark(MediaError):
    """The watermark is no image that can be drawn, or is not there any more."""

    reason = "INVALID_WATERMARK"
    retryable = False


class DamagedSource(InvalidSource):
    """Some of the source cannot be decoded; what else there is may be made all the same.

    Attributes:
        decoded: whether a decoder has said so, rather than what takes the file apart.
    """

    def __init__(self, message: str, *, decoded: bool) -> None:
        super().__init__(message)
        self.decoded = decoded


class SoundChanged(InvalidSource):
    """The sound changes its channels or its sample rate on the way."""

    def __init__(self) -> None:
        super().__init__(
            "the sound changes its channels or its sample rate within the video in a way"
            " that cannot be exported"
        )


class SourceNotFound(MediaError):
    """The object is no longer there."""

    reason = "SOURCE_NOT_FOUND"
    retryable = False


class SourceChanged(MediaError):
    """The object was overwritten since it was planned."""

    reason = "SOURCE_CHANGED"
    retryable = False


class SourceUnavailable(MediaError):
    """Reading the object failed, and went on failing when tried again."""

    reason = "SOURCE_UNAVAILABLE"
    retryable = True


class EncoderFailed(MediaError):
    """FFmpeg ended with an error; the message is its last meaningful line."""

    reason = "ENCODER_FAILED"
    retryable = True


class EncodeStalled(MediaError):
    """FFmpeg made no progress and was stopped."""

    reason = "ENCODE_STALLED"
    retryable = True


class TimeLimitExceeded(MediaError):
    """The work took longer than it may."""

    reason = "TIME_LIMIT"
    retryable = True


class MemoryExceeded(MediaError):
    """The work needs more memory than it may take."""

    reason = "MEMORY_LIMIT"
    retryable = False


class OutputMismatch(MediaError):
    """The file made is not the file planned."""

    reason = "OUTPUT_MISMATCH"
    retryable = True


class GpuFailed(MediaError):
    """The GPU could not encode a chunk; the API has the whole export made on the CPU."""

    reason = "GPU_FAILED"
    retryable = False


class PartsDiffer(MediaError):
    """Parts do not join, as when two builds of FFmpeg have made them."""

    reason = "PARTS_DIFFER"
    retryable = True


class PartMissing(MediaError):
    """Parts are no longer in the cache; the API has them made again.

    Attributes:
        keys: content keys of the parts.
    """

    reason = "PART_MISSING"
    retryable = True

    def __init__(self, keys: Sequence[bytes]) -> None:
        super().__init__(f"{len(keys)} of the export's parts are no longer there")
        self.keys = tuple(keys)


class NotCopyable(MediaError):
    """Pictures cannot be copied after all; the API has the whole export encoded."""

    reason = "COPY_FAILED"
    retryable = True


class FramesMissing(OutputMismatch):
    """The file lacks frames of the plan, which reading from further ahead may bring."""


class SoundMissing(OutputMismatch):
    """The file has all its frames, and less sound: as where its filters began anew, and ended."""


class ScratchFull(MediaError):
    """There is no room left for the output on the encoder's disk."""

    reason = "SCRATCH_FULL"
    retryable = True
