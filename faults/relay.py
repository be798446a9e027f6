"""TCP relays between the parts of a cluster, which can be cut, closed, stalled and slowed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Self

LOOPBACK = "127.0.0.1"
BLOCK_BYTES = 64 * 1024


class Relay:
    """One way from a client to a server.

    Attributes:
        port: where the client connects.
        closed: connections are refused, as when nothing listens there.
        stalled: nothing passes, in no direction, as when packets are dropped.
        delay: seconds that each block of up to 64 KiB takes.
        delay_up: the same, on its way from the client alone.
        connections: how many were made so far.
    """

    def __init__(self, target_port: int) -> None:
        # Listening from now on, so that the port is known; accepting once served.
        self._socket = socket.create_server((LOOPBACK, 0))
        self.port: int = self._socket.getsockname()[1]
        self.closed = False
        self.delay = 0.0
        self.delay_up = 0.0
        self.connections = 0
        self._target_port = target_port
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        """Where the client connects, as `host:port`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def stalled(self) -> bool:
        """Whether nothing passes."""
        return not self._flowing.is_set()

    @stalled.setter
    def stalled(self, value: bool) -> None:
        if value:
            self._flowing.clear()
        else:
            self._flowing.set()

    async def serve(self) -> None:
        """Accept connections from now on."""
        self._server = await asyncio.start_server(self._accept, sock=self._socket)

    async def close(self) -> None:
        """End every connection and listen no longer."""
        if self._server is None:
            self._socket.close()
        else:
            self._server.close()
        self.cut()
        await asyncio.gather(*self._open, return_exceptions=True)

    def cut(self) -> int:
        """Reset every connection, and return how many; new ones are accepted unless `closed`."""
        for task in self._open:
            task.cancel()
        return len(self._open)

    def heal(self) -> None:
        """Let everything pass again, at full speed."""
        self.closed = self.stalled = False
        self.delay = self.delay_up = 0.0

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._carry(reader, writer))
        self._open.add(task)

        def end(task: asyncio.Task[None]) -> None:
            self._open.discard(task)
            # Not in the task, which never begins when it is cut before its first step.
            writer.transport.abort()

        task.add_done_callback(end)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far: asyncio.StreamWriter | None = None
        try:
            if self.closed:
                return
            self.connections += 1
            far_reader, far = await asyncio.open_connection(LOOPBACK, self._target_port)
            # The end of either direction passes on alone: HTTP and TLS close one side first.
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far, up=True))
                group.create_task(self._pump(far_reader, writer, up=False))
        except* OSError:
            pass
        finally:
            if far is not None:
                far.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, up: bool
    ) -> None:
        while data := await reader.read(BLOCK_BYTES):
            await self._flowing.wait()
            if delay := self.delay + (self.delay_up if up else 0.0):
                await asyncio.sleep(delay)
            writer.write(data)
            await writer.drain()
        # The end of a connection passes no sooner than what was sent over it.
        await self._flowing.wait()
        with suppress(OSError):
            writer.write_eof()


class Network:
    """A relay for every pair of parts that talk; an async context manager.

    Its `route` is a cluster's: pairs come into being as the cluster asks for them.
    """

    def __init__(self) -> None:
        self._relays: dict[tuple[str, str], Relay] = {}
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Relays serve while the block runs."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every connection."""
        await asyncio.gather(*self._serving)
        for relay in self._relays.values():
            await relay.close()

    def route(self, client: str, server: str, port: int) -> int:
        """Return the port of the relay from `client` to `server`, which listens on `port`."""
        if (client, server) not in self._relays:
            relay = self._relays[client, server] = Relay(port)
            serving = asyncio.get_running_loop().create_task(relay.serve())
            self._serving.add(serving)
        return self._relays[client, server].port

    def between(self, client: str, server: str) -> Relay:
        """Return the relay of a pair.

        Raises:
            KeyError: they never talk.
        """
        return self._relays[client, server]

    def select(self, chosen: Callable[[str, str], bool]) -> list[Relay]:
        """Return the relays of all pairs (client, server) that are chosen."""
        return [relay for pair, relay in self._relays.items() if chosen(*pair)]

    def of(self, part: str) -> list[Relay]:
        """Return every relay from and to a part."""
        return self.select(lambda client, server: part in (client, server))

    def heal(self) -> None:
        """Let everything pass again."""
        for relay in self._relays.values():
            relay.heal()
