"""Having a source examined by whichever encoder answers."""

from __future__ import annotations

import random
from collections.abc import Iterable

from videoexport.client.calls import Connection, Timeouts
from videoexport.client.errors import Refused, ServiceUnreachable
from videoexport.v1 import encoder_service_pb2, export_pb2
from videoexport.v1.encoder_service_pb2_grpc import EncoderServiceStub


async def probe(
    encoders: Iterable[export_pb2.Encoder],
    source: export_pb2.Source,
    user: str,
    timeouts: Timeouts,
) -> export_pb2.SourceInfo:
    """Return what `source` is, asking one encoder after another until one has time.

    Raises:
        Refused: the source cannot be exported, or every encoder is busy.
        ServiceUnreachable: no encoder is live, or none of them answers.
    """
    live = [encoder for encoder in encoders if not encoder.draining]
    random.shuffle(live)  # many callers must not all meet at the first one
    problem: Refused | ServiceUnreachable = ServiceUnreachable(
        "No encoder is live at the moment.", reason="NO_ENCODER"
    )
    for encoder in live:
        connection = Connection(encoder.address, user, timeouts)
        try:
            response = await connection.call(
                EncoderServiceStub(connection.channel).Probe,
                encoder_service_pb2.ProbeRequest(source=source),
                timeout=timeouts.probe,
            )
            return response.info
        except ServiceUnreachable as error:
            problem = error
        except Refused as error:
            if error.reason != "SLOTS_BUSY":
                raise
            problem = error
        finally:
            await connection.close()
    raise problem
