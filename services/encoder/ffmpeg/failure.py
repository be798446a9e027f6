"""What FFmpeg's last lines say about why it failed. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from services.encoder.errors import (
    DamagedSource,
    EncoderFailed,
    MediaError,
    MemoryExceeded,
    ScratchFull,
    SoundChanged,
)

# What FFmpeg says after the line that says what went wrong.
_AFTERMATH = re.compile(
    r"Task finished with error|Terminating thread|Conversion failed|Exiting|Last message repeated"
    r"|Error (muxing|submitting) a packet|Error (requesting|sending) (a )?frames?"
    r"|Error while (filtering|opening encoder)|Could not open encoder before EOF"
    r"|Error (closing file|writing trailer|parsing global options|initializing filters)"
    r"|Error opening (in|out)put|Nothing was written|Received .* signal"
    r"|Error (submitting|processing) packet (to|in) decoder|corrupt decoded frame"
    r"|Device creation failed|Failed to set value|Could not dynamically load"
)
_NO_ROOM = re.compile(r"No space left on device|Disk quota exceeded")
_NO_MEMORY = re.compile(r"Cannot allocate memory|malloc of size \d+ failed")
_COMPONENT = re.compile(r"^(\[[^\]]* @ 0x[0-9a-f]+\] ?)+")
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)
_PATH = re.compile(r"(?<![\w.])/[^\s'\":,]+")

# The part of FFmpeg that ended the run is one that reads: nothing after it, where our own
# filters, encoders and outputs are, calls what it was given invalid data with these words.
_DAMAGED = re.compile(
    r"^\[(?:(?P<kind>[av])ist#[^\]]*\] \[dec:|in#)[^\]]*\] "
    # The second is what AAC's decoder says of a layout of channels that makes no sense; AC-3's and
    # E-AC-3's have numbers of their own for what is wrong.
    r"Task finished with error code: \S+ "
    r"\((Invalid data found|Operation not permitted|Error number -\d+ occurred)"
)
# What a demuxer or a decoder says of what it reads, although the run may end well. Of pictures
# that are decoded on the way to the first one that is wanted, what they need may not be there.
_COMPLAINT = re.compile(r"^\[(?!out#|[av]ist#|[av]ost#|fc#|Parsed_|libx264|aac_|AVFilter)[^\]]+ @ ")
_USUAL = re.compile(
    r"mmco: unref short failure|co located POCs unavailable|Missing reference picture"
    r"|Could not find ref with POC|reference picture missing|First slice in a frame missing"
)
# Filters of sound begin anew, and count from zero, when what they are given changes.
_SOUND_CHANGED = re.compile(r"^\[aost#\d+:\d+/(?!copy)[^\]]*\] Non-monotonic DTS")


def is_telling(line: str) -> bool:
    """Return whether a line alone decides what a run has failed of."""
    return any(pattern.search(line) for pattern in (_NO_ROOM, _NO_MEMORY, _DAMAGED, _SOUND_CHANGED))


def failure_of(lines: Sequence[str], memory_limit: int | None) -> MediaError:
    """Return what a run that wrote these lines has failed of.

    A source that cannot be decoded is INVALID_SOURCE, for it cannot be the next time either.
    Whatever is not known to come of the source or the machine is ENCODER_FAILED.

    Args:
        lines: what it wrote to standard error, components included.
        memory_limit: bytes of memory that it was allowed.
    """
    if any(_NO_ROOM.search(line) for line in lines):
        return ScratchFull("there is no room left for the output on the encoder's disk")
    if memory_limit and any(_NO_MEMORY.search(line) for line in lines):
        return MemoryExceeded(
            f"encoding the video takes more than the {memory_limit / 2**30:.1f} GiB of"
            " memory that one encode may take"
        )
    for line in lines:
        if (damaged := _DAMAGED.search(line)) is not None:
            what = {"v": "pictures", "a": "sound"}.get(damaged["kind"], "data")
            return DamagedSource(
                f"the video is damaged: some of its {what} cannot be decoded",
                decoded=damaged["kind"] is not None,
            )
        if _SOUND_CHANGED.search(line):
            return SoundChanged()
    return EncoderFailed(last_meaningful_line(lines))


def complains(lines: Iterable[str]) -> bool:
    """Return whether a run that has ended well has met something odd in what it has read."""
    return any(_COMPLAINT.search(line) and not _USUAL.search(line) for line in lines)


def failure_in_spite_of(lines: Sequence[str]) -> MediaError | None:
    """Return why a run that ended well has made something wrong; None where it has not."""
    return SoundChanged() if any(map(_SOUND_CHANGED.search, lines)) else None


def last_meaningful_line(lines: Iterable[str]) -> str:
    """Return the line that says what went wrong, without paths, URLs and addresses."""
    plain = [_COMPONENT.sub("", line).strip() for line in lines]
    said = [line for line in plain if line] or ["FFmpeg gave no reason"]
    telling = [line for line in said if not _AFTERMATH.search(line)]
    # Aftermath alone: the earlier, the nearer to the cause.
    line = telling[-1] if telling else said[0]
    return _PATH.sub("a file", _URL.sub("the source", line))
