"""What is full or used up gives clear answers, holds up nothing else, and recovers."""

from __future__ import annotations

import asyncio

import psycopg
from api_parts import until
from api_rig import Rig
from api_service import (
    ANNA,
    SERVING,
    FakeEncoder,
    Surroundings,
    api_running,
    create,
    is_state,
    refusal,
)
from grpc import StatusCode

from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import export_service_pb2 as service


async def test_connections_that_callers_use_up_are_said_so_and_hold_up_no_loop(
    around: Surroundings, rig: Rig, encoder: FakeEncoder
) -> None:
    blocked = await rig.create()
    video = await encoder.probed_video(rig)
    pool = {"database_pool_size": 4, "database_loop_connections": 2}
    waits = {"database_pool_timeout": 0.3, "database_lock_timeout": 60, "database_timeout": 60}
    async with api_running(around, **pool, **waits) as api:
        await api.until(SERVING)
        cpu = pb.EncoderCapability(family=pb.ENCODER_FAMILY_CPU, available=True, slots=4)
        await encoder.heartbeat(pb.Encoder(id="encoder-1", capabilities=[cpu]))
        export = await create(api, video)
        async with await psycopg.AsyncConnection.connect(around.database) as other:
            await other.execute("SELECT 1 FROM exports WHERE id = %s FOR UPDATE", (blocked.id,))
            cancel = service.CancelExportRequest(export_id=blocked.id)
            waiting = [
                asyncio.ensure_future(api.exports.CancelExport(cancel, metadata=ANNA))
                for _ in range(2)
            ]
            await until(lambda: _all_wait(rig, 2))
            request = service.GetExportRequest(export_id=export.id)
            refused = await refusal(api.exports.GetExport(request, metadata=ANNA))
            assert (refused.code, refused.reason) == (StatusCode.UNAVAILABLE, "STORE_UNAVAILABLE")
            assert "busy" in refused.message
            assert refused.retry_seconds == 2
            # Work goes on meanwhile, and so does the service.
            sent = [await encoder.take(Lane.CPU), await encoder.take(Lane.CPU)]
            [task] = [each for each in sent if each.export_id == export.id]
            await encoder.encode(task, b"meanwhile")
            await until(lambda: _is_completed(rig, export.id))
            assert await api.health() == SERVING
            await other.rollback()
        await asyncio.gather(*waiting)
        assert await is_state(api, export.id, pb.EXPORT_STATE_COMPLETED)
        assert await is_state(api, blocked.id, pb.EXPORT_STATE_CANCELLED)


async def _all_wait(rig: Rig, count: int) -> bool:
    found = await rig.value(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    return bool(found >= count)


async def _is_completed(rig: Rig, export_id: str) -> bool:
    return bool(await rig.value("SELECT state = 'COMPLETED' FROM exports WHERE id = %s", export_id))
