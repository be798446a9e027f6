"""One way to call a service: wait for the connection, a deadline, and patience with outages."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from videoexport.channel import call_metadata, open_channel
from videoexport.client.errors import Refused, ServiceUnreachable, error_of

R = TypeVar("R")

# Where nobody answered, or only the database knows whether it has committed, the attempt may
# have been done; whatever else a service answers was said instead of doing it.
_PERHAPS_DONE = ("", "STORE_UNAVAILABLE")
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How patient a client is, in seconds.

    Attributes:
        connect: how long an idempotent call is tried again while nobody answers, counted
            from the first attempt that failed, and how long any call waits for a connection.
        call: deadline of one attempt of a unary call.
        probe: deadline of a probe, which reads the source.
        reconnect: how long a watch keeps trying after its stream broke.
    """

    connect: float = 5.0
    call: float = 20.0
    probe: float = 60.0
    reconnect: float = 60.0


class Backoff:
    """Growing pauses with jitter, until an outage has lasted a number of seconds."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._pause = _FIRST_PAUSE
        self._deadline: float | None = None

    @property
    def remaining(self) -> float:
        """Seconds until the limit; all of them until the first pause."""
        if self._deadline is None:
            return self._limit
        return max(0.0, self._deadline - time.monotonic())

    async def pause(self) -> bool:
        """Sleep before the next attempt; return False when the limit leaves no time for it."""
        if self._deadline is None:
            self._deadline = time.monotonic() + self._limit
        # Jitter keeps the clients of a restarted service from coming back as one.
        pause = self._pause * random.uniform(0.5, 1.0)  # noqa: S311 — not a secret
        if pause >= self.remaining:
            return False
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        await asyncio.sleep(pause)
        return True


class Connection:
    """A channel to one service, on behalf of one user."""

    def __init__(self, address: str, user: str, timeouts: Timeouts) -> None:
        self.address = address
        self.timeouts = timeouts
        self.channel = open_channel(address)
        self._answered = False
        self.metadata = call_metadata(user)

    async def close(self) -> None:
        """Close the channel; calls under way end with an error."""
        await self.channel.close()

    @property
    def patience(self) -> float:
        """Seconds of outage that a stream outlasts: a service that was there comes back."""
        return self.timeouts.reconnect if self._answered else self.timeouts.connect

    async def ready(self, within: float) -> None:
        """Wait until the service can be called.

        Raises:
            ServiceUnreachable: not connected within that many seconds.
        """
        try:
            async with asyncio.timeout(within):
                await self.channel.channel_ready()
                self._answered = True
        except TimeoutError:
            raise ServiceUnreachable(f"The service at {self.address} cannot be reached.") from None

    async def call(
        self,
        method: Callable[..., Awaitable[R]],
        request: Message,
        *,
        timeout: float | None = None,
        done_before: tuple[str, R] | None = None,
    ) -> R:
        """Call and return the answer; outlasts a short outage by calling again.

        Args:
            method: an idempotent one, of a stub on this connection's channel.
            timeout: deadline of one attempt in seconds; default: `Timeouts.call`.
            done_before: a reason by which the service refuses what an earlier attempt
                has already done, and the answer that it stands for then.

        Raises:
            Refused: the service declined.
            ServiceUnreachable: no answer in time.
        """
        backoff = Backoff(self.timeouts.connect)
        repeated = False
        while True:
            await self.ready(within=backoff.remaining)
            try:
                return await method(
                    request, metadata=self.metadata, timeout=timeout or self.timeouts.call
                )
            except grpc.aio.AioRpcError as error:
                meaning = error_of(error, self.address)
                if repeated and done_before and meaning.reason == done_before[0]:
                    return done_before[1]
                if not _passing(error, meaning) or not await backoff.pause():
                    raise meaning from error
                repeated = repeated or meaning.reason in _PERHAPS_DONE


def _passing(error: grpc.aio.AioRpcError, meaning: Refused | ServiceUnreachable) -> bool:
    """Return whether the same call may succeed at once, perhaps with another replica."""
    if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
        # A service that says so itself has tried for as long as it may.
        return isinstance(meaning, ServiceUnreachable) and not meaning.reason
    return error.code() == grpc.StatusCode.UNAVAILABLE
