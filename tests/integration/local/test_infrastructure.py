"""NATS, S3 and Postgres for real: start, data, restarts, failures, and who may reach them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import http.server
import json
import shutil
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import nats
import psutil
import psycopg
import pytest

from services.local.files import read_json
from services.local.infra import Infrastructure
from services.local.process import NotReady, PartFailed
from services.local.s3 import S3Part
from services.local.supervisor import DirectoryInUse

PARTS = ["nats", "s3", "postgres"]
BUCKET = "kept"
STREAM = "KEPT"
# Holds an infrastructure until it is killed; says when it is up.
HOLDER = """
import asyncio, sys
from pathlib import Path
from services.local.infra import Infrastructure

async def hold():
    async with Infrastructure(Path(sys.argv[1]), fsync=False):
        print("up", flush=True)
        await asyncio.sleep(600)

asyncio.run(hold())
"""


@pytest.fixture(scope="module")
def messages() -> asyncio.Queue[str]:
    return asyncio.Queue()


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    # Not pytest's folder: its parents are closed to the system user that runs Postgres, and
    # are not the tests' to open.
    path = Path(tempfile.mkdtemp(prefix="videoexport-test-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
async def running(root: Path, messages: asyncio.Queue[str]) -> AsyncIterator[Infrastructure]:
    async with Infrastructure(root / "shared", fsync=False, notify=messages.put_nowait) as started:
        await write(started)
        while not messages.empty():
            messages.get_nowait()
        yield started


async def write(infrastructure: Infrastructure) -> None:
    """Store something in each server."""
    client = await nats.connect(infrastructure.nats.url)
    await client.jetstream().add_stream(name=STREAM, subjects=["kept"])
    await client.jetstream().publish("kept", b"message")
    await client.close()
    await infrastructure.s3.ensure_bucket(BUCKET)
    put = infrastructure.s3.client().put_object
    await asyncio.to_thread(put, Bucket=BUCKET, Key="a/b", Body=b"object")
    async with await psycopg.AsyncConnection.connect(infrastructure.postgres.url) as connection:
        await connection.execute("CREATE TABLE kept AS SELECT 'row' AS value")


async def read_nats(infrastructure: Infrastructure) -> bytes | None:
    client = await nats.connect(infrastructure.nats.url)
    try:
        return (await client.jetstream().get_msg(STREAM, 1)).data
    finally:
        await client.close()


async def read_s3(infrastructure: Infrastructure) -> bytes:
    client = infrastructure.s3.client()
    answer = await asyncio.to_thread(client.get_object, Bucket=BUCKET, Key="a/b")
    return await asyncio.to_thread(answer["Body"].read)


async def read_postgres(infrastructure: Infrastructure) -> bytes:
    async with await psycopg.AsyncConnection.connect(infrastructure.postgres.url) as connection:
        row = await (await connection.execute("SELECT value FROM kept")).fetchone()
    return row[0].encode()


READERS = {"nats": read_nats, "s3": read_s3, "postgres": read_postgres}
WRITTEN = {"nats": b"message", "s3": b"object", "postgres": b"row"}


def family(pids: dict[str, int]) -> list[psutil.Process]:
    roots = [psutil.Process(pid) for pid in pids.values()]
    return [*roots, *(child for each in roots for child in each.children(recursive=True))]


def listeners(pids: dict[str, int]) -> set[tuple[str, Any]]:
    """Return the names of processes that listen, with the addresses; of those that go on."""
    found = set()
    for process in family(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            sockets = process.net_connections("inet")
            listening = [each for each in sockets if each.status == psutil.CONN_LISTEN]
            found |= {(process.name(), each.laddr) for each in listening}
    return found


def alive(processes: list[psutil.Process], within: float = 0) -> list[psutil.Process]:
    _, left = psutil.wait_procs(processes, timeout=within)
    return [each for each in left if each.status() != psutil.STATUS_ZOMBIE]


async def hold(directory: Path) -> asyncio.subprocess.Process:
    """Start an infrastructure in a process of its own; return when it is up."""
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, str(directory)), stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    assert await asyncio.wait_for(holder.stdout.readline(), 60) == b"up\n"
    return holder


def recorded(directory: Path) -> dict[str, int]:
    children = read_json(directory / "pids.json")["children"]
    return {name: entry["pid"] for name, entry in children.items()}


def sockets(directory: Path) -> list[Path]:
    """Return the sockets that the S3 server of a directory made in the temporary folder."""
    ports = {str(port) for port in read_json(directory / "ports.json").values()}
    found = Path("/tmp").glob("seaweedfs-*.sock")
    return [path for path in found if path.stem.rpartition("-")[2] in ports]


@pytest.mark.parametrize("part", PARTS)
async def test_part_serves(running, part):
    assert await READERS[part](running) == WRITTEN[part]


async def test_proxy_of_the_environment_is_not_asked(running, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    part = S3Part(running.directory / "s3", running.ports, running.logs, running.credentials)
    await part.probe()


@pytest.mark.parametrize(("volumes", "ready"), [(0, False), (7, True)])
async def test_s3_is_ready_once_its_volume_server_has_registered(
    running, monkeypatch, volumes, ready
):
    class Master(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"Topology": {"Max": volumes}}).encode())

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    part = S3Part(running.directory / "s3", running.ports, running.logs, running.credentials)
    with http.server.HTTPServer(("127.0.0.1", 0), Master) as master:
        thread = threading.Thread(target=master.handle_request)
        thread.start()
        monkeypatch.setitem(part._ports, "master.port", master.server_port)
        if ready:
            await part.probe()
        else:
            with pytest.raises(NotReady, match="volume server"):
                await part.probe()
        thread.join()


async def test_everything_listens_on_loopback_only(running):
    listening = {(name, address.ip) for name, address in listeners(running.pids)}
    assert {name for name, _ in listening} >= {"nats-server", "weed", "postgres"}
    assert {address for _, address in listening} == {"127.0.0.1"}


async def test_only_ports_of_the_book_are_opened(running, root):
    book = set(read_json(root / "shared" / "ports.json").values())
    opened = {address.port for _, address in listeners(running.pids)}
    assert len(opened) >= len(PARTS)
    assert opened <= book


async def test_no_secret_is_in_command_lines_or_logs(running):
    words = []
    for process in family(running.pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            words += process.cmdline()
    logs = [log.read_text(errors="replace") for log in running.logs.iterdir()]
    assert len(logs) >= 4
    credentials = running.credentials
    for secret in (credentials.s3_secret_key, credentials.postgres_password):
        assert not [text for text in (*words, *logs) if secret in text]


async def test_files_with_secrets_are_private(running):
    secrets = [running.credentials.s3_secret_key, running.credentials.postgres_password]
    holding = [
        path
        for path in running.directory.rglob("*")
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets)
    ]
    assert {path.name for path in holding} >= {"secrets.json", "identities.json"}
    for path in holding:
        assert not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path


async def test_postgres_refuses_whoever_has_no_password(running, monkeypatch):
    monkeypatch.delenv("PGPASSWORD", raising=False)
    with pytest.raises(psycopg.OperationalError, match="no password supplied"):
        await psycopg.AsyncConnection.connect(running.postgres.public_url)


@pytest.mark.parametrize("part", PARTS)
async def test_killed_part_is_noticed_and_started_again_with_its_data(running, messages, part):
    before = running.pids[part]
    psutil.Process(before).kill()
    async with asyncio.timeout(30):
        assert await messages.get() == f"{part} was ended by SIGKILL\nstarting {part} again in 1 s"
        assert await messages.get() == f"{part} runs again"
    assert running.pids[part] != before
    assert await READERS[part](running) == WRITTEN[part]


@pytest.mark.parametrize("part", PARTS)
async def test_stopped_part_stays_away_until_it_is_started(running, messages, part):
    await running.stop(part)
    assert part not in running.pids
    assert part not in recorded(running.directory)
    await running.start(part)
    assert recorded(running.directory)[part] == running.pids[part]
    assert await READERS[part](running) == WRITTEN[part]
    assert messages.empty()


async def test_second_one_on_the_same_directory_is_refused(running):
    with pytest.raises(DirectoryInUse, match=rf"{running.directory}.*process \d+"):
        async with Infrastructure(running.directory):
            pytest.fail("two on one directory")
    for part in PARTS:
        assert await READERS[part](running) == WRITTEN[part]


async def test_data_ports_and_passwords_are_kept_across_a_stop(root):
    directory = root / "kept"
    async with Infrastructure(directory, fsync=False) as first:
        await write(first)
        urls = (first.nats.url, first.s3.endpoint, first.postgres.url)
        processes = family(first.pids)
        assert sockets(directory) != []
    assert alive(processes) == []
    assert recorded(directory) == {}
    assert sockets(directory) == []
    async with Infrastructure(directory, fsync=False) as second:
        assert (second.nats.url, second.s3.endpoint, second.postgres.url) == urls
        for part in PARTS:
            assert await READERS[part](second) == WRITTEN[part]


async def test_failure_names_the_part_shows_its_log_and_leaves_nothing(root):
    directory = root / "broken"
    (directory / "nats").mkdir(parents=True)
    (directory / "nats" / "jetstream").write_text("in the way")
    infrastructure = Infrastructure(directory, fsync=False)
    with pytest.raises(PartFailed) as failure:
        async with infrastructure:
            pytest.fail("started without JetStream")
    text = str(failure.value)
    assert text.startswith("nats exited with status 1 before it was ready\n")
    assert f"last lines of {directory}/logs/nats.log" in text
    assert "storage directory" in text
    assert infrastructure.pids == {}
    assert recorded(directory) == {}
    (directory / "nats" / "jetstream").unlink()
    async with Infrastructure(directory, fsync=False) as mended:
        assert set(mended.pids) == set(PARTS)


async def test_folder_that_cannot_be_made_is_a_failure_of_its_part(root):
    directory = root / "blocked"
    directory.mkdir()
    (directory / "nats").write_text("in the way")
    with pytest.raises(PartFailed, match=r"^nats cannot be prepared: .*File exists"):
        async with Infrastructure(directory, fsync=False):
            pytest.fail("started without a folder")


async def test_lost_password_is_told_plainly(root):
    directory = root / "lost"
    async with Infrastructure(directory, fsync=False):
        pass
    (directory / "secrets.json").unlink()
    with pytest.raises(PartFailed, match=r"postgres refuses the password of .*secrets\.json"):
        async with Infrastructure(directory, fsync=False):
            pytest.fail("started with another password")


async def test_children_of_a_killed_supervisor_end(root):
    holder = await hold(root / "orphans")
    processes = family(recorded(root / "orphans"))
    assert len(processes) > len(PARTS)
    holder.kill()
    await holder.wait()
    assert await asyncio.to_thread(alive, processes, 20) == []


async def test_next_start_ends_what_a_killed_supervisor_and_reaper_left(root):
    directory = root / "leftovers"
    holder = await hold(directory)
    (reaper,) = [
        each
        for each in psutil.Process(holder.pid).children()
        if "services.local.reaper" in each.cmdline()
    ]
    processes = family(recorded(directory))
    reaper.send_signal(signal.SIGKILL)
    holder.kill()
    await holder.wait()
    assert len(alive(processes, within=0.5)) >= len(PARTS)
    messages: list[str] = []
    async with Infrastructure(directory, fsync=False, notify=messages.append) as second:
        assert set(second.pids) == set(PARTS)
        assert alive(processes) == []
    assert "ended what the last run left behind: nats, s3, postgres" in messages


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_objects_are_not_reached_past_the_access_keys(
    running: Infrastructure, method: str
) -> None:
    def status() -> int:
        port = running.ports.port("s3.filer.port")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with contextlib.closing(connection):
            connection.request(method, f"/buckets/{BUCKET}/a/b", body=b"other")
            return connection.getresponse().status

    assert await asyncio.to_thread(status) == 401
    get = running.s3.client().get_object
    stored = await asyncio.to_thread(get, Bucket=BUCKET, Key="a/b")
    assert stored["Body"].read() == b"object"
