"""What is injected between parts: a relay does what it says, and no more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from faults.relay import LOOPBACK, Network, Relay

# Long enough for a message over loopback; a message that never comes takes that long.
MOMENT_S = 0.3
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
async def echo_port() -> AsyncIterator[int]:
    """A server that answers what it is told, and ends when its client has."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(1024):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(echo, LOOPBACK, 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def relay(echo_port: int) -> AsyncIterator[Relay]:
    """A relay to that server."""
    made = Relay(echo_port)
    await made.serve()
    yield made
    await made.close()


async def said(streams: Streams, words: bytes) -> bytes:
    """Say something, and return the answer."""
    reader, writer = streams
    writer.write(words)
    async with asyncio.timeout(10):
        return await reader.readexactly(len(words))


async def ends(streams: Streams) -> bool:
    """Return whether the connection is ended by the other side."""
    async with asyncio.timeout(10):
        try:
            return not await streams[0].read(1)
        except OSError:
            return True


async def open_to(relay: Relay) -> Streams:
    return await asyncio.open_connection(LOOPBACK, relay.port)


async def test_words_pass_both_ways_and_the_end_passes_alone(relay: Relay) -> None:
    reader, writer = streams = await open_to(relay)
    assert await said(streams, b"hello") == b"hello"
    writer.write(b"last words")
    writer.write_eof()
    async with asyncio.timeout(10):
        assert await reader.read() == b"last words"
    assert relay.connections == 1
    writer.close()


async def test_cut_ends_what_is_open_and_nothing_later(relay: Relay) -> None:
    before = await open_to(relay)
    assert await said(before, b"hello") == b"hello"
    relay.cut()
    assert await ends(before)
    after = await open_to(relay)
    assert await said(after, b"again") == b"again"
    for _, writer in (before, after):
        writer.close()


async def test_closed_relay_serves_nobody_until_it_is_healed(relay: Relay) -> None:
    relay.closed = True
    refused = await open_to(relay)
    assert await ends(refused)
    assert relay.connections == 0
    relay.heal()
    served = await open_to(relay)
    assert await said(served, b"hello") == b"hello"
    for _, writer in (refused, served):
        writer.close()


async def test_stalled_relay_keeps_words_until_it_is_healed(relay: Relay) -> None:
    reader, writer = streams = await open_to(relay)
    assert await said(streams, b"hello") == b"hello"
    relay.stalled = True
    writer.write(b"late")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(MOMENT_S):
            await reader.read(1)
    relay.heal()
    async with asyncio.timeout(10):
        assert await reader.readexactly(4) == b"late"
    writer.close()


async def test_delay_holds_each_block_up(relay: Relay) -> None:
    streams = await open_to(relay)
    relay.delay = MOMENT_S
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await said(streams, b"hello") == b"hello"
    # There and back.
    assert loop.time() - began >= 2 * MOMENT_S
    streams[1].close()


async def test_network_knows_each_pair_once(echo_port: int) -> None:
    async with Network() as network:
        port = network.route("encoder-1", "nats-1", echo_port)
        assert network.route("encoder-1", "nats-1", echo_port) == port
        assert network.route("api", "nats-1", echo_port) != port
        network.route("api", "postgres", echo_port)
        assert network.between("encoder-1", "nats-1").port == port
        assert len(network.of("nats-1")) == len(network.of("api")) == 2
        chosen = network.select(lambda client, server: (client, server) == ("api", "postgres"))
        assert chosen == [network.between("api", "postgres")]
        chosen[0].closed = chosen[0].stalled = True
        network.heal()
        assert (chosen[0].closed, chosen[0].stalled) == (False, False)
