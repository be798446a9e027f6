"""The service as a process: its settings, its log, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest
from storage_rig import SERVING, Server, Service

from services.local.ports import LOOPBACK
from services.storage.settings import StorageSettings
from videoexport.channel import open_channel

pytestmark = pytest.mark.asyncio(loop_scope="session")

PREFIX = "VIDEOEXPORT_STORAGE_"


def environment(settings: StorageSettings, **changes: str) -> dict[str, str]:
    values = {
        "LISTEN_PORT": str(settings.listen_port),
        "METRICS_PORT": str(settings.metrics_port),
        "S3_ENDPOINT": settings.s3_endpoint,
        "S3_ACCESS_KEY": settings.s3_access_key,
        "S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
    }
    own = {PREFIX + name: value for name, value in (values | changes).items()}
    return {"PATH": os.environ["PATH"]} | own


async def start(env: dict[str, str], *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.storage", *arguments),
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_process_serves_until_sigterm_and_logs_no_secret(s3: Server) -> None:
    settings = s3.settings("process")
    process = await start(environment(settings))
    channel = open_channel(f"{LOOPBACK}:{settings.listen_port}")
    try:
        await Service(settings, channel).until(SERVING)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            out, log = await process.communicate()
    finally:
        await channel.close()
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    assert out == b""
    assert b'"event": "serving"' in log
    assert b'"event": "stopped"' in log
    assert settings.s3_secret_key.get_secret_value().encode() not in log


async def test_check_config_shows_settings_without_secrets(s3: Server) -> None:
    settings = s3.settings("process")
    process = await start(environment(settings), "--check-config")
    out, _ = await process.communicate()
    assert process.returncode == 0
    assert f"{PREFIX}S3_ENDPOINT={settings.s3_endpoint}".encode() in out
    assert settings.s3_secret_key.get_secret_value().encode() not in out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"BUKET": "x"}, b"VIDEOEXPORT_STORAGE_BUKET"),
        ({"PART_SIZE_BYTES": "1"}, b"VIDEOEXPORT_STORAGE_PART_SIZE_BYTES"),
        ({"SOURCE_BUCKETS": '["videoexport"]'}, b"own bucket"),
    ],
)
async def test_bad_settings_end_with_a_sentence(
    s3: Server, changes: dict[str, str], said: bytes
) -> None:
    process = await start(environment(s3.settings("process"), **changes))
    _, log = await process.communicate()
    assert process.returncode == 2
    assert said in log
    assert b"Traceback" not in log
