"""What callers are told to expect, by the whole service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from api_parts import running, until
from api_rig import Rig
from api_service import ANNA, Api, FakeEncoder, create, get, is_state

from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service

CPU = pb.EncoderCapability(family=pb.ENCODER_FAMILY_CPU, available=True, slots=1)


async def seconds(api: Api, export_id: str) -> float:
    """Return the time that is told for an export of anna's; 0 where none is."""
    return (await get(api, export_id)).eta.ToTimedelta().total_seconds()


@pytest.fixture
async def live(encoder: FakeEncoder) -> AsyncIterator[None]:
    """An encoder of one slot that is heard of as long as the test runs."""

    async def stay_alive() -> None:
        while True:
            await encoder.heartbeat(pb.Encoder(id="encoder-1", capabilities=[CPU]))
            await asyncio.sleep(1)

    async with running(stay_alive):
        yield


async def test_time_and_place_are_told_in_every_answer(
    api: Api, rig: Rig, encoder: FakeEncoder, live: None
) -> None:
    await rig.sql(
        "INSERT INTO encode_speeds (family, resolution, quality, frames_per_second, samples)"
        " VALUES ('ENCODER_FAMILY_CPU', 'RESOLUTION_720P', 'QUALITY_MEDIUM', 10, 1)"
    )
    video = await encoder.probed_video(rig)
    first, second = await create(api, video), await create(api, video)

    async def both_told() -> bool:
        return await seconds(api, second.id) > 15

    # 100 frames each, ten a second.
    await until(both_told)
    assert 5 < await seconds(api, first.id) < 12
    assert await seconds(api, second.id) < 23
    assert (await get(api, first.id)).queue_position == 0
    assert (await get(api, second.id)).queue_position == 1
    page = await api.exports.ListExports(service.ListExportsRequest(), metadata=ANNA)
    assert [item.queue_position for item in page.exports] == [1, 0]
    assert page.exports[0].eta.ToTimedelta() > page.exports[1].eta.ToTimedelta()

    task = await encoder.take(Lane.CPU)
    assert task.export_id == first.id
    await encoder.begin(task, "run_1")
    await until(lambda: is_state(api, first.id, pb.EXPORT_STATE_PROCESSING))

    async def next_in_line() -> bool:
        return (await get(api, second.id)).queue_position == 0

    await until(next_in_line)
    await encoder.progress(task, "run_1", 99)

    async def nearly_done() -> bool:
        return 0 < await seconds(api, first.id) < 2

    await until(nearly_done)
