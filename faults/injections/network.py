"""The ways between parts: reset, closed, stalled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from faults.cluster import ACK_WAIT_S
from faults.fault import BYTES_AWAY, ENCODERS, WORKERS_AWAY, Fault, NotNow
from faults.relay import Relay
from faults.scene import PATIENCE_S, Scene
from faults.times import now

CLOSED_S = 5.0
# Longer than JetStream waits for an encoder.
STALLED_S = ACK_WAIT_S + 2.0
# From whom to whom: the first words of their names. Encoders are cut off one at a time.
TARGETS = (
    "api nats",
    "api postgres",
    "api storage",
    *(f"{encoder} nats" for encoder in ENCODERS),
    *(f"{encoder} storage" for encoder in ENCODERS),
    "storage s3",
    "* s3",
)


async def cut(scene: Scene, target: str) -> float:
    """Reset every connection of a pair."""
    relays = _relays(scene, target)
    end = asyncio.get_running_loop().time() + PATIENCE_S
    # Some are only open while something goes that way.
    while not sum(relay.cut() for relay in relays):
        if asyncio.get_running_loop().time() > end:
            raise NotNow("no connection was open")
        await asyncio.sleep(0.02)
    return await _recovered(scene, target)


async def close(scene: Scene, target: str) -> float:
    """Reset every connection of a pair and refuse new ones for a while."""
    relays = _relays(scene, target)
    for relay in relays:
        relay.closed = True
        relay.cut()
    await _heal_after(relays, CLOSED_S)
    return await _recovered(scene, target)


async def stall(scene: Scene, target: str) -> float:
    """Let nothing pass between a pair for a while: packets are dropped, nobody is told."""
    relays = _relays(scene, target)
    for relay in relays:
        relay.stalled = True
    await _heal_after(relays, STALLED_S)
    return await _recovered(scene, target)


def _relays(scene: Scene, target: str) -> list[Relay]:
    client, server = target.split()
    found = scene.faulty.network.select(
        lambda one, other: one.startswith(client) and other.startswith(server)
    )
    if not found:
        raise ValueError(f"nothing lies between {client} and {server}")
    return found


async def _heal_after(relays: Sequence[Relay], seconds: float) -> None:
    try:
        await asyncio.sleep(seconds)
    finally:
        for relay in relays:
            relay.heal()


async def _recovered(scene: Scene, target: str) -> float:
    """Return the seconds until what goes that way went again."""
    client, server = target.split()
    since = now()
    match client, server:
        case "api", "nats":
            return await scene.dispatched(since)
        case "api", "postgres":
            each = (scene.answered(api, since) for api in scene.cluster.apis)
            return max(await asyncio.gather(*each))
        case "api", "storage":
            return await scene.accepted(since)
        case ("storage", _) | ("*", _):
            return await scene.succeeded(since)
        case _:
            return await scene.worked(client, since)


AFTERWARDS = "from then until what goes that way went again"
FAULTS = (
    Fault(
        "network-cut",
        "every connection between two parts is reset",
        AFTERWARDS,
        cut,
        TARGETS,
        excuses=BYTES_AWAY | WORKERS_AWAY,
    ),
    Fault(
        "network-closed",
        f"connections between two parts are reset and refused for {CLOSED_S:g} s",
        AFTERWARDS,
        close,
        TARGETS,
        excuses=BYTES_AWAY | WORKERS_AWAY,
    ),
    Fault(
        "network-stalled",
        f"nothing passes between two parts for {STALLED_S:g} s, longer than the ack wait",
        AFTERWARDS,
        stall,
        TARGETS,
        excuses=BYTES_AWAY | WORKERS_AWAY,
    ),
)
