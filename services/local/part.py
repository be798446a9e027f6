"""What the supervisor needs to know of a part of the cluster."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping

from services.local.ports import LOOPBACK
from services.local.process import Command, NotReady

# What a program needs from the user's environment to run at all. Nothing else is passed on:
# servers read many variables (AWS_…, PG…, http_proxy) that are meant for something else.
PASSED_ON = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"),
    *("PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"),
)


class Part(ABC):
    """A server of the cluster: how to prepare it, run it and see that it serves."""

    name: str
    # Seconds from the start of the process until it must serve.
    ready_timeout: float = 30

    @abstractmethod
    async def prepare(self) -> None:
        """Write what the process reads at its start; called before each start.

        Raises:
            PartFailed: it cannot be done.
        """

    @abstractmethod
    def command(self) -> Command:
        """Return what to run; does nothing else."""

    @abstractmethod
    async def probe(self) -> None:
        """Return when the process serves.

        Raises:
            NotReady: not yet.
            PartFailed: it never will.
        """

    def tidy(self) -> None:  # noqa: B027 - most parts leave nothing
        """Remove what the process leaves outside the data directory; called after it stopped."""


def bare_environment(**extra: str) -> Mapping[str, str]:
    """Return the environment for a server: PATH and the like, and what is given."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ} | extra


async def check_listening(port: int) -> None:
    """Return when something accepts connections on a loopback port.

    The clients of NATS and gRPC wait for seconds after a refused connection: they are asked
    only once there is something to connect to.

    Raises:
        NotReady: nothing does.
    """
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError as error:
        raise NotReady(f"nothing listens on port {port}") from error
    writer.close()
    await writer.wait_closed()
