"""What the encoder and its fork server say to each other.

A request is one datagram of JSON with two descriptors: the pipe for the answer,
and the lifeline, whose other end the asker closes to end the child.
"""

from __future__ import annotations

# The first byte of an answer. No answer at all: the child died of what it read.
OK, INVALID, UNAVAILABLE = b"+", b"!", b"?"

# What macOS lets a datagram between processes have.
MAX_REQUEST = 2048
# Keyframes of two days, one in two seconds, take 300 KiB.
MAX_ANSWER = 1 << 20
