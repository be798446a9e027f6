"""The cluster that faults are injected into: every part more than once that may be, all relayed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from faults.deaths import Deaths
from faults.full_disk import FullDisk
from faults.relay import Network
from faults.s3_door import S3Door
from services.local.cluster import LocalCluster
from services.local.supervisor import Notify

ENCODERS = 3
APIS = 2
NATS_SERVERS = 3

# Short, so that what is waited for after a fault comes within seconds; the heartbeats of
# encoders keep the same distance from it as by default.
ACK_WAIT_S = 6
# Longer than a busy machine lets FFmpeg wait for its turn.
STALL_TIMEOUT_S = 8
# Of running tasks after SIGTERM, before they are handed back.
TASK_DRAIN_S = 5

# One clock is always wrong: everything that is tested is also tested with that.
CLOCK_OFF = "encoder-3"
CLOCK_OFFSET_S = 3600
_CLOCK = Path(__file__).parent / "clock"

SETTINGS: Mapping[str, Mapping[str, str]] = {
    "api": {
        "VIDEOEXPORT_API_RUNNING_PER_USER": "0",
        # Five hundred watchers of one user vanish at once.
        "VIDEOEXPORT_API_WATCHES_PER_USER": "1000",
        "VIDEOEXPORT_API_CHUNK_THRESHOLD_SECONDS": "12",
        "VIDEOEXPORT_API_CHUNK_SECONDS": "5",
        "VIDEOEXPORT_API_ACK_WAIT": str(ACK_WAIT_S),
        "VIDEOEXPORT_API_RECONCILE_INTERVAL": "2",
        "VIDEOEXPORT_API_RETRY_DELAY": "0.5",
    },
    "encoder": {
        "VIDEOEXPORT_ENCODER_CPU_SLOTS": "1",
        "VIDEOEXPORT_ENCODER_HEARTBEAT_INTERVAL": "1.5",
        "VIDEOEXPORT_ENCODER_STALL_TIMEOUT": str(STALL_TIMEOUT_S),
        "VIDEOEXPORT_ENCODER_TASK_DRAIN_SECONDS": str(TASK_DRAIN_S),
    },
    CLOCK_OFF: {
        "FAULTS_CLOCK_OFFSET_SECONDS": str(CLOCK_OFFSET_S),
        "PYTHONPATH": os.pathsep.join([str(_CLOCK), *filter(None, [os.environ.get("PYTHONPATH")])]),
    },
}


class FaultCluster:
    """Three servers of NATS, two APIs, three encoders, storage, S3 and Postgres, with relays
    between all of them and a door in front of S3; an async context manager.

    Attributes:
        cluster: the processes.
        network: the ways between them.
        s3_door: what all requests to S3 pass.
        deaths: ends of its parts that the supervisor was not asked for.
        disks: the scratch disks, by encoder, which may be full.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, Mapping[str, str]] | None = None,
        fsync: bool = True,
        notify: Notify = lambda _text: None,
    ) -> None:
        """Nothing runs yet.

        Args:
            directory: where all data is.
            settings: more environment variables, by service or process.
            fsync: whether Postgres outlasts the loss of the machine's power.
            notify: told when a part dies or runs again.
        """
        self.disks = {
            encoder: FullDisk(directory.resolve() / "ffmpeg", encoder)
            for encoder in (f"encoder-{number + 1}" for number in range(ENCODERS))
        }
        programs = {
            encoder: {"VIDEOEXPORT_ENCODER_FFMPEG": str(disk.ffmpeg)}
            for encoder, disk in self.disks.items()
        }
        self.deaths = Deaths(notify)
        more = settings or {}
        self.cluster = LocalCluster(
            directory,
            encoders=ENCODERS,
            apis=APIS,
            nats_servers=NATS_SERVERS,
            encoder_threads=1,
            extra_env={
                name: {**SETTINGS.get(name, {}), **programs.get(name, {}), **more.get(name, {})}
                for name in {*SETTINGS, *programs, *more}
            },
            fsync=fsync,
            notify=self.deaths.notify,
            route=self._route,
        )
        self.network = Network()
        self.s3_door = S3Door(s3_port=0)
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Start everything and wait until it serves."""
        for disk in self.disks.values():
            disk.prepare()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.network)
            await stack.enter_async_context(self.s3_door)
            await stack.enter_async_context(self.cluster)
            self._opened = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything."""
        self.heal()
        await self._opened.aclose()

    def heal(self) -> None:
        """Let every message and request pass again, wake who was paused, make room on disks."""
        for disk in self.disks.values():
            disk.has_room()
        self.network.heal()
        self.s3_door.heal()
        for pid in self.cluster.pids.values():
            resume(pid)

    async def whole_again(self, within: float) -> None:
        """Mend everything and wait until every part serves.

        Raises:
            TimeoutError: it took longer than `within` seconds.
        """
        self.heal()
        async with asyncio.timeout(within):
            await self.cluster.infrastructure.supervisor.all_serving()

    def kill(self, part: str) -> None:
        """Send SIGKILL to a part and everything below it; harmless when it does not run."""
        if part in self.cluster.pids:
            self.deaths.caused(part)
            self.cluster.kill(part)

    def kill_alone(self, part: str) -> None:
        """Send SIGKILL to the process of a part alone, as the kernel does that needs memory."""
        self.deaths.caused(part)
        os.kill(self.cluster.pids[part], signal.SIGKILL)

    def pause(self, part: str) -> int:
        """Send SIGSTOP to a part and all its children; return its process id, for `resume`."""
        pid = self.cluster.pids[part]
        for process in family(pid):
            process.send_signal(signal.SIGSTOP)
        return pid

    def _route(self, client: str, server: str, port: int) -> int:
        """Lead requests to S3 through the door, everything through a relay."""
        if server == "s3":
            self.s3_door.s3_port = port
            port = self.s3_door.port
        return self.network.route(client, server, port)


def resume(pid: int) -> None:
    """Send SIGCONT to a process and all its children, those that have ended aside."""
    for process in family(pid):
        try:
            process.send_signal(signal.SIGCONT)
        except psutil.NoSuchProcess:
            continue


def family(pid: int) -> list[psutil.Process]:
    """Return a process and everything below it; nothing when it has ended."""
    try:
        leader = psutil.Process(pid)
        return [leader, *leader.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
