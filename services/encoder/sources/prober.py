"""Examining sources through the gateway, for queued tasks and direct calls."""

from __future__ import annotations

from services.encoder.inspection.probe import probe
from services.encoder.metrics import EncoderMetrics
from services.encoder.sources.gateway import SourceGateway, SourceObject
from services.encoder.sources.readable import unless_lost
from services.encoder.storage import StorageClient
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


class SourceProber:
    """Says what a source is."""

    def __init__(
        self,
        gateway: SourceGateway,
        storage: StorageClient,
        metrics: EncoderMetrics,
        timeout: float,
    ) -> None:
        self._gateway = gateway
        self._storage = storage
        self._metrics = metrics
        self._timeout = timeout

    async def probe(self, user_id: str, source: task_pb2.TaskSource) -> pb.SourceInfo:
        """Examine a source at one version.

        Raises:
            MediaError: INVALID_SOURCE, or why it could not be read.
        """
        return await self.examine(self._storage.source_object(user_id, source))

    async def examine(self, source: SourceObject) -> pb.SourceInfo:
        """Examine an object.

        Raises:
            MediaError: INVALID_SOURCE, or why it could not be read.
        """
        async with self._gateway.expose(source) as handle:
            examining = probe(
                handle.url,
                size_bytes=source.size_bytes,
                etag=source.etag,
                timeout=self._timeout,
            )
            try:
                # What S3 said is truer than what the demuxer made of it.
                return await unless_lost(examining, handle)
            finally:
                self._metrics.bytes_read.inc(handle.bytes_read)
