"""What the encoder and its fork server say to each other.

A request is one datagram of JSON with two descriptors: the pipe for the answer,
and the lifeline, whose other end the asker closes to end the child.
"""

from __future__ import annotations

# The first byte that a child writes. Nothing after it: the child died of what it read.
# Without it there was no child, and so no fault of the media.
BEGUN = b"."
# The first byte of the answer after it; what follows a defect is a traceback.
OK, INVALID, UNAVAILABLE, NO_ROOM, DEFECT = b"+", b"!", b"?", b"=", b"#"

# What macOS lets a datagram between processes have.
MAX_REQUEST = 2048
# Keyframes of two days, one in two seconds, take 300 KiB.
MAX_ANSWER = 1 << 20
# Of subtitles: a film has 200 KiB, one whose songs move letter by letter some MiB.
MAX_CUES = 16 << 20
# So many fit into a request, each of two times in milliseconds.
SPANS_A_REQUEST = 50
