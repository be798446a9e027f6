"""Packets of a stream, in spite of what PyAV does not expect. Runs in a child process only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream


def packets_of(container: InputContainer, stream: Stream) -> Iterator[Packet[Any]]:
    """Yield the packets of a stream from where its container is read; an empty one at the end."""
    while True:
        try:
            yield from container.demux(stream)
        except IndexError:
            # Of a stream that a broadcast has begun on the way, which PyAV does not know.
            continue
        return
