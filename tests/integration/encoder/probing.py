"""A probe of given bytes, over real HTTP and through the gateway."""

from __future__ import annotations

from services.encoder.inspection.probe import probe
from services.encoder.sources.gateway import SourceGateway
from tests.media.object_server import ObjectServer
from videoexport.v1 import export_pb2 as pb


async def probe_bytes(content: bytes, timeout: float = 30.0) -> pb.SourceInfo:
    """Return what is found out about a source with this content."""
    async with (
        ObjectServer.serving(content) as server,
        SourceGateway() as gateway,
        gateway.expose(server.source()) as handle,
    ):
        size = len(content)
        return await probe(handle.url, size_bytes=size, etag=server.etag, timeout=timeout)
