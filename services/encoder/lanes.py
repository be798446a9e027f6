"""Pulling tasks: one message for each free slot of a lane."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from services.common.nats import TRANSIENT
from services.common.subjects import TASKS_STREAM, Lane
from services.encoder.board import TaskBoard

log = structlog.get_logger()

# Also how long an idle encoder takes to drain.
FETCH_SECONDS = 2.0
PAUSE_SECONDS = 1.0
# A pull can stall after a server restart without an error. A slot that has received nothing for
# so long asks for the consumer, which raises when that is gone, and binds anew, with another
# inbox. Seldom, for an answer costs the server more than a pull.
CHECK_SECONDS = 10.0


class LaneConsumer:
    """Takes work from one lane while a slot is free and the encoder is not draining.

    Args:
        handle: settles one message; runs in a slot's own loop.
    """

    def __init__(
        self,
        lane: Lane,
        js: JetStreamContext,
        board: TaskBoard,
        handle: Callable[[Msg, Lane], Awaitable[None]],
    ) -> None:
        self._lane = lane
        self._js = js
        self._board = board
        self._handle = handle

    async def run(self) -> None:
        """Work until the encoder drains: one loop a slot."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._board.slots[self._lane]):
                group.create_task(self._slot())

    async def _slot(self) -> None:
        while not self._board.draining:
            try:
                await self._pull()
            except TRANSIENT as error:
                log.debug("lane binds again", lane=self._lane, problem=type(error).__name__)
                await asyncio.sleep(PAUSE_SECONDS)
            except asyncio.CancelledError as error:
                # A task group lets a child go that is cancelled, and the slot would be lost for
                # as long as the encoder lives: so only who cancels the slot itself ends it.
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                log.error("work was cancelled by nobody", lane=self._lane, exc_info=error)
                await asyncio.sleep(PAUSE_SECONDS)

    async def _pull(self) -> None:
        """Take messages until none has come for a while."""
        subscription = await self._js.pull_subscribe_bind(
            durable=self._lane.value, stream=TASKS_STREAM
        )
        loop = asyncio.get_running_loop()
        check_at = loop.time() + CHECK_SECONDS
        try:
            while not self._board.draining:
                if not self._board.takes(self._lane):
                    # A direct Encode holds the slot, or the scratch disk is full. What is not
                    # taken counts as no try, and is there for others.
                    await asyncio.sleep(PAUSE_SECONDS)
                    continue
                try:
                    [message] = await subscription.fetch(1, timeout=FETCH_SECONDS)
                except nats.errors.TimeoutError:
                    if loop.time() < check_at:
                        continue
                    await subscription.consumer_info()
                    if subscription.pending_msgs:
                        # Came after its pull was given up: it is not to be lost with the inbox.
                        continue
                    return
                await self._handle(message, self._lane)
                check_at = loop.time() + CHECK_SECONDS
        finally:
            # A closed connection has dropped it already.
            await asyncio.gather(subscription.unsubscribe(), return_exceptions=True)
