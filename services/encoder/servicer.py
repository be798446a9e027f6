"""EncoderService on the wire: convert, call one use case, convert."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from grpc.aio import ServicerContext

from services.common.caller import user_of
from services.common.checks import positive_seconds
from services.encoder.board import TaskBoard
from services.encoder.description import EncoderDescription
from services.encoder.direct import DirectCalls
from videoexport.v1 import encoder_service_pb2 as pb
from videoexport.v1.encoder_service_pb2_grpc import EncoderServiceServicer

Context = ServicerContext[Any, Any]

WATCH_INTERVAL = 0.5


class EncoderServicer(EncoderServiceServicer):
    """Answers callers; see protos/videoexport/v1/encoder_service.proto for the contract."""

    def __init__(
        self,
        board: TaskBoard,
        description: EncoderDescription,
        direct: DirectCalls,
        closing: asyncio.Event,
    ) -> None:
        self._board = board
        self._description = description
        self._direct = direct
        self._closing = closing

    async def Probe(self, request: pb.ProbeRequest, context: Context) -> pb.ProbeResponse:
        info = await self._direct.probe(user_of(context), request.source)
        return pb.ProbeResponse(info=info)

    async def Encode(
        self, request: pb.EncodeRequest, context: Context
    ) -> AsyncIterator[pb.EncodeResponse]:
        async for response in self._direct.encode(user_of(context), request):
            yield response

    async def WatchTasks(
        self, request: pb.WatchTasksRequest, context: Context
    ) -> AsyncIterator[pb.WatchTasksResponse]:
        while not self._closing.is_set():
            yield pb.WatchTasksResponse(
                tasks=[run.live for run in self._board.running()], draining=self._board.draining
            )
            await asyncio.sleep(WATCH_INTERVAL)

    async def GetEncoder(
        self, request: pb.GetEncoderRequest, context: Context
    ) -> pb.GetEncoderResponse:
        return pb.GetEncoderResponse(encoder=self._description.now())

    async def Drain(self, request: pb.DrainRequest, context: Context) -> pb.DrainResponse:
        self._direct.drain(
            positive_seconds("grace", request.grace) if request.HasField("grace") else None
        )
        return pb.DrainResponse(encoder=self._description.now())
