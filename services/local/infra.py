"""NATS, S3 and Postgres of one data directory: what the services stand on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from services.local.credentials import Credentials
from services.local.files import make_private_folder
from services.local.nats import NatsPart
from services.local.ports import PortBook
from services.local.postgres import PostgresPart
from services.local.process import PartFailed
from services.local.s3 import S3Part
from services.local.supervisor import Notify, Supervisor

# How often NATS flushes JetStream to the disk. The rows in Postgres are the truth, so what
# a power cut takes is published again.
SYNC_INTERVAL = "2m"


def to_stderr(message: str) -> None:
    """Say what happened to whoever watches the terminal, unless that has gone."""
    with suppress(OSError):
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()


class Infrastructure:
    """The servers, started together; an async context manager.

    `await infrastructure.stop("nats")`, `start("nats")` and `kill("nats")` act on one of them:
    `nats` (`nats-1`, `nats-2`, … where there are several), `s3` or `postgres`. One that dies is
    started again.
    """

    def __init__(
        self,
        directory: Path,
        *,
        nats_servers: int = 1,
        fsync: bool = True,
        sync_interval: str = SYNC_INTERVAL,
        notify: Notify = to_stderr,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing runs and nothing is written yet.

        Args:
            directory: where all data is; made when missing, kept afterwards.
            nats_servers: how many servers NATS is made of: 1, or 3 and more, which outlast
                the loss of one.
            fsync: whether Postgres makes sure that data survives a power cut.
            sync_interval: the same for NATS, such as `2m` or `always`.
            notify: told when a part dies or runs again.
            on_change: called when process ids have changed.
        """
        self.directory = directory.resolve()
        self.supervisor = Supervisor(self.directory, notify=notify, on_change=on_change)
        self._nats_count = nats_servers
        self._fsync = fsync
        self._sync_interval = sync_interval
        self._notify = notify
        self.credentials: Credentials
        self.ports: PortBook
        self.nats_servers: list[NatsPart]
        self.s3: S3Part
        self.postgres: PostgresPart

    @property
    def nats(self) -> NatsPart:
        """The first server of NATS; the only one unless there are to be several."""
        return self.nats_servers[0]

    @property
    def logs(self) -> Path:
        """Folder of the log files, one a part."""
        return self.directory / "logs"

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of what runs, by name."""
        return self.supervisor.pids

    async def __aenter__(self) -> Self:
        """Start all and wait until they serve.

        Raises:
            DirectoryInUse: another cluster has the directory.
            PartFailed: one did not come up; nothing is left running.
        """
        await self.supervisor.open()
        try:
            self._lay_out()
            parts = (*self.nats_servers, self.s3, self.postgres)
            await all_started(self.supervisor.start(part) for part in parts)
        except BaseException:
            await self.supervisor.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop all."""
        await self.supervisor.close()

    async def start(self, name: str) -> None:
        """Start a part that was stopped, and wait until it serves."""
        await self.supervisor.start_again(name)

    async def stop(self, name: str) -> None:
        """Stop a part and leave it so."""
        await self.supervisor.stop(name)

    def kill(self, name: str) -> None:
        """Send SIGKILL to a part; it is started again after a second."""
        self.supervisor.kill(name)

    def _lay_out(self) -> None:
        """Choose ports and passwords; only the holder of the directory may."""
        make_private_folder(self.logs)
        self.credentials = Credentials.load(self.directory / "secrets.json")
        self.ports = PortBook(self.directory / "ports.json")
        self.nats_servers = self._nats_parts()
        self.s3 = S3Part(self.directory / "s3", self.ports, self.logs, self.credentials)
        self.postgres = PostgresPart(
            self.directory / "postgres",
            self.ports,
            self.logs,
            self.credentials,
            fsync=self._fsync,
            notify=self._notify,
        )

    def _nats_parts(self) -> list[NatsPart]:
        count = self._nats_count
        names = ["nats"] if count == 1 else [f"nats-{number + 1}" for number in range(count)]
        return [
            NatsPart(
                *(name, self.directory / name, self.ports, self.logs),
                sync_interval=self._sync_interval,
                others=[other for other in names if other != name],
            )
            for name in names
        ]


async def all_started(starting: Iterable[Coroutine[None, None, None]]) -> None:
    """Wait until parts that start at the same time all serve.

    Raises:
        PartFailed: naming each one that did not come up.
    """
    try:
        async with asyncio.TaskGroup() as group:
            for one in starting:
                group.create_task(one)
    except* PartFailed as failures:
        raise PartFailed("\n".join(map(str, failures.exceptions))) from None
