"""What the API asks of encoders."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import grpc
from grpc import ChannelConnectivity

from services.common.caller import as_user
from services.common.errors import DomainError, Reason
from services.common.storage import answer
from videoexport.channel import open_channel
from videoexport.v1 import encoder_service_pb2 as encoder
from videoexport.v1 import export_pb2 as pb
from videoexport.v1.encoder_service_pb2_grpc import EncoderServiceStub

# Encoders are near; one that has just vanished may not even refuse a connection.
CONNECT_SECONDS = 2.0


class EncoderUnreachable(DomainError):
    """Nobody answers at the address of an encoder, so nothing was asked of it."""

    def __init__(self) -> None:
        super().__init__(Reason.NO_ENCODER, "An encoder cannot be reached.")


async def probe_by_any(
    addresses: Iterable[str], user_id: str, source: pb.Source, timeout: float
) -> pb.SourceInfo:
    """Have the first encoder that has time examine a source.

    Only one that has not begun sends us on to the next: a source that one of
    them cannot examine in time, or dies of, would do the same to all.

    Args:
        timeout: seconds for all of them together.

    Raises:
        DomainError: NO_ENCODER when none has time; TIME_LIMIT; whatever Probe lists.
    """
    try:
        async with asyncio.timeout(timeout):
            for address in addresses:
                try:
                    return await _probe_at(address, user_id, source)
                except EncoderUnreachable:
                    continue
                except DomainError as error:
                    if error.reason not in (Reason.SLOTS_BUSY, Reason.DRAINING):
                        raise
    except TimeoutError:
        raise DomainError(
            Reason.TIME_LIMIT, f"Examining the source was not done after {timeout:g} s."
        ) from None
    raise DomainError(Reason.NO_ENCODER, "Every encoder is busy, so the source cannot be examined.")


async def _probe_at(address: str, user_id: str, source: pb.Source) -> pb.SourceInfo:
    async with open_channel(address) as channel:
        await _connect(channel)
        request = encoder.ProbeRequest(source=source)
        # Without a deadline of its own: the caller's ends it.
        response = await answer(
            EncoderServiceStub(channel).Probe(request, metadata=as_user(user_id)),
            Reason.NO_ENCODER,
        )
    return response.info


async def _connect(channel: grpc.aio.Channel) -> None:
    """Wait until a channel is connected; fail at the first refusal."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            while (state := channel.get_state(True)) is not ChannelConnectivity.READY:
                if state is ChannelConnectivity.TRANSIENT_FAILURE:
                    raise EncoderUnreachable
                await channel.wait_for_state_change(state)
    except TimeoutError:
        raise EncoderUnreachable from None
