"""What the API asks of the other services."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from services.api.store.housekeeping import Deletion
from services.common.caller import as_user
from services.common.errors import Reason
from services.common.storage import StorageCalls, answer
from videoexport.channel import open_channel
from videoexport.v1 import encoder_service_pb2 as encoder
from videoexport.v1 import export_pb2 as pb
from videoexport.v1.encoder_service_pb2_grpc import EncoderServiceStub


class StorageClient(StorageCalls):
    """Finds sources, signs outputs, deletes what is garbage."""

    async def delete_all(self, deletions: Sequence[Deletion]) -> None:
        """Delete objects of several users.

        Raises:
            DomainError: STORAGE_UNAVAILABLE; some may be gone already.
        """
        by_user = sorted(deletions, key=lambda deletion: deletion.user_id)
        for user_id, group in groupby(by_user, key=lambda deletion: deletion.user_id):
            await self.delete(user_id, [item.object for item in group])


async def probe_at(address: str, user_id: str, source: pb.Source, timeout: float) -> pb.SourceInfo:
    """Have the encoder at `address` examine a source.

    Raises:
        DomainError: INVALID_SOURCE, SOURCE_NOT_FOUND, SLOTS_BUSY, NO_ENCODER.
    """
    async with open_channel(address) as channel:
        response = await answer(
            EncoderServiceStub(channel).Probe(
                encoder.ProbeRequest(source=source), timeout=timeout, metadata=as_user(user_id)
            ),
            Reason.NO_ENCODER,
        )
    return response.info
