"""An object behind a URL as a read-only file, by ranged requests.

The probe hands this to the demuxer instead of the URL: libav then has no
protocol at all, so that nothing a file says can make it fetch anything else.
"""

from __future__ import annotations

import http.client
from collections import OrderedDict
from urllib.parse import urlsplit

# Longer than the gateway tries before it gives up on storage.
REQUEST_TIMEOUT = 60.0
BLOCK_BYTES = 64 << 10
# Where much is read in its order, a request costs more than what it brings.
LARGE_BLOCK_BYTES = 1 << 20
# Index, pictures and sound lie in different places, which are read in turn.
_BYTES_KEPT = 8 << 20


class HttpFile:
    """A file of known size; enough of the protocol for PyAV."""

    def __init__(self, url: str, size_bytes: int, block_bytes: int = BLOCK_BYTES) -> None:
        """Open nothing yet.

        Args:
            url: plain HTTP.
            block_bytes: that a request asks for.
        """
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=REQUEST_TIMEOUT)
        self._target = parts._replace(scheme="", netloc="").geturl()
        self._size = size_bytes
        self._block_bytes = block_bytes
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        # PyAV turns what a read raises into an error of its own; this is the truth.
        self.failure: Exception | None = None

    def read(self, length: int = -1) -> bytes:
        """Return the next bytes; fewer than `length` at a block's or the file's end.

        Raises:
            OSError: the server does not give them.
        """
        if self._position >= self._size or length == 0:
            return b""
        number, offset = divmod(self._position, self._block_bytes)
        block = self._block(number)
        data = block[offset:] if length < 0 else block[offset : offset + length]
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to `offset` from the start (0), the position (1) or the end (2)."""
        self._position = max(0, offset + (0, self._position, self._size)[whence])
        return self._position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def read_at(self, start: int, length: int) -> bytes:
        """Return bytes from a place, fewer at the end, past what is kept for others.

        Raises:
            OSError: the server does not give them.
        """
        end = min(start + length, self._size)
        return self._tried(start, end) if start < end else b""

    def _block(self, number: int) -> bytes:
        block = self._blocks.get(number)
        if block is None:
            first = number * self._block_bytes
            block = self._tried(first, min(first + self._block_bytes, self._size))
            self._blocks[number] = block
            if len(self._blocks) * self._block_bytes > _BYTES_KEPT:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(number)
        return block

    def _tried(self, first: int, end: int) -> bytes:
        try:
            return self._fetch(first, end - 1)
        except (OSError, http.client.HTTPException) as error:
            self.failure = error
            raise OSError("the source cannot be read") from error

    def _fetch(self, first: int, last: int) -> bytes:
        self._connection.request("GET", self._target, headers={"Range": f"bytes={first}-{last}"})
        response = self._connection.getresponse()
        data = response.read()
        if response.status != http.client.PARTIAL_CONTENT or len(data) != last - first + 1:
            raise OSError(f"the server answered {response.status} with {len(data)} bytes")
        return data
