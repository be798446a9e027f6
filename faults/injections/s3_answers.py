"""S3 that answers wrongly, late or not at all; and objects that are gone."""

from __future__ import annotations

import asyncio
from functools import partial

from faults.fault import Fault, NotNow
from faults.rows import Row, until
from faults.s3_door import Harm, Operation
from faults.scene import PATIENCE_S, Scene
from faults.times import now
from services.common.errors import Reason
from services.local.cluster import BUCKET

# How many requests in a row suffer: more than one attempt has, fewer than make a task fail for
# good. A run may fail of that, and is tried again; no export does.
REQUESTS = 2
SLOW_S = 3.0
# What a run fails with that S3 does not give its source, or does not take its file from.
UNREAD = frozenset({Reason.SOURCE_UNAVAILABLE, Reason.ENCODER_FAILED})
UNSTORED = frozenset({Reason.STORAGE_UNAVAILABLE})
OPERATIONS = {
    "get": Operation.GET,
    "put": Operation.PUT,
    "create": Operation.CREATE,
    "complete": Operation.COMPLETE,
}
TARGETS = tuple(OPERATIONS)
# The loss is noticed when all other parts are there, which may take many turns of its user.
MENDED_WITHIN_S = 180.0
PARTS_IN_USE = """
    SELECT tasks.user_id AS user, tasks.part_key AS key, exports.id AS export
    FROM tasks JOIN exports ON exports.id = tasks.export_id
    WHERE tasks.state = 'SUCCEEDED' AND tasks.kind = 'VIDEO' AND tasks.part_key IS NOT NULL
      AND exports.state = 'PROCESSING'
    ORDER BY tasks.ended_at DESC
"""
MENDED = """
    SELECT exports.ended_at AS ended, (
        SELECT min(runs.started_at) FROM runs JOIN tasks ON tasks.id = runs.task_id
        WHERE tasks.export_id = exports.id AND tasks.part_key = %(key)s
          AND runs.started_at > %(since)s
    ) AS made
    FROM exports WHERE id = %(export)s
"""


async def answer(scene: Scene, target: str, *, harm: Harm, requests: int) -> float:
    """Have the next requests of a kind suffer."""
    door = scene.faulty.s3_door
    rule = door.harm(OPERATIONS[target], harm, times=requests, seconds=SLOW_S)
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not rule.met:
                await asyncio.sleep(0.05)
        since = now()
        # What suffered is tried again; what is not met by then, nobody needs.
        return await scene.succeeded(since)
    except TimeoutError:
        if rule.met:
            raise
        raise NotNow(f"nobody asked S3 for {target}") from None
    finally:
        if rule in door.rules:
            door.rules.remove(rule)


async def delete_part(scene: Scene, _: str) -> float | None:
    """Delete a part that an export which goes on counts on."""

    async def look() -> Row | None:
        return await scene.rows.one(PARTS_IN_USE)

    try:
        part = await until(look, PATIENCE_S)
    except TimeoutError:
        raise NotNow("no export is being made in parts") from None
    client = scene.cluster.infrastructure.s3.client()
    key = f"cache/{part['user']}/{part['key'].hex()}"
    since = now()
    await asyncio.to_thread(client.delete_object, Bucket=BUCKET, Key=key)

    async def mended() -> tuple[float | None] | None:
        row = await scene.rows.one(MENDED, since=since, **part)
        if row is None:
            return (None,)  # deleted by its owner
        at = row["made"] or row["ended"]
        return ((at - since).total_seconds(),) if at else None

    return (await until(mended, MENDED_WITHIN_S))[0]


def _fault(name: str, does: str, harm: Harm, *, requests: int = REQUESTS) -> Fault:
    targets = {
        Harm.LOST_ANSWER: ("complete", "put"),
        Harm.CUT_BODY: ("get",),
        Harm.FORBIDDEN: ("get", "put"),
    }.get(harm, TARGETS)
    excuses = frozenset[Reason]()
    if harm is not Harm.SLOW:
        excuses |= UNREAD if "get" in targets else excuses
        excuses |= UNSTORED if set(targets) != {"get"} else excuses
    return Fault(
        name,
        does,
        "from the first such request until the next task succeeds",
        partial(answer, harm=harm, requests=requests),
        targets,
        excuses=excuses,
    )


FAULTS = (
    _fault("s3-500", "S3 answers 500 and does nothing", Harm.ERROR_500),
    _fault("s3-503", "S3 answers 503, slow down", Harm.ERROR_503),
    _fault("s3-slow", f"S3 answers {SLOW_S:g} s late", Harm.SLOW),
    _fault("s3-reset", "S3 resets connections", Harm.RESET),
    _fault("s3-cut-body", "an object ends half-way, without an error", Harm.CUT_BODY),
    _fault("s3-answer-lost", "S3 does what it is asked, and answers 500", Harm.LOST_ANSWER),
    _fault("url-refused", "a presigned URL is refused, as when it has expired", Harm.FORBIDDEN),
    Fault(
        "part-deleted",
        "a part in the cache is deleted between plan and assembly",
        "from then until it is made again, or its export has ended without",
        delete_part,
        excuses=frozenset({Reason.PART_MISSING, Reason.PARTS_DIFFER}),
    ),
)
