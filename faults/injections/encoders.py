"""Encoders and FFmpeg: killed, paused, restarted."""

from __future__ import annotations

import asyncio
import signal

import psutil

from faults.cluster import ACK_WAIT_S, resume
from faults.fault import BYTES_AWAY, ENCODERS, WORKERS_AWAY, Fault, Limit, NotNow
from faults.full_disk import DEVICE
from faults.rows import Row, until
from faults.scene import PATIENCE_S, Scene
from faults.times import now
from services.common.errors import Reason

# How much longer than JetStream waits an encoder is paused.
OVER_ACK_WAIT_S = 3.0
# From the end of the ack wait until the task runs elsewhere.
TAKEN_OVER_S = 2.0
# FFmpeg, whose source came through the encoder, gives up by then: after its own limit of 15 s
# for an answer, and as long for a connection.
ORPHAN_S = 40.0
ITSELF = {encoder: (encoder,) for encoder in ENCODERS}
FULL = """
    SELECT id AS run, task_id AS task, ended_at AS at FROM runs
    WHERE encoder_id = %(encoder)s AND ended_at > %(since)s AND error ->> 'code' = 'SCRATCH_FULL'
"""
TAKEN_OVER = Limit(ACK_WAIT_S + TAKEN_OVER_S, median=True)


async def kill(scene: Scene, encoder: str) -> float | None:
    """SIGKILL an encoder that encodes."""
    running = await scene.encoding(encoder)
    return await scene.run_again(running, await scene.kill(encoder))


async def kill_alone(scene: Scene, encoder: str) -> float | None:
    """SIGKILL an encoder that encodes, and not its FFmpeg, which must not outlive it."""
    running, ffmpeg = await scene.ffmpeg(encoder)
    since = now()
    scene.faulty.kill_alone(encoder)
    seconds = await scene.run_again(running, since)
    try:
        async with asyncio.timeout(ORPHAN_S):
            while _runs(ffmpeg):
                await asyncio.sleep(0.1)
    except TimeoutError:
        ffmpeg.kill()
        raise TimeoutError(f"its FFmpeg goes on without it for {ORPHAN_S:g} s") from None
    return seconds


async def pause(scene: Scene, encoder: str) -> float | None:
    """Stop an encoder for longer than JetStream waits for it, then let it go on."""
    running = await scene.encoding(encoder)
    since = now()
    pid = scene.faulty.pause(encoder)
    try:
        recovering = asyncio.create_task(scene.run_again(running, since))
        await asyncio.wait([recovering], timeout=ACK_WAIT_S + OVER_ACK_WAIT_S)
    finally:
        resume(pid)
    return await recovering


async def restart(scene: Scene, encoder: str) -> float | None:
    """Restart an encoder as a roll-out does: SIGTERM, drain, start."""
    await scene.encoding(encoder)
    since = now()
    await scene.cluster.stop(encoder)
    await scene.cluster.start(encoder)
    return await scene.worked(encoder, since)


async def fill_disk(scene: Scene, encoder: str) -> float | None:
    """Leave an encoder no room on its scratch disk until a run has failed of that."""
    if not DEVICE.exists():
        raise NotNow("this system has no device that is always full")
    disk = scene.faulty.disks[encoder]
    since = now()

    async def look() -> Row | None:
        return await scene.rows.one(FULL, encoder=encoder, since=since)

    disk.fill()
    try:
        running = await until(look, PATIENCE_S)
    except TimeoutError:
        raise NotNow(f"{encoder} needed no room") from None
    finally:
        disk.has_room()
    return await scene.run_again(running, running["at"])


async def kill_ffmpeg(scene: Scene, encoder: str) -> float | None:
    """SIGKILL, as by the kernel when memory is short."""
    return await _signal_ffmpeg(scene, encoder, signal.SIGKILL)


async def crash_ffmpeg(scene: Scene, encoder: str) -> float | None:
    """SIGSEGV, as of a source that finds a bug."""
    return await _signal_ffmpeg(scene, encoder, signal.SIGSEGV)


async def hang_ffmpeg(scene: Scene, encoder: str) -> float | None:
    """SIGSTOP for good: alive, and nothing comes."""
    return await _signal_ffmpeg(scene, encoder, signal.SIGSTOP)


async def _signal_ffmpeg(scene: Scene, encoder: str, number: signal.Signals) -> float | None:
    running, ffmpeg = await scene.ffmpeg(encoder)
    since = now()
    try:
        ffmpeg.send_signal(number)
    except psutil.NoSuchProcess:
        raise NotNow("FFmpeg had just ended") from None
    return await scene.run_again(running, since)


def _runs(process: psutil.Process) -> bool:
    try:
        # Whoever inherits it may not look after its children.
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


FFMPEG_AWAY = frozenset({Reason.ENCODER_FAILED, Reason.ENCODE_STALLED})
RUN_AGAIN = "from the signal until the task runs again, its turn in the queue included"
FAULTS = (
    Fault(
        "encoder-kill",
        "SIGKILL of an encoder that encodes: a node dies, or its memory ends",
        "from the kill until the same task runs again",
        kill,
        ENCODERS,
        ITSELF,
        WORKERS_AWAY,
        TAKEN_OVER,
    ),
    Fault(
        "encoder-process-kill",
        "SIGKILL of the encoder alone, not of its FFmpeg: the kernel is short of memory",
        "from the kill until the same task runs again",
        kill_alone,
        ENCODERS,
        ITSELF,
        WORKERS_AWAY,
        TAKEN_OVER,
    ),
    Fault(
        "encoder-paused",
        "SIGSTOP for longer than the ack wait, then SIGCONT: a frozen machine that comes back",
        "from the pause until the same task runs again",
        pause,
        ENCODERS,
        excuses=WORKERS_AWAY | BYTES_AWAY,
        limit=TAKEN_OVER,
    ),
    Fault(
        "encoder-restart",
        "SIGTERM, drain, start: a roll-out",
        "from SIGTERM until the encoder works again, its drain included",
        restart,
        ENCODERS,
        excuses=WORKERS_AWAY,
    ),
    Fault(
        "ffmpeg-kill",
        "SIGKILL of FFmpeg: the kernel is short of memory",
        RUN_AGAIN,
        kill_ffmpeg,
        ENCODERS,
        excuses=FFMPEG_AWAY,
    ),
    Fault(
        "ffmpeg-crash",
        "SIGSEGV of FFmpeg: a source that finds a bug",
        RUN_AGAIN,
        crash_ffmpeg,
        ENCODERS,
        excuses=FFMPEG_AWAY,
    ),
    Fault(
        "ffmpeg-hang",
        "SIGSTOP of FFmpeg: it lives and does nothing",
        "from the signal until the task runs again, the stall timeout and its turn included",
        hang_ffmpeg,
        ENCODERS,
        excuses=FFMPEG_AWAY,
    ),
    Fault(
        "scratch-full",
        "an encoder's scratch disk is full: writes find no room",
        "from the run that failed of it until the task runs again, its turn included",
        fill_disk,
        ENCODERS,
        excuses=frozenset({Reason.SCRATCH_FULL}),
    ),
)
