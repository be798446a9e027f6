"""What finished work has taught: what sources are, and how fast encodes run."""

from __future__ import annotations

from sqlalchemy import Double, cast, func, literal, or_, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.encode_kind import Pictures, kind_of
from services.api.models import encode_speeds, probes
from services.api.store.records import to_json
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# How many frames earlier encodes count for beside the newest, and how many runs. Few enough
# to follow machines and material; short encodes, which are slow for their start alone, count
# for little.
REMEMBERED_FRAMES = 2000
REMEMBERED_RUNS = 10


async def keep_probe(connection: AsyncConnection, source_key: str, info: pb.SourceInfo) -> None:
    """Keep what is known of a source at the version that was examined.

    What an encoder of before says does not replace what is known: it tells less
    (services/common/examined.py).
    """
    statement = upsert(probes).values(source_key=source_key, etag=info.etag, info=to_json(info))
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[probes.c.source_key, probes.c.etag],
            set_={"info": statement.excluded.info, "created_at": func.now()},
            where=or_(
                statement.excluded.info.has_key("metadata"), ~probes.c.info.has_key("metadata")
            ),
        )
    )


async def learn_speed(
    connection: AsyncConnection,
    family: pb.EncoderFamily.ValueType,
    pictures: Pictures,
    frames: int,
    succeeded: task_pb2.TaskSucceeded,
) -> None:
    """Let a finished encode of one slot count in the measured speed of its kind.

    Args:
        frames: that the run has made.
    """
    frames_per_second = succeeded.frames_per_second
    if frames_per_second <= 0 or frames <= 0:
        return
    seconds = succeeded.run_time.ToTimedelta().total_seconds()
    kind, scale = kind_of(family, pictures)
    names = (
        kind.name_of_family,
        pb.Resolution.Name(kind.resolution),
        pb.Quality.Name(kind.quality),
    )
    sample = {
        **dict(zip(("family", "resolution", "quality"), names, strict=True)),
        "frames_per_second": frames_per_second * scale,
        "overhead_seconds": max(0.0, seconds - frames / frames_per_second),
        "frames": frames,
        "samples": 1,
    }
    # All exports share the row, and who learns keeps it until the commit. Of encodes that end
    # at the same moment one is sample enough: none waits for another.
    free = func.pg_try_advisory_xact_lock(func.hashtextextended("/".join(names), 0))
    row = select(*(literal(value, encode_speeds.c[name].type) for name, value in sample.items()))
    statement = upsert(encode_speeds).from_select(list(sample), row.where(free))
    new, known = statement.excluded, encode_speeds.c
    # Frames over seconds, as a single long encode would give.
    share = cast(new.frames, Double) / (new.frames + func.least(known.frames, REMEMBERED_FRAMES))
    speed = 1 / ((1 - share) / known.frames_per_second + share / new.frames_per_second)
    weight = func.greatest(1.0 / (known.samples + 1), 1.0 / REMEMBERED_RUNS)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["family", "resolution", "quality"],
            set_={
                "frames_per_second": speed,
                "overhead_seconds": known.overhead_seconds
                + weight * (new.overhead_seconds - known.overhead_seconds),
                "frames": known.frames + new.frames,
                "samples": known.samples + 1,
                "updated_at": func.now(),
            },
        )
    )
