"""The service as a process: its commands, its exit status, its end on a signal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

import grpc
from api_rig import Rig
from api_service import ANNA, Surroundings
from grpc import StatusCode
from grpc.aio import AioRpcError

from services.local.infra import Infrastructure
from videoexport.channel import open_channel
from videoexport.v1 import export_service_pb2 as service
from videoexport.v1.export_service_pb2_grpc import ExportServiceStub


async def api_process(settings: dict[str, str], *arguments: str) -> Process:
    """Start `python -m services.api` with these settings alone."""
    env = {name: value for name, value in os.environ.items() if "VIDEOEXPORT" not in name}
    env |= {f"VIDEOEXPORT_API_{name.upper()}": value for name, value in settings.items()}
    env["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.api", *arguments, env=env, stdout=PIPE, stderr=PIPE
    )


async def finished(process: Process) -> tuple[int, str, str]:
    """Return exit status and output."""
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_wrong_settings_are_one_sentence_and_status_2() -> None:
    status, out, err = await finished(await api_process({"listen_prot": "1"}))
    assert (status, out) == (2, "")
    assert err.startswith("api: unknown settings: VIDEOEXPORT_API_LISTEN_PROT")
    assert err.count("\n") == 1


async def test_migrate_brings_an_empty_database_up_to_date(
    infrastructure: Infrastructure, bare_database: str
) -> None:
    settings = {
        "database_url": bare_database,
        "nats_url": infrastructure.nats.url,
        "storage_address": "127.0.0.1:1",
    }
    status, _, err = await finished(await api_process(settings, "migrate"))
    assert status == 0, err
    rig = Rig(bare_database)
    assert await rig.database.ping() is None
    await rig.close()


async def test_sigterm_ends_the_service_and_its_watches(around: Surroundings, rig: Rig) -> None:
    case = await rig.create()
    ports = around.infrastructure.ports
    address = f"127.0.0.1:{ports.port('api-process')}"
    process = await api_process(
        {
            "database_url": around.database,
            "nats_url": around.infrastructure.nats.url,
            "storage_address": around.storage.address,
            "listen_port": address.rpartition(":")[2],
            "metrics_port": "0",
        }
    )
    async with open_channel(address) as channel:
        request = service.WatchExportRequest(export_id=case.id)
        stream = ExportServiceStub(channel).WatchExport(
            request, metadata=ANNA, wait_for_ready=True, timeout=30
        )
        answer = await stream.read()
        assert isinstance(answer, service.WatchExportResponse)
        process.send_signal(signal.SIGTERM)
        status, _, err = await finished(process)
        assert status == 0, err
        assert await _code_of(stream) is StatusCode.UNAVAILABLE
    assert '"event": "stopped"' in err
    password = around.infrastructure.credentials.postgres_password
    assert password not in err


async def _code_of(stream: grpc.aio.UnaryStreamCall[Any, Any]) -> StatusCode:
    try:
        while await stream.read():
            pass
    except AioRpcError as error:
        return error.code()
    return StatusCode.OK
