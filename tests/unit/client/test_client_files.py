"""Files that cannot be sent are refused before anybody is called."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from videoexport.client import AsyncClient, LocalFileFailed

# Nothing listens on port 1, the tcpmux of old.
NOBODY = "127.0.0.1:1"


async def test_upload_of_a_file_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "talk\udcff.mp4"
    path.write_bytes(b"a video")
    async with AsyncClient(NOBODY, user="ann", storage_address=NOBODY) as client:
        with pytest.raises(LocalFileFailed, match=r"'talk\\udcff\.mp4' is not a name in UTF-8"):
            await client.upload(path)


async def test_upload_of_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    async with AsyncClient(NOBODY, user="ann", storage_address=NOBODY) as client:
        for path in (pipe, tmp_path, Path(os.devnull)):
            with pytest.raises(LocalFileFailed, match=rf"^{path.name} is not a regular file\.$"):
                await client.upload(path)
