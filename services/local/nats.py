"""A NATS server with JetStream on loopback."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
    *,
    name: str,
    port: int,
    monitor_port: int,
    store: Path,
    sync_interval: str,
    cluster_port: int | None = None,
    peers: Sequence[int] = (),
) -> dict[str, Any]:
    """Return the server's configuration.

    Args:
        name: of the server, unique in its cluster.
        port: for clients.
        monitor_port: for its HTTP monitoring.
        store: folder of the JetStream files.
        sync_interval: how often they are flushed to the disk, such as `2m`; `always` is
            after each message, which alone survives a power cut.
        cluster_port: for the other servers of its cluster; None for a server by itself.
        peers: the cluster ports of all of them.
    """
    config: dict[str, Any] = {
        "server_name": name,
        "host": LOOPBACK,
        "port": port,
        "http": f"{LOOPBACK}:{monitor_port}",
        "jetstream": {"store_dir": str(store), "sync_interval": sync_interval},
    }
    if cluster_port is not None:
        config["cluster"] = {
            "name": "videoexport",
            "host": LOOPBACK,
            "port": cluster_port,
            "routes": [f"nats://{LOOPBACK}:{peer}" for peer in peers],
            # Clients are told every address, and keep to the way that they were given.
            "no_advertise": True,
        }
    return config


class NatsPart(Part):
    """A NATS server of a local cluster: the only one, or one of several."""

    def __init__(
        self,
        name: str,
        directory: Path,
        ports: PortBook,
        logs: Path,
        *,
        sync_interval: str,
        others: Sequence[str] = (),
    ) -> None:
        """Nothing runs yet.

        Args:
            name: such as `nats`, or `nats-1` where there are several.
            directory: where its data is.
            ports: where it finds its own.
            logs: folder for its log.
            sync_interval: see `server_config`.
            others: names of the other servers of its cluster.
        """
        self.name = name
        self.port = ports.port(name)
        self.monitor_port = ports.port(f"{name}.monitor")
        self.directory = directory
        self._log = logs / f"{name}.log"
        self._sync_interval = sync_interval
        self._peers = [ports.port(f"{each}.cluster") for each in (name, *others)] if others else []

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://{LOOPBACK}:{self.port}"

    @property
    def _config_path(self) -> Path:
        return self.directory / "server.conf"

    async def prepare(self) -> None:
        """Write the configuration; JSON is a subset of what the server reads."""
        make_private_folder(self.directory)
        config = server_config(
            name=f"videoexport-{self.name}",
            port=self.port,
            monitor_port=self.monitor_port,
            store=self.directory,
            sync_interval=self._sync_interval,
            cluster_port=self._peers[0] if self._peers else None,
            peers=self._peers,
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
