"""Fault 22: the clock of one encoder is an hour off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

from faults.cluster import CLOCK_OFF, CLOCK_OFFSET_S, FaultCluster
from tests.e2e.conftest import Leftovers
from tests.e2e.small_exports import SMALL
from tests.faults.evidence import (
    FINISHED_S,
    LONGER,
    SLOW,
    check_exact,
    check_tidy,
    shut,
    task_events,
)
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient
from videoexport.v1 import export_pb2 as pb

MakeClip = Callable[[Clip], Path]
# Long enough for parts: chunks, sound and assembly.
LONG = Clip(rate=Fraction(5), frames=70, gop=10)
# Everything of this test happens within so many seconds.
NEAR_S = 600


async def test_clock_of_an_encoder_is_compared_with_nobody_elses(
    faulty: FaultCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers, tmp_path: Path
) -> None:
    now = time.time()
    # Only the one whose clock is off can take work.
    shut(
        faulty.network.select(
            lambda part, server: (
                part.startswith("encoder") and part != CLOCK_OFF and "nats" in server
            )
        )
    )
    short, long = await client.upload(clip(LONGER)), await client.upload(clip(LONG))
    seen: list[pb.Export] = []
    async with task_events(faulty) as events:
        first = await client.create_export(short, settings=SLOW)
        async with asyncio.timeout(FINISHED_S):
            seen = [export async for export in client.watch(first.id)]
        second = await client.create_export(long, settings=SMALL)
        async with asyncio.timeout(FINISHED_S):
            parts = await client.wait(second.id)
        [encoder] = [each for each in await client.encoders() if each.id == CLOCK_OFF]
    done = seen[-1]
    # It says so itself, and its words were heard all the same.
    assert events.seen
    for event in events.seen:
        assert event.encoder_id == CLOCK_OFF
        assert abs(event.event_time.ToSeconds() - now - CLOCK_OFFSET_S) < NEAR_S
    assert encoder.start_time.ToSeconds() > now + CLOCK_OFFSET_S / 2
    assert abs(encoder.last_seen_time.ToSeconds() - now) < NEAR_S

    assert events.kinds(first.id) == ["started", "succeeded"]
    assert events.failures(second.id) == []
    await check_exact(client, done, range(LONGER.frames), tmp_path)
    await check_exact(client, parts, range(LONG.frames), tmp_path)
    for export in (done, parts):
        times = [export.create_time, export.start_time, export.end_time]
        assert times == sorted(times, key=lambda each: each.ToNanoseconds())
        assert all(abs(each.ToSeconds() - now) < NEAR_S for each in times)
    estimates = [export.eta.ToSeconds() for export in seen if export.HasField("eta")]
    assert estimates
    assert all(0 <= seconds < NEAR_S for seconds in estimates)
    progress = [export.progress for export in seen]
    assert progress == sorted(progress)
    await check_tidy(leftovers, outputs=2)
