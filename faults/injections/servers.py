"""NATS, Postgres, S3 and the StorageService: killed, restarted, away, wiped."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import datetime

import nats
import nats.errors

from faults.fault import BYTES_AWAY, WORKERS_AWAY, Fault, Limit, NotNow
from faults.scene import RECOVERY_S, Scene
from faults.times import now
from services.common.subjects import TASKS_STREAM
from services.local.nats import NatsPart

NATS = ("nats-1", "nats-2", "nats-3")
AWAY_S = 10.0
LEADER_LOST_S = 5.0
POSTGRES_BACK_S = 2.0
# A stream without a leader has an election under way, which takes this at most.
ELECTED_WITHIN_S = 10.0


async def kill_leader(scene: Scene, _: str) -> float:
    """SIGKILL the server of NATS that leads the stream of tasks."""
    leader = await _leader(scene)
    since = await scene.kill(leader)
    return await _dispatched_and_whole(scene, since, [leader])


async def kill_follower(scene: Scene, _: str) -> float:
    """SIGKILL a server of NATS that follows."""
    leader = await _leader(scene)
    follower = scene.dice.choice([name for name in NATS if name != leader])
    since = await scene.kill(follower)
    return await _dispatched_and_whole(scene, since, [follower])


async def kill_all_nats(scene: Scene, _: str) -> float:
    """SIGKILL all servers of NATS: a power cut."""
    since = await scene.kill(*NATS)
    return await _dispatched_and_whole(scene, since, NATS)


async def wipe_nats(scene: Scene, _: str) -> float:
    """Stop NATS, remove all that it has stored, and start it."""
    async with _stopped(scene, NATS):
        since = now()
        for server in scene.cluster.infrastructure.nats_servers:
            await asyncio.to_thread(_wipe, server)
    return await _dispatched_and_whole(scene, since, NATS)


async def kill_postgres(scene: Scene, _: str) -> float:
    """SIGKILL Postgres with all its backends."""
    await scene.serving("postgres", await scene.kill("postgres"))
    return await _rows_answer(scene, now())


async def restart_postgres(scene: Scene, _: str) -> float:
    """Restart Postgres, cutting transactions short."""
    async with _stopped(scene, ["postgres"]):
        pass
    return await _rows_answer(scene, now())


async def take_postgres_away(scene: Scene, _: str) -> float:
    """Stop Postgres for a while."""
    async with _stopped(scene, ["postgres"]):
        await asyncio.sleep(AWAY_S)
    return await _rows_answer(scene, now())


async def kill_s3(scene: Scene, _: str) -> float:
    """SIGKILL the S3 server."""
    await scene.serving("s3", await scene.kill("s3"))
    return await scene.succeeded(now())


async def kill_storage(scene: Scene, _: str) -> float:
    """SIGKILL the StorageService."""
    return await scene.accepted(await scene.kill("storage"))


async def restart_storage(scene: Scene, _: str) -> float:
    """Restart the StorageService as a roll-out does."""
    async with _stopped(scene, ["storage"]):
        since = now()
    return await scene.accepted(since)


async def kill_everything(scene: Scene, _: str) -> float:
    """SIGKILL every part at once."""
    return await _all_again(scene, await scene.kill(*scene.cluster.pids))


async def restart_everything(scene: Scene, _: str) -> float:
    """Stop every part at once, and start all again: the servers, then the services."""
    supervisor = scene.cluster.infrastructure.supervisor
    names = list(scene.cluster.pids)
    await supervisor.stop_together(names)
    # Until then encoders wait, as long as they may, for what has stopped beside them.
    since = now()
    servers = [name for name in names if name in SERVERS]
    for group in (servers, [name for name in names if name not in servers]):
        await _start(scene, group)
    return await _all_again(scene, since)


async def _all_again(scene: Scene, since: datetime) -> float:
    async with asyncio.timeout(RECOVERY_S):
        await scene.cluster.infrastructure.supervisor.all_serving()
    return await scene.succeeded(since)


async def _dispatched_and_whole(scene: Scene, since: datetime, names: Iterable[str]) -> float:
    """Return the seconds until tasks were sent out again; wait until the servers serve."""
    seconds = await scene.dispatched(since)
    for name in names:
        await scene.serving(name, since)
    return seconds


async def _rows_answer(scene: Scene, since: datetime) -> float:
    """Return the seconds until one replica answered from its rows; wait for all."""
    return min(await asyncio.gather(*(scene.answered(api, since) for api in scene.cluster.apis)))


@asynccontextmanager
async def _stopped(scene: Scene, names: Iterable[str]) -> AsyncIterator[None]:
    supervisor = scene.cluster.infrastructure.supervisor
    await supervisor.stop_together(names)
    try:
        yield
    finally:
        await _start(scene, names)


async def _start(scene: Scene, names: Iterable[str]) -> None:
    async with asyncio.TaskGroup() as starting:
        for name in names:
            starting.create_task(scene.cluster.start(name))


async def _leader(scene: Scene) -> str:
    try:
        async with asyncio.timeout(ELECTED_WITHIN_S):
            while True:
                for server in scene.cluster.infrastructure.nats_servers:
                    if leader := await _leader_by(server):
                        return leader
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise NotNow("the stream of tasks has no leader") from None


async def _leader_by(server: NatsPart) -> str | None:
    """Return the leader's name as a part, as one of the servers says."""
    try:
        client = await nats.connect(server.url, connect_timeout=1, allow_reconnect=False)
    except (OSError, nats.errors.Error):
        return None
    try:
        info = await client.jetstream(timeout=1).stream_info(TASKS_STREAM)
    except (TimeoutError, nats.errors.Error):
        return None
    finally:
        await client.close()
    leader = info.cluster.leader if info.cluster else None
    return leader.removeprefix("videoexport-") if leader else None


def _wipe(server: NatsPart) -> None:
    shutil.rmtree(server.directory / "jetstream", ignore_errors=True)


ALONE = {name: {"": (name,)} for name in ("postgres", "s3", "storage")}
ALL_NATS = {"": NATS}
SERVERS = (*NATS, "postgres", "s3")
EVERYTHING = {
    "": (*SERVERS, "storage", "api", "api-2", "encoder-1", "encoder-2", "encoder-3"),
}
DISPATCH = "from the kill until the next task is dispatched"
ROWS = "from Postgres serving again until a replica of the API answers from its rows"
FAULTS = (
    Fault(
        "nats-leader-kill",
        "SIGKILL of the NATS server that leads the stream of tasks",
        DISPATCH,
        kill_leader,
        ends=ALL_NATS,
        excuses=WORKERS_AWAY,
        limit=Limit(LEADER_LOST_S),
    ),
    Fault(
        "nats-follower-kill",
        "SIGKILL of a NATS server that follows",
        DISPATCH,
        kill_follower,
        ends=ALL_NATS,
        excuses=WORKERS_AWAY,
    ),
    Fault(
        "nats-all-kill",
        "SIGKILL of all NATS servers: their power is cut",
        DISPATCH,
        kill_all_nats,
        ends=ALL_NATS,
        excuses=WORKERS_AWAY,
    ),
    Fault(
        "nats-wiped",
        "all NATS servers start again with nothing: their volumes are lost",
        "from when all have stopped until the next task is dispatched",
        wipe_nats,
        excuses=WORKERS_AWAY,
    ),
    Fault(
        "postgres-kill",
        "SIGKILL of Postgres with all its backends",
        ROWS,
        kill_postgres,
        ends=ALONE["postgres"],
        limit=Limit(POSTGRES_BACK_S),
    ),
    Fault(
        "postgres-restart",
        "Postgres stops in the middle of transactions, and starts: a minor upgrade",
        ROWS,
        restart_postgres,
        limit=Limit(POSTGRES_BACK_S),
    ),
    Fault(
        "postgres-away",
        f"Postgres is away for {AWAY_S:g} s: a failover",
        ROWS,
        take_postgres_away,
        limit=Limit(POSTGRES_BACK_S),
    ),
    Fault(
        "s3-kill",
        "SIGKILL of the S3 server",
        "from S3 serving again until the next task succeeds",
        kill_s3,
        ends=ALONE["s3"],
        excuses=BYTES_AWAY,
    ),
    Fault(
        "storage-kill",
        "SIGKILL of the StorageService",
        "from the kill until the next export is accepted",
        kill_storage,
        ends=ALONE["storage"],
        excuses=BYTES_AWAY,
    ),
    Fault(
        "storage-restart",
        "SIGTERM, start of the StorageService: a roll-out",
        "from its end until the next export is accepted",
        restart_storage,
        excuses=BYTES_AWAY,
    ),
    Fault(
        "everything-kill",
        "SIGKILL of every part at once: the power of a whole site is cut",
        "from the kill until the next task succeeds",
        kill_everything,
        ends=EVERYTHING,
        excuses=BYTES_AWAY | WORKERS_AWAY,
    ),
    Fault(
        "everything-restart",
        "every part is stopped, then started: maintenance",
        "from when all has stopped until the next task succeeds",
        restart_everything,
        excuses=BYTES_AWAY | WORKERS_AWAY,
    ),
)
