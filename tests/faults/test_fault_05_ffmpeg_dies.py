"""Fault 5: FFmpeg is killed, crashes, or hangs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import psutil

from faults.cluster import FaultCluster, family
from tests.e2e.conftest import Leftovers
from tests.faults.evidence import (
    LONGER,
    SLOW,
    check_exact,
    check_tidy,
    finish,
    running,
    task_events,
)
from tests.media.frame_codes import Clip
from videoexport.client import AsyncClient

MakeClip = Callable[[Clip], Path]
# What befalls it, and what the encoder says of that.
FATES = {
    signal.SIGKILL: "ENCODER_FAILED",
    signal.SIGSEGV: "ENCODER_FAILED",
    signal.SIGSTOP: "ENCODE_STALLED",
}


async def test_export_whose_ffmpeg_ends_or_hangs_is_encoded_again(
    faulty: FaultCluster, client: AsyncClient, clip: MakeClip, leftovers: Leftovers, tmp_path: Path
) -> None:
    video_id = await client.upload(clip(LONGER))
    # Probed before, so that they begin together, each with an encoder of its own.
    await client.plan(video_id, settings=SLOW)

    async def meet(fate: signal.Signals, begin: int) -> tuple[str, psutil.Process]:
        export = await client.create_export(video_id, [(begin / 25, 4)], settings=SLOW)
        busy = (await running(client, export.id)).encode_status.encoder_id
        children = family(faulty.cluster.pids[busy])
        [ffmpeg] = [process for process in children if "ffmpeg" in process.name()]
        ffmpeg.send_signal(fate)
        return export.id, ffmpeg

    async with task_events(faulty) as events:
        met = await asyncio.gather(*(meet(fate, begin) for begin, fate in enumerate(FATES)))
        done = [await finish(client, export) for export, _ in met]
    for (export, ffmpeg), told in zip(met, FATES.values(), strict=True):
        assert events.failures(export) == [told]
        assert not ffmpeg.is_running()
    for begin, export in enumerate(done):
        await check_exact(client, export, range(begin, LONGER.frames), tmp_path)
    await check_tidy(leftovers, outputs=len(FATES))
