"""What the client refuses before anybody is called, because the service would misread it."""

from __future__ import annotations

import pytest

from videoexport.client import AsyncClient

VIDEO_ID = "vid_" + "0f" * 16


async def test_empty_request_id_is_refused() -> None:
    async with AsyncClient(user="ann") as client:
        with pytest.raises(ValueError, match="the request id is empty"):
            await client.create_export(VIDEO_ID, request_id="")


async def test_empty_video_id_is_not_taken_for_every_video() -> None:
    async with AsyncClient(user="ann") as client:
        with pytest.raises(ValueError, match="the video id is empty"):
            await anext(client.list(video_id=""))
