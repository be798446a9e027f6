"""What the API asks of encoders."""

from __future__ import annotations

from services.common.caller import as_user
from services.common.errors import Reason
from services.common.storage import answer
from videoexport.channel import open_channel
from videoexport.v1 import encoder_service_pb2 as encoder
from videoexport.v1 import export_pb2 as pb
from videoexport.v1.encoder_service_pb2_grpc import EncoderServiceStub


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
