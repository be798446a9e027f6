"""Draining: no new work, and the newest grace decides when running tasks are handed back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from unittest.mock import Mock

import pytest
from prometheus_client import CollectorRegistry

from services.common import ids
from services.common.errors import DomainError, Reason
from services.common.subjects import Lane
from services.encoder.board import RELEASED, Run, TaskBoard
from services.encoder.direct import DirectCalls
from services.encoder.metrics import EncoderMetrics
from videoexport.v1 import export_pb2 as pb

SOON = 0.05
LATER = 30.0


def new_run() -> Run:
    return Run(ids.run_id(), 1, Lane.CPU, pb.RunningTask())


@pytest.fixture
def board() -> TaskBoard:
    return TaskBoard({Lane.CPU: 1}, EncoderMetrics(CollectorRegistry()))


@pytest.fixture
async def run(board: TaskBoard) -> AsyncIterator[Run]:
    """A run without end in the only slot."""
    run, begun = new_run(), asyncio.Event()

    async def work() -> None:
        with board.slot(run):
            begun.set()
            await asyncio.Event().wait()

    run.work = asyncio.create_task(work())
    await begun.wait()
    yield run
    run.work.cancel()
    await asyncio.gather(run.work, return_exceptions=True)


@pytest.fixture
def drain(board: TaskBoard) -> Callable[[float | None], None]:
    """What the RPC calls; of its other parts it uses none."""
    return DirectCalls(board, Mock(), Mock(), Mock(), timedelta(hours=1), ()).drain


async def handed_back(run: Run) -> bool:
    """Return whether the run is stopped within ten times SOON."""
    assert run.work is not None
    await asyncio.wait({run.work}, timeout=10 * SOON)
    return run.stop_reason == RELEASED


async def test_drain_takes_no_new_work_and_waits_without_limit(
    board: TaskBoard, run: Run, drain: Callable[[float | None], None]
) -> None:
    drain(None)
    with pytest.raises(DomainError) as refused, board.slot(new_run()):
        pass
    assert refused.value.reason is Reason.DRAINING
    assert not await handed_back(run)


@pytest.mark.parametrize(
    ("graces", "stopped"),
    [
        ([SOON], True),
        ([LATER], False),
        ([LATER, SOON], True),
        ([None, SOON], True),
        ([SOON, LATER], False),
        ([SOON, None], False),
    ],
)
async def test_newest_grace_counts(
    run: Run, drain: Callable[[float | None], None], graces: list[float | None], stopped: bool
) -> None:
    for grace in graces:
        drain(grace)
        await asyncio.sleep(0)
    assert await handed_back(run) is stopped
