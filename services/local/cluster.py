"""The whole cluster: NATS, S3 and Postgres, then the three services, as separate processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from services.local.files import write_json
from services.local.infra import SYNC_INTERVAL, Infrastructure, all_started, to_stderr
from services.local.process import PartFailed, run_to_end
from services.local.services import DRAIN_S, ServicePart
from services.local.supervisor import Notify
from videoexport.channel import open_channel
from videoexport.v1.export_service_pb2 import ListEncodersRequest
from videoexport.v1.export_service_pb2_grpc import ExportServiceStub

BUCKET = "videoexport"
# A bucket of somebody else's that sources may be named in.
SOURCE_BUCKETS = ["videoexport-imports"]
MIGRATION_TIMEOUT_S = 60
# Which port a part (its name) dials to reach another one (its name) that listens on a port.
Route = Callable[[str, str, int], int]
# Copies of each stream, where NATS has so many servers.
MOST_REPLICAS = 3
# Ten seconds; an encoder says that it is there every two.
HEARTBEAT_TRIES = 100


def straight(_client: str, _server: str, port: int) -> int:
    """Return the port itself: nothing lies between the parts."""
    return port


class LocalCluster:
    """A cluster on loopback; an async context manager.

    `start`, `stop` and `kill` act on one part: `nats` (or `nats-1`, …), `s3`, `postgres`,
    `storage`, `api`, `api-2`, …, `encoder-1`, … A part that dies is started again.
    """

    def __init__(
        self,
        directory: Path,
        *,
        encoders: int = 1,
        apis: int = 1,
        nats_servers: int = 1,
        encoder_threads: int | None = None,
        api_port: int | None = None,
        extra_env: Mapping[str, Mapping[str, str]] | None = None,
        fsync: bool = True,
        sync_interval: str = SYNC_INTERVAL,
        notify: Notify = to_stderr,
        route: Route = straight,
    ) -> None:
        """Nothing runs and nothing is written yet.

        Args:
            directory: where all data is; made when missing, kept afterwards.
            encoders: how many encoder processes.
            apis: how many replicas of the API: `api`, `api-2`, …
            nats_servers: see Infrastructure.
            encoder_threads: threads of one encode; None leaves it to the encoder.
            api_port: where the API listens if nobody else does there; None takes any.
            extra_env: environment variables by service (`api`, `storage`, `encoder`) or by
                process (`encoder-2`), by their full names.
            fsync: see Infrastructure.
            sync_interval: see Infrastructure.
            notify: told when a part dies or runs again.
            route: lets something lie between the parts, such as a relay that can be cut.
        """
        self.infrastructure = Infrastructure(
            directory,
            nats_servers=nats_servers,
            fsync=fsync,
            sync_interval=sync_interval,
            notify=notify,
            on_change=self._describe,
        )
        self._encoder_count = encoders
        self._api_count = apis
        self._route = route
        self._encoder_threads = encoder_threads
        self._api_port = api_port
        self._extra_env = extra_env or {}
        self._all_up = False
        self.storage: ServicePart
        self.apis: list[ServicePart] = []
        self.encoders: list[ServicePart] = []

    @property
    def directory(self) -> Path:
        """Where all data is."""
        return self.infrastructure.directory

    @property
    def api(self) -> ServicePart:
        """The first replica of the API."""
        return self.apis[0]

    @property
    def address(self) -> str:
        """Where clients find the API: every replica of it, as gRPC writes several addresses."""
        addresses = [api.address for api in self.apis]
        return addresses[0] if len(addresses) == 1 else f"ipv4:{','.join(addresses)}"

    @property
    def description(self) -> Path:
        """The file that says where everything is, while all is up."""
        return self.directory / "cluster.json"

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of what runs, by name."""
        return self.infrastructure.pids

    async def __aenter__(self) -> Self:
        """Start everything and wait until it serves.

        Raises:
            DirectoryInUse: another cluster has the directory.
            PartFailed: a part did not come up; nothing is left running.
        """
        await self.infrastructure.__aenter__()
        try:
            await self._start_services()
        except BaseException:
            await self._stop()
            raise
        self._all_up = True
        self._describe()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything, services first."""
        await self._stop()

    async def add_api(self) -> ServicePart:
        """Start one more replica of the API, beside those that run, and wait until it serves."""
        replica = self._api_part(len(self.apis))
        await self.infrastructure.supervisor.start(replica)
        self.apis.append(replica)
        self._describe()
        return replica

    async def start(self, name: str) -> None:
        """Start a part that was stopped, and wait until it serves."""
        await self.infrastructure.start(name)

    async def stop(self, name: str) -> None:
        """Stop a part and leave it so."""
        await self.infrastructure.stop(name)

    def kill(self, name: str) -> None:
        """Send SIGKILL to a part; it is started again after a second."""
        self.infrastructure.kill(name)

    async def _start_services(self) -> None:
        infrastructure = self.infrastructure
        for bucket in SOURCE_BUCKETS:
            await infrastructure.s3.ensure_bucket(bucket)
        self.storage = self._service("storage", "storage", self._storage_settings())
        self.apis = [self._api_part(number) for number in range(self._api_count)]
        names = [f"encoder-{number + 1}" for number in range(self._encoder_count)]
        self.encoders = [
            self._service(name, "encoder", self._encoder_settings(name)) for name in names
        ]
        others = (self.storage, *self.encoders)
        start = infrastructure.supervisor.start
        await all_started((self._start_apis(), *(start(part) for part in others)))
        await self._all_encoders_known()

    async def _all_encoders_known(self) -> None:
        """Wait until each API has heard of every encoder, so that the first export finds one."""
        for api in self.apis:
            async with open_channel(api.address) as channel:
                stub = ExportServiceStub(channel)
                for _ in range(HEARTBEAT_TRIES):
                    answer = await stub.ListEncoders(ListEncodersRequest(), timeout=5)
                    if len(answer.encoders) >= self._encoder_count:
                        break
                    await asyncio.sleep(0.1)
                else:
                    raise PartFailed(
                        f"{api.name} hears of {len(answer.encoders)} "
                        f"of {self._encoder_count} encoders"
                    )

    async def _start_apis(self) -> None:
        """Bring the database up to date, which the others do not use, then start the replicas."""
        await self.api.prepare()
        await run_to_end(self.api.task("migrate"), MIGRATION_TIMEOUT_S)
        await all_started(self.infrastructure.supervisor.start(api) for api in self.apis)

    async def _stop(self) -> None:
        self._all_up = False
        self._describe()
        supervisor = self.infrastructure.supervisor
        encoders = [encoder.name for encoder in self.encoders]
        apis = [api.name for api in self.apis]
        try:
            for group in (encoders, apis, ["storage"]):
                await supervisor.stop_together(group)
        finally:
            await self.infrastructure.__aexit__(None, None, None)

    def _service(self, name: str, service: str, settings: Mapping[str, str]) -> ServicePart:
        ports = self.infrastructure.ports
        return ServicePart(
            name,
            service,
            port=ports.port(name, preferred=self._api_port if name == "api" else None),
            metrics_port=ports.port(f"{name}.metrics"),
            settings=settings,
            extra_env={**self._extra_env.get(service, {}), **self._extra_env.get(name, {})},
            logs=self.infrastructure.logs,
            temporary=self.directory / "tmp" / name,
        )

    def _api_part(self, number: int) -> ServicePart:
        name = f"api-{number + 1}" if number else "api"
        return self._service(name, "api", self._api_settings(name))

    def _dialled(self, client: str, server: str, address: str) -> str:
        """Return the address at which one part reaches another one, which has the given one."""
        host, _, port = address.rpartition(":")
        return f"{host}:{self._route(client, server, int(port))}"

    def _nats_url(self, client: str) -> str:
        servers = self.infrastructure.nats_servers
        return ",".join(self._dialled(client, server.name, server.url) for server in servers)

    def _storage_settings(self) -> dict[str, str]:
        infrastructure = self.infrastructure
        return {
            "s3_endpoint": self._dialled("storage", "s3", infrastructure.s3.endpoint),
            "public_s3_endpoint": self._dialled("*", "s3", infrastructure.s3.endpoint),
            "s3_access_key": infrastructure.credentials.s3_access_key,
            "s3_secret_key": infrastructure.credentials.s3_secret_key,
            "bucket": BUCKET,
            "source_buckets": json.dumps(SOURCE_BUCKETS),
        }

    def _api_settings(self, name: str) -> dict[str, str]:
        server, _, database = self.infrastructure.postgres.url.rpartition("/")
        nats_servers = len(self.infrastructure.nats_servers)
        return {
            "database_url": f"{self._dialled(name, 'postgres', server)}/{database}",
            "nats_url": self._nats_url(name),
            "nats_replicas": str(min(nats_servers, MOST_REPLICAS)),
            "storage_address": self._dialled(name, "storage", self.storage.address),
            "public_storage_address": self.storage.address,
            "source_buckets": json.dumps(SOURCE_BUCKETS),
            # One person tries things out here.
            "exports_per_hour": "0",
        }

    def _encoder_settings(self, name: str) -> dict[str, str]:
        settings = {
            "id": name,
            "nats_url": self._nats_url(name),
            "storage_address": self._dialled(name, "storage", self.storage.address),
            "scratch_dir": str(self.directory / "scratch" / name),
            "task_drain_seconds": str(DRAIN_S),
        }
        if self._encoder_threads is not None:
            settings["encoder_threads"] = str(self._encoder_threads)
        return settings

    def _describe(self) -> None:
        """Write where everything is while all is up; again whenever a process was replaced."""
        if not self._all_up:
            # Also what a killed predecessor has left.
            self.description.unlink(missing_ok=True)
            return
        services = [self.storage, *self.apis, *self.encoders]
        write_json(
            self.description,
            {
                "api": self.address,
                "storage": self.storage.address,
                "encoders": [encoder.address for encoder in self.encoders],
                "metrics": {service.name: service.metrics_address for service in services},
                "s3": self.infrastructure.s3.endpoint,
                "nats": ",".join(server.url for server in self.infrastructure.nats_servers),
                "postgres": self.infrastructure.postgres.public_url,
                "pids": self.pids,
            },
        )
