"""Having a source examined by whichever encoder answers."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable

from videoexport.client.calls import Backoff, Connection, Timeouts
from videoexport.client.errors import Refused, ServiceUnreachable
from videoexport.v1 import encoder_service_pb2, export_pb2
from videoexport.v1.encoder_service_pb2_grpc import EncoderServiceStub

_NO_ENCODER = "NO_ENCODER"
_BUSY = "SLOTS_BUSY"


async def probe(
    list_encoders: Callable[[], Awaitable[Iterable[export_pb2.Encoder]]],
    source: export_pb2.Source,
    user: str,
    timeouts: Timeouts,
) -> export_pb2.SourceInfo:
    """Return what `source` is, asking one encoder after another until one has time.

    Where none is live, or all are busy, they are asked again for `Timeouts.connect` seconds:
    a service that has just started has not heard of its encoders yet.

    Raises:
        Refused: the source cannot be exported, or every encoder is busy.
        ServiceUnreachable: no encoder is live, or none of them answers.
    """
    backoff = Backoff(timeouts.connect)
    while True:
        live = [encoder for encoder in await list_encoders() if not encoder.draining]
        random.shuffle(live)  # many callers must not all meet at the first one
        problem: Refused | ServiceUnreachable = ServiceUnreachable(
            "No encoder is live at the moment.", reason=_NO_ENCODER
        )
        for encoder in live:
            try:
                return await _probe_at(encoder.address, source, user, timeouts)
            except ServiceUnreachable as error:
                problem = error
            except Refused as error:
                if error.reason != _BUSY:
                    raise
                problem = error
        if problem.reason not in (_NO_ENCODER, _BUSY) or not await backoff.pause():
            raise problem


async def _probe_at(
    address: str, source: export_pb2.Source, user: str, timeouts: Timeouts
) -> export_pb2.SourceInfo:
    connection = Connection(address, user, timeouts)
    try:
        response = await connection.call(
            EncoderServiceStub(connection.channel).Probe,
            encoder_service_pb2.ProbeRequest(source=source),
            timeout=timeouts.probe,
        )
    finally:
        await connection.close()
    return response.info
