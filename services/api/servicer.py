"""ExportService on the wire: convert, call one use case, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from grpc.aio import ServicerContext

from services.api.encoders import LiveEncoders
from services.api.exports import Exports
from services.api.requests import check_export_id
from services.api.settings import ApiSettings
from services.api.watch import Watches
from services.common.caller import user_of
from services.common.planner import MAX_SEGMENTS
from services.common.version import VERSION
from videoexport.v1 import export_service_pb2 as pb
from videoexport.v1.export_service_pb2_grpc import ExportServiceServicer

Context = ServicerContext[Any, Any]


class ExportServicer(ExportServiceServicer):
    """Answers callers; see protos/videoexport/v1/export_service.proto for the contract."""

    def __init__(
        self, settings: ApiSettings, exports: Exports, watches: Watches, encoders: LiveEncoders
    ) -> None:
        self._settings = settings
        self._exports = exports
        self._watches = watches
        self._encoders = encoders

    async def CreateExport(
        self, request: pb.CreateExportRequest, context: Context
    ) -> pb.CreateExportResponse:
        export, plan = await self._exports.create(request, user_of(context))
        return pb.CreateExportResponse(export=export, plan=plan)

    async def GetExport(
        self, request: pb.GetExportRequest, context: Context
    ) -> pb.GetExportResponse:
        export = await self._exports.get(
            request.export_id, user_of(context), history=request.include_history
        )
        return pb.GetExportResponse(export=export)

    async def ListExports(
        self, request: pb.ListExportsRequest, context: Context
    ) -> pb.ListExportsResponse:
        return await self._exports.page(request, user_of(context))

    async def WatchExport(
        self, request: pb.WatchExportRequest, context: Context
    ) -> AsyncIterator[pb.WatchExportResponse]:
        user_id = user_of(context)
        check_export_id(request.export_id)
        async for export in self._watches.watch(request.export_id, user_id):
            yield pb.WatchExportResponse(export=export)

    async def CancelExport(
        self, request: pb.CancelExportRequest, context: Context
    ) -> pb.CancelExportResponse:
        export = await self._exports.cancel(request.export_id, user_of(context))
        return pb.CancelExportResponse(export=export)

    async def RetryExport(
        self, request: pb.RetryExportRequest, context: Context
    ) -> pb.RetryExportResponse:
        export = await self._exports.retry(request.export_id, user_of(context))
        return pb.RetryExportResponse(export=export)

    async def DeleteExport(
        self, request: pb.DeleteExportRequest, context: Context
    ) -> pb.DeleteExportResponse:
        await self._exports.delete(request.export_id, user_of(context))
        return pb.DeleteExportResponse()

    async def ListEncoders(
        self, request: pb.ListEncodersRequest, context: Context
    ) -> pb.ListEncodersResponse:
        return pb.ListEncodersResponse(encoders=self._encoders.all())

    async def GetServiceInfo(
        self, request: pb.GetServiceInfoRequest, context: Context
    ) -> pb.GetServiceInfoResponse:
        return pb.GetServiceInfoResponse(
            version=VERSION,
            storage_address=self._settings.public_storage_address or self._settings.storage_address,
            max_segments=MAX_SEGMENTS,
            source_buckets=self._settings.source_buckets,
        )
