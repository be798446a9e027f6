"""Replicas of the API, and those who watch through them."""

from __future__ import annotations

import asyncio

from faults.cluster import resume
from faults.fault import APIS, Fault, NotNow
from faults.scene import Scene
from faults.times import now
from videoexport.channel import call_metadata, open_channel
from videoexport.v1 import export_service_pb2 as service
from videoexport.v1.export_service_pb2_grpc import ExportServiceStub

# Longer than a statement and a call may take by default.
PAUSE_S = 6.0
WATCHERS = 200
# Of them are open, for the fault to count as one.
MOST = 0.9
OPENED_WITHIN_S = 20.0
ITSELF = {api: (api,) for api in APIS}


async def kill(scene: Scene, api: str) -> float:
    """SIGKILL a replica."""
    return await scene.answered(scene.api(api), await scene.kill(api))


async def restart(scene: Scene, api: str) -> float:
    """Restart a replica as a roll-out does."""
    since = now()
    await scene.cluster.stop(api)
    await scene.cluster.start(api)
    return await scene.answered(scene.api(api), since)


async def pause(scene: Scene, api: str) -> float:
    """Stop a replica for some seconds, then let it go on."""
    pid = scene.faulty.pause(api)
    try:
        await asyncio.sleep(PAUSE_S)
    finally:
        resume(pid)
    return await scene.answered(scene.api(api), now())


async def drop_watchers(scene: Scene, api: str) -> float:
    """Open many watches at a replica, and end them all at once without a word."""
    part = scene.api(api)
    found = await scene.rows.one(
        "SELECT id, user_id FROM exports WHERE ended_at IS NULL ORDER BY created_at DESC LIMIT 1"
    )
    if found is None:
        raise NotNow("no export goes on that could be watched")
    request = service.WatchExportRequest(export_id=str(found["id"]))
    metadata = call_metadata(str(found["user_id"]))
    async with open_channel(part.address) as channel:
        stub = ExportServiceStub(channel)
        calls = [
            stub.WatchExport(request, metadata=metadata, timeout=OPENED_WITHIN_S)
            for _ in range(WATCHERS)
        ]
        first = await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)
        # The export may be deleted meanwhile: then they are refused.
        opened = sum(isinstance(each, service.WatchExportResponse) for each in first)
        if opened < MOST * WATCHERS:
            raise NotNow(f"{opened} of {WATCHERS} watches opened")
        since = now()
    return await scene.answered(part, since)


FAULTS = (
    Fault(
        "api-kill",
        "SIGKILL of a replica of the API",
        "from the kill until that replica answers again",
        kill,
        APIS,
        ITSELF,
    ),
    Fault(
        "api-restart",
        "SIGTERM, start: a roll-out",
        "from SIGTERM until that replica answers again",
        restart,
        APIS,
    ),
    Fault(
        "api-paused",
        f"SIGSTOP of a replica for {PAUSE_S:g} s, then SIGCONT",
        "from SIGCONT until that replica answers again",
        pause,
        APIS,
    ),
    Fault(
        "watchers-dropped",
        f"{WATCHERS} watches of a replica end at once: a client's host dies",
        "from then until that replica answers",
        drop_watchers,
        APIS,
    ),
)
