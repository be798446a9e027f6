"""The three gRPC services as parts of a local cluster: processes told by their environment."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.local.files import make_private_folder
from services.local.part import Part, bare_environment, check_listening
from services.local.ports import LOOPBACK
from services.local.process import Command, NotReady

PROBE_TIMEOUT_S = 2
# Not by way of a proxy that the environment names.
NO_PROXY = [("grpc.enable_http_proxy", 0)]
# Seconds that running RPCs and tasks get after SIGTERM; here a person waits for the end.
DRAIN_S = 10
# Seconds beyond all that a service may take, before SIGKILL.
STOP_MARGIN_S = 5


class ServicePart(Part):
    """One process of a service."""

    # An encoder proves its codecs by trial encodes first, perhaps beside others on few cores.
    ready_timeout = 60

    def __init__(
        self,
        name: str,
        service: str,
        *,
        port: int,
        metrics_port: int,
        settings: Mapping[str, str],
        extra_env: Mapping[str, str],
        logs: Path,
        temporary: Path,
    ) -> None:
        """Nothing runs yet.

        Args:
            name: of this process, such as `encoder-1`.
            service: `api`, `encoder` or `storage`.
            port: where it serves gRPC.
            metrics_port: where it serves /metrics.
            settings: the service's settings by field name, without prefix.
            extra_env: further variables by their full name; they win.
            logs: folder for its log.
            temporary: folder for its temporary files.
        """
        self.name = name
        self._module = f"services.{service}"
        self._port = port
        self._metrics_port = metrics_port
        common = {
            "listen_host": LOOPBACK,
            "listen_port": str(port),
            "metrics_port": str(metrics_port),
            "drain_seconds": str(DRAIN_S),
        }
        self._env = {
            # A killed process leaves no log lines in a buffer.
            "PYTHONUNBUFFERED": "1",
            # Only what is named here: a service refuses a setting that it does not know,
            # and one from the user's shell is not meant for it.
            **bare_environment(GRPC_ENABLE_FORK_SUPPORT="0", TMPDIR=str(temporary)),
            **{
                f"VIDEOEXPORT_{service.upper()}_{field.upper()}": value
                for field, value in {**common, **settings}.items()
            },
            **extra_env,
        }
        self._log = logs / f"{name}.log"
        self._temporary = temporary

    @property
    def address(self) -> str:
        """Where it serves gRPC, as `host:port`."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def metrics_address(self) -> str:
        """Where it serves /metrics, as `host:port`."""
        return f"{LOOPBACK}:{self._metrics_port}"

    async def prepare(self) -> None:
        """Make its folder for temporary files."""
        make_private_folder(self._temporary)

    def command(self) -> Command:
        """Return the service's command line."""
        return self._command(self.name)

    def task(self, argument: str) -> Command:
        """Return the command line of the service's program with an argument, to run to its end."""
        return self._command(f"{self.name} {argument}", argument)

    def _command(self, name: str, *arguments: str) -> Command:
        return Command(
            name=name,
            argv=[sys.executable, "-m", self._module, *arguments],
            env=self._env,
            log=self._log,
            stop_grace=stop_grace(self._env),
        )

    async def probe(self) -> None:
        """Ask the standard health service."""
        await check_listening(self._port)
        async with grpc.aio.insecure_channel(self.address, NO_PROXY) as channel:
            try:
                # The published types leave out the stub's methods.
                check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
                answer = await check(health_pb2.HealthCheckRequest(), timeout=PROBE_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                raise NotReady(f"its health does not answer: {error.details()}") from error
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise NotReady("its health says NOT_SERVING; its log says why")


def stop_grace(env: Mapping[str, str]) -> float:
    """Return the seconds that a service with these settings may take to end."""
    drains = (float(value) for name, value in env.items() if name.endswith("DRAIN_SECONDS"))
    return STOP_MARGIN_S + sum(drains)
