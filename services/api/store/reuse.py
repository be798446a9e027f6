"""What earlier exports have left: finished files, stored parts, measured speeds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import (
    ARRAY,
    BindParameter,
    ColumnElement,
    LargeBinary,
    and_,
    any_,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.api.encode_kind import Pictures, kind_of
from services.api.models import cached_parts, encode_speeds, exports, object_deletions
from services.api.states import ExportState
from services.api.store.database import Database
from services.api.store.records import from_json, to_json
from services.common.errors import DomainError, Reason
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import storage_service_pb2 as storage
from videoexport.v1 import task_pb2

# Storage removes a part a week after it was written (services/storage/buckets.py): what is
# planned with today must outlive its export.
TRUSTED_AGE = timedelta(days=6)
FORGOTTEN_AGE = timedelta(days=7)
# A part that is used is written anew, so that its week begins again; once a day is enough.
RENEWAL_AGE = timedelta(days=1)
# A finished file that expires sooner may be gone before it is copied.
LEAST_LIFETIME = timedelta(hours=1)
RENEWALS = 100


@dataclass(frozen=True, slots=True)
class PartName:
    """A stored part."""

    user_id: str
    key: bytes


class ReuseStore:
    """Finds what need not be made again; every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def finished(
        self, user_id: str, fingerprint: bytes
    ) -> tuple[task_pb2.CopyTask, Sequence[pb.ExportWarning]] | None:
        """Return the file of an identical export, if there is one, and what is told of it."""
        query = (
            select(exports.c.id, exports.c.output_run_id, exports.c.output, exports.c.warnings)
            .where(
                exports.c.user_id == user_id,
                exports.c.fingerprint == fingerprint,
                exports.c.state == ExportState.COMPLETED,
                exports.c.expires_at > func.now() + LEAST_LIFETIME,
            )
            .order_by(exports.c.expires_at.desc())
            .limit(1)
        )
        async with self._database.transaction() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        output = from_json(row.output, pb.Output())
        told = [from_json(item, pb.ExportWarning()) for item in row.warnings]
        # The others are about how it was made, or are told again of the copy.
        damage = [warning for warning in told if warning.code == Reason.SOURCE_DAMAGED]
        copy = task_pb2.CopyTask(export_id=row.id, run_id=row.output_run_id, output=output)
        return copy, damage

    async def makers(self, user_id: str, keys: Sequence[bytes]) -> dict[bytes, str]:
        """Return, of those of the parts that are there, the exports that made them."""
        query = select(cached_parts.c.key, cached_parts.c.export_id).where(
            cached_parts.c.user_id == user_id,
            cached_parts.c.key == any_(_keys(keys)),
            cached_parts.c.stored_at > func.now() - TRUSTED_AGE,
        )
        async with self._database.transaction() as connection:
            return {row.key: row.export_id for row in await connection.execute(query)}

    async def speed(self, family: pb.EncoderFamily.ValueType, pictures: Pictures) -> float | None:
        """Return the measured frames per second of finished encodes of this kind, in one slot."""
        kind, scale = kind_of(family, pictures)
        query = select(encode_speeds.c.frames_per_second).where(
            encode_speeds.c.family == kind.name_of_family,
            encode_speeds.c.resolution == pb.Resolution.Name(kind.resolution),
            encode_speeds.c.quality == pb.Quality.Name(kind.quality),
        )
        async with self._database.transaction() as connection:
            speed: float | None = (await connection.execute(query)).scalar_one_or_none()
        return None if speed is None else speed / scale

    async def forget(self, user_id: str, keys: Sequence[bytes]) -> None:
        """Forget parts that are not there."""
        async with self._database.transaction() as connection:
            await _forget(connection, user_id, keys)

    async def discard(self, user_id: str, keys: Sequence[bytes]) -> None:
        """Forget parts that are not to be used again, and have them deleted.

        Forgotten alone they would be found: an encoder looks before it makes a part.
        """
        objects = [storage.ObjectRef(cache_key=key.hex()) for key in keys]
        rows = [{"user_id": user_id, "object": to_json(item)} for item in objects]
        async with self._database.transaction() as connection:
            await _forget(connection, user_id, keys)
            if rows:
                await connection.execute(insert(object_deletions), rows)

    async def renew_parts(self, renew: Callable[[PartName], Awaitable[None]]) -> int:
        """Have parts that were used written anew; return how many. A vanished one is forgotten.

        Replicas take different ones. One that cannot be renewed is put off until it is used
        again; while storage is away, all are.

        Raises:
            DomainError: STORAGE_UNAVAILABLE; what was not renewed is due again.
        """
        parts = await self._claim_renewals()
        for done, part in enumerate(parts):
            try:
                await renew(part)
            except DomainError as error:
                if error.reason is Reason.STORAGE_UNAVAILABLE:
                    await self._due_again(parts[done:])
                    raise
                if error.reason is Reason.OBJECT_NOT_FOUND:
                    await self.forget(part.user_id, [part.key])
            else:
                await self._renewed(part)
        return len(parts)

    async def _claim_renewals(self) -> list[PartName]:
        due = (
            select(cached_parts.c.user_id, cached_parts.c.key)
            .where(cached_parts.c.renew)
            .order_by(cached_parts.c.stored_at)
            .limit(RENEWALS)
            .with_for_update(skip_locked=True)
            .subquery()
        )
        claim = (
            update(cached_parts)
            .where(cached_parts.c.user_id == due.c.user_id, cached_parts.c.key == due.c.key)
            # Should this process die now, they are due again when they are used again.
            .values(renew=False)
            .returning(cached_parts.c.user_id, cached_parts.c.key)
        )
        async with self._database.transaction() as connection:
            return [PartName(row.user_id, row.key) for row in await connection.execute(claim)]

    async def _due_again(self, parts: Sequence[PartName]) -> None:
        async with self._database.transaction() as connection:
            for part in parts:
                await connection.execute(
                    update(cached_parts).where(_named(part)).values(renew=True)
                )

    async def _renewed(self, part: PartName) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(
                update(cached_parts).where(_named(part)).values(stored_at=func.now())
            )

    async def forget_old(self) -> None:
        """Forget parts that storage has removed by their age."""
        async with self._database.transaction() as connection:
            await connection.execute(
                delete(cached_parts).where(cached_parts.c.stored_at < func.now() - FORGOTTEN_AGE)
            )


def _named(part: PartName) -> ColumnElement[bool]:
    return and_(cached_parts.c.user_id == part.user_id, cached_parts.c.key == part.key)


def _keys(keys: Sequence[bytes]) -> BindParameter[Sequence[bytes]]:
    """Return keys as one parameter: of a day's output there are ten thousand."""
    return literal(list(keys), ARRAY(LargeBinary))


async def _forget(connection: AsyncConnection, user_id: str, keys: Sequence[bytes]) -> None:
    await connection.execute(
        delete(cached_parts).where(
            cached_parts.c.user_id == user_id, cached_parts.c.key == any_(_keys(keys))
        )
    )


async def keep_part(connection: AsyncConnection, event: task_pb2.TaskEvent) -> bool:
    """Keep that a part is stored; return whether it is the work of another export."""
    part = event.succeeded.part
    statement = upsert(cached_parts).values(
        user_id=event.user_id,
        key=part.key,
        export_id=event.export_id,
        size_bytes=part.size_bytes,
        # One that was found, but is not known here, is of unknown age.
        renew=part.found,
    )
    new = statement.excluded
    made_now = {
        "export_id": new.export_id,
        "size_bytes": new.size_bytes,
        "stored_at": func.now(),
        "renew": False,
    }
    kept = await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[cached_parts.c.user_id, cached_parts.c.key],
            set_={"renew": True} if part.found else made_now,
        ).returning(cached_parts.c.export_id)
    )
    return str(kept.scalar_one()) != event.export_id


async def forget_fingerprint(connection: AsyncConnection, export_id: str) -> None:
    """Have no later export take over the file of an export."""
    await connection.execute(
        update(exports).where(exports.c.id == export_id).values(fingerprint=None)
    )


async def use_parts(connection: AsyncConnection, user_id: str, keys: Sequence[bytes]) -> None:
    """Have the life of parts that an export uses begin again."""
    # Locked in one order: another export may be planned with the same parts.
    aged = (
        select(cached_parts.c.key)
        .where(
            cached_parts.c.user_id == user_id,
            cached_parts.c.key == any_(_keys(keys)),
            cached_parts.c.stored_at < func.now() - RENEWAL_AGE,
        )
        .order_by(cached_parts.c.key)
        .with_for_update()
    )
    found = (await connection.execute(aged)).scalars().all()
    if found:
        await connection.execute(
            update(cached_parts)
            .where(cached_parts.c.user_id == user_id, cached_parts.c.key == any_(_keys(found)))
            .values(renew=True)
        )
