"""A NATS server with JetStream on loopback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nats
import nats.errors

from services.local.files import make_private_folder, write_private
from services.local.part import Part, bare_environment, check_listening
from services.local.ports import LOOPBACK, PortBook
from services.local.process import Command, NotReady
from services.local.programs import program

PROBE_TIMEOUT_S = 2


def server_config(
    *, port: int, monitor_port: int, store: Path, sync_interval: str
) -> dict[str, Any]:
    """Return the server's configuration.

    Args:
        port: for clients.
        monitor_port: for its HTTP monitoring.
        store: folder of the JetStream files.
        sync_interval: how often they are flushed to the disk, such as `2m`; `always` is
            after each message, which alone survives a power cut.
    """
    return {
        "server_name": "videoexport-local",
        "host": LOOPBACK,
        "port": port,
        "http": f"{LOOPBACK}:{monitor_port}",
        "jetstream": {"store_dir": str(store), "sync_interval": sync_interval},
    }


class NatsPart(Part):
    """The NATS server of a local cluster."""

    name = "nats"

    def __init__(self, directory: Path, ports: PortBook, logs: Path, *, sync_interval: str) -> None:
        self.port = ports.port("nats")
        self.monitor_port = ports.port("nats.monitor")
        self._directory = directory
        self._log = logs / "nats.log"
        self._sync_interval = sync_interval

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://{LOOPBACK}:{self.port}"

    @property
    def _config_path(self) -> Path:
        return self._directory / "server.conf"

    async def prepare(self) -> None:
        """Write the configuration; JSON is a subset of what the server reads."""
        make_private_folder(self._directory)
        config = server_config(
            port=self.port,
            monitor_port=self.monitor_port,
            store=self._directory,
            sync_interval=self._sync_interval,
        )
        write_private(self._config_path, json.dumps(config, indent=2) + "\n")

    def command(self) -> Command:
        """Return the server's command line."""
        return Command(
            name=self.name,
            argv=[program("nats-server"), "--config", str(self._config_path)],
            env=bare_environment(),
            log=self._log,
        )

    async def probe(self) -> None:
        """Connect and ask JetStream for its account."""
        await check_listening(self.port)
        try:
            client = await nats.connect(
                self.url, connect_timeout=PROBE_TIMEOUT_S, allow_reconnect=False
            )
        except (OSError, nats.errors.Error) as error:
            raise NotReady(f"no connection: {error}") from error
        try:
            await client.jetstream(timeout=PROBE_TIMEOUT_S).account_info()
        except nats.errors.Error as error:
            raise NotReady(f"JetStream does not answer: {error}") from error
        finally:
            await client.close()
