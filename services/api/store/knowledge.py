"""What finished work has taught: what sources are, and how fast encodes run."""

from __future__ import annotations

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import encode_speeds, probes
from services.api.store.records import to_json
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# Weight of the newest measurement in the moving average of encode speeds.
SPEED_WEIGHT = 0.3


async def keep_probe(connection: AsyncConnection, source_key: str, info: pb.SourceInfo) -> None:
    """Keep what is known of a source at the version that was examined."""
    statement = upsert(probes).values(source_key=source_key, etag=info.etag, info=to_json(info))
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[probes.c.source_key, probes.c.etag],
            set_={"info": statement.excluded.info, "created_at": func.now()},
        )
    )


async def learn_speed(
    connection: AsyncConnection, plan: pb.Plan, succeeded: task_pb2.TaskSucceeded
) -> None:
    """Let a finished encode count in the measured speed of its kind."""
    if succeeded.frames_per_second <= 0:
        return
    statement = upsert(encode_speeds).values(
        family=pb.EncoderFamily.Name(succeeded.output.encoder_family),
        resolution=pb.Resolution.Name(plan.resolution),
        quality=pb.Quality.Name(plan.quality),
        frames_per_second=succeeded.frames_per_second,
        samples=1,
    )
    known = encode_speeds.c.frames_per_second
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["family", "resolution", "quality"],
            set_={
                "frames_per_second": known
                + SPEED_WEIGHT * (statement.excluded.frames_per_second - known),
                "samples": encode_speeds.c.samples + 1,
                "updated_at": func.now(),
            },
        )
    )
