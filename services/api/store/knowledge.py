"""What finished work has taught: what sources are, and how fast encodes run."""

from __future__ import annotations

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.models import encode_speeds, probes
from services.api.store.records import to_json
from videoexport.v1 import export_pb2 as pb

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
    connection: AsyncConnection,
    plan: pb.Plan,
    family: pb.EncoderFamily.ValueType,
    frames_per_second: float,
) -> None:
    """Let a finished encode of one slot count in the measured speed of its kind."""
    if frames_per_second <= 0:
        return
    statement = upsert(encode_speeds).values(
        family=pb.EncoderFamily.Name(family),
        resolution=pb.Resolution.Name(plan.resolution),
        quality=pb.Quality.Name(plan.quality),
        frames_per_second=frames_per_second,
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
