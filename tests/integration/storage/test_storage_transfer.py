from __future__ import annotations

import pytest

from videoexport.channel import call_metadata
from videoexport.transfer import download, upload_file
from videoexport.v1 import storage_service_pb2 as pb

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_upload_and_download_round_trip(storage, http, file, tmp_path):
    path = file(11 * 1024 * 1024 + 17)
    seen = []
    stat = await upload_file(
        storage.stub,
        http,
        pb.CreateUploadRequest(source=pb.SourceUpload(file_name="Föö bar.mov")),
        path,
        metadata=call_metadata("ann"),
        on_progress=seen.append,
    )
    print(stat)
    assert seen == sorted(seen) and seen[-1] == path.stat().st_size
    signed = await storage.stub.SignDownload(
        pb.SignDownloadRequest(object=stat.object, file_name="Föö.mov"),
        metadata=call_metadata("ann"),
    )
    seen = []
    await download(
        http,
        signed.url,
        tmp_path / "out",
        expected_size=stat.size_bytes,
        expected_sha256=stat.sha256,
        on_progress=seen.append,
    )
    assert (tmp_path / "out").read_bytes() == path.read_bytes()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
