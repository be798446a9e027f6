"""A TCP proxy that breaks connections in chosen ways."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
BLOCK = 64 * 1024


class Harm(Enum):
    """What happens once enough bytes have passed."""

    CUT = "cut"
    STALL = "stall"
    FLIP = "flip"
    ANSWER_503 = "answer 503"


@dataclass(frozen=True)
class Fault:
    """What happens to one connection, after so many bytes from the sender of the file."""

    harm: Harm
    after: int


@dataclass
class FaultyProxy:
    """Forwards to an S3 server; the first connections suffer the faults, one each.

    Attributes:
        endpoint: URL of the proxy.
        uploading: whether faults count bytes from the client, rather than from S3.
        faults: of the next connections, in order; connections after them are sound.
        always: the fault of every connection, if set.
        pace: seconds that every 64 KiB take on their way to S3.
        refuse: whether connections are closed at once.
        refused: how many were.
        requests: what clients sent first on each connection.
        carried: bytes that came from S3.
    """

    endpoint: str
    uploading: bool = True
    faults: list[Fault] = field(default_factory=list)
    always: Fault | None = None
    pace: float = 0
    refuse: bool = False
    refused: int = 0
    requests: list[bytes] = field(default_factory=list)
    carried: int = 0
    connections: set[asyncio.Task[None]] = field(default_factory=set)

    def cut_all(self) -> None:
        """Cut every connection and refuse new ones."""
        self.refuse = True
        for task in self.connections:
            task.cancel()

    def next_fault(self) -> Fault | None:
        """Take the fault of the next connection, or of this one after a flipped bit."""
        return self.faults.pop(0) if self.faults else self.always


@asynccontextmanager
async def proxy_running(s3_endpoint: str) -> AsyncIterator[FaultyProxy]:
    """Run a proxy in front of an S3 server."""
    target = urlsplit(s3_endpoint)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        proxy.connections.add(task)
        try:
            if proxy.refuse:
                proxy.refused += 1
            else:
                upstream = await asyncio.open_connection(target.hostname, target.port)
                await _carry(proxy, (reader, writer), upstream)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            proxy.connections.discard(task)
            writer.transport.abort()

    listener = socket.create_server((LOOPBACK, 0))
    # Small, so that a slow way is felt by the sender at once.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BLOCK)
    server = await asyncio.start_server(connected, sock=listener, limit=BLOCK)
    proxy = FaultyProxy(f"http://{LOOPBACK}:{listener.getsockname()[1]}")
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut_all()
        await asyncio.gather(*proxy.connections, return_exceptions=True)


Side = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _carry(proxy: FaultyProxy, client: Side, upstream: Side) -> None:
    fault = proxy.next_fault()
    request_seen = False

    def saw_request(data: bytes) -> None:
        nonlocal request_seen
        if not request_seen:
            request_seen = True
            proxy.requests.append(data)

    def saw_answer(data: bytes) -> None:
        proxy.carried += len(data)

    async def read_up() -> bytes:
        await asyncio.sleep(proxy.pace)
        return await client[0].read(BLOCK)

    async def read_down() -> bytes:
        return await upstream[0].read(BLOCK)

    ends = (client[1], upstream[1])
    up_fault, down_fault = (fault, None) if proxy.uploading else (None, fault)
    up = _pump(proxy, read_up, ends[::-1], up_fault, saw_request)
    down = _pump(proxy, read_down, ends, down_fault, saw_answer)
    tasks = [asyncio.create_task(up), asyncio.create_task(down)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        upstream[1].transport.abort()
        with suppress(OSError):
            await client[1].drain()


async def _pump(
    proxy: FaultyProxy,
    read: Callable[[], Awaitable[bytes]],
    ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    fault: Fault | None,
    saw: Callable[[bytes], None],
) -> None:
    """Carry what `read` returns to the first of `ends`, until the end or a fault.

    A fault that answers itself does so to the second of `ends`, the sender.
    """
    writer, sender = ends
    passed = 0
    while data := await read():
        saw(data)
        if fault is not None and passed + len(data) > fault.after:
            at = max(0, fault.after - passed)
            match fault.harm:
                case Harm.CUT:
                    writer.write(data[:at])
                    await writer.drain()
                    return
                case Harm.STALL:
                    await asyncio.sleep(3600)
                case Harm.FLIP:
                    data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
                    fault, passed = proxy.next_fault(), -at - 1
                case Harm.ANSWER_503:
                    sender.write(b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\n\r\n")
                    await sender.drain()
                    return
        passed += len(data)
        writer.write(data)
        await writer.drain()
