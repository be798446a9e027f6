"""An S3 server (SeaweedFS) on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from services.local.credentials import Credentials
from services.local.files import make_private_folder, write_json
from services.local.part import Part, bare_environment
from services.local.ports import LOOPBACK, PortBook
from services.local.process import Command, NotReady, PartFailed
from services.local.programs import program

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

REGION = "us-east-1"
PROBE_TIMEOUT_S = 2
# The worker inside the server looks for the admin's gRPC port here, whatever the port's flag says.
ADMIN_GRPC_OFFSET = 10_000
# Where the server puts sockets named after its ports, whatever it is told, and leaves them.
SOCKETS = Path("/tmp")  # noqa: S108
# Name of the server's flag for each port that it opens.
PORT_FLAGS = (
    "s3.port",
    "s3.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "master.port",
    "master.port.grpc",
    "admin.port",
)


def server_arguments(*, data: Path, identities: Path, ports: Mapping[str, int]) -> list[str]:
    """Return the arguments of the server.

    Args:
        data: folder of everything it stores.
        identities: file with the access keys.
        ports: a port for each of PORT_FLAGS.
    """
    return [
        # Log lines go to standard error alone, not to files in the temporary folder as well.
        "-logtostderr=true",
        "mini",
        f"-dir={data}",
        f"-ip={LOOPBACK}",
        f"-ip.bind={LOOPBACK}",
        *(f"-{flag}={ports[flag]}" for flag in PORT_FLAGS),
        f"-admin.port.grpc={ports['admin.port'] + ADMIN_GRPC_OFFSET}",
        f"-s3.config={identities}",
        # A bucket that nobody made is a mistake, as with any other S3 server.
        "-s3.autoCreateBucket=false",
        # What is not S3 stays off. 0 turns a port off.
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-admin.ui=false",
        "-webdav=false",
        "-filer.disableDirListing=true",
        # Resuming, one start in ten waits 5 s until its volumes are known; they are found anyway.
        "-master.resumeState=false",
        # It reports to its makers unless told not to.
        "-master.telemetry=false",
        # Nobody reads through this volume server once it stops: no need to wait for them.
        "-volume.preStopSeconds=0",
    ]


def identities(credentials: Credentials) -> dict[str, Any]:
    """Return the access keys in the server's own form."""
    key = {"accessKey": credentials.s3_access_key, "secretKey": credentials.s3_secret_key}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": "videoexport", "credentials": [key], "actions": actions}]}


class S3Part(Part):
    """The S3 server of a local cluster."""

    name = "s3"

    def __init__(
        self, directory: Path, ports: PortBook, logs: Path, credentials: Credentials
    ) -> None:
        self._directory = directory
        self._log = logs / "s3.log"
        self._credentials = credentials
        self._client: S3Client | None = None
        self._ports = {
            flag: ports.port(f"s3.{flag}", companion=ADMIN_GRPC_OFFSET)
            if flag == "admin.port"
            else ports.port(f"s3.{flag}")
            for flag in PORT_FLAGS
        }

    @property
    def endpoint(self) -> str:
        """URL of the S3 interface; path style, any region."""
        return f"http://{LOOPBACK}:{self._ports['s3.port']}"

    def client(self) -> S3Client:
        """Return a client with all rights, always the same one; its calls block.

        The first call reads large files, so it belongs in a thread as the others do.
        """
        if self._client is None:
            self._client = self._make_client()
        return self._client

    def _make_client(self) -> S3Client:
        client: S3Client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self._credentials.s3_access_key,
            aws_secret_access_key=self._credentials.s3_secret_key,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                connect_timeout=PROBE_TIMEOUT_S,
                read_timeout=PROBE_TIMEOUT_S,
                retries={"total_max_attempts": 1},
                # Not by way of a proxy that the environment names.
                proxies={},
            ),
        )
        return client

    @property
    def _identities_path(self) -> Path:
        return self._directory / "identities.json"

    async def prepare(self) -> None:
        """Write the access keys to a private file."""
        make_private_folder(self._directory)
        make_private_folder(self._directory / "data")
        make_private_folder(self._directory / "tmp")
        write_json(self._identities_path, identities(self._credentials))

    def tidy(self) -> None:
        """Remove the server's sockets."""
        for port in (*self._ports.values(), self._ports["admin.port"] + ADMIN_GRPC_OFFSET):
            for socket in SOCKETS.glob(f"seaweedfs-*-{port}.sock"):
                # Not one of another user, who had the port before.
                with contextlib.suppress(PermissionError):
                    socket.unlink(missing_ok=True)

    def command(self) -> Command:
        """Return the server's command line."""
        arguments = server_arguments(
            data=self._directory / "data", identities=self._identities_path, ports=self._ports
        )
        return Command(
            name=self.name,
            argv=[program("weed"), *arguments],
            # HOME and the working folder are where it looks for further configuration.
            env=bare_environment(
                HOME=str(self._directory), TMPDIR=str(self._directory / "tmp"), **_inner_keys()
            ),
            cwd=self._directory,
            log=self._log,
            # S3 and the metadata are closed within 1.2 s. Then its volume server may wait 30 s
            # for idle connections, when nothing is being written any more.
            stop_grace=4,
        )

    async def probe(self) -> None:
        """List the buckets, and ask whether there is a place for what is in them."""
        try:
            await asyncio.to_thread(lambda: self.client().list_buckets())
            has_volumes = await asyncio.to_thread(_has_volumes, self._ports["master.port"])
        except (BotoCoreError, ClientError) as error:
            raise NotReady(f"cannot list the buckets: {error}") from error
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise NotReady(f"its master does not answer: {error}") from error
        if not has_volumes:
            raise NotReady("its volume server has not registered")

    async def ensure_bucket(self, bucket: str) -> None:
        """Create a bucket unless it exists.

        Raises:
            PartFailed: it cannot be created.
        """
        try:
            await asyncio.to_thread(self._create_bucket, bucket)
        except (BotoCoreError, ClientError) as error:
            raise PartFailed(f"s3 cannot create the bucket {bucket}: {error}") from error

    def _create_bucket(self, bucket: str) -> None:
        with contextlib.suppress(self.client().exceptions.BucketAlreadyOwnedByYou):
            self.client().create_bucket(Bucket=bucket)


def _inner_keys() -> dict[str, str]:
    """Return new keys for what the server's own parts ask each other over HTTP.

    Without them, whoever can reach the ports of its filer and its volume server reads and
    writes objects with no access key.
    """
    parts = ("SIGNING", "FILER_SIGNING")
    return {
        f"WEED_JWT_{part}_{key}": secrets.token_urlsafe(24)
        for part in parts
        for key in ("KEY", "READ_KEY")
    }


def _has_volumes(master_port: int) -> bool:
    """Whether the volume server has registered.

    Until then buckets are listed, but no object can be read or written.
    """
    connection = http.client.HTTPConnection(LOOPBACK, master_port, timeout=PROBE_TIMEOUT_S)
    with contextlib.closing(connection):
        connection.request("GET", "/dir/status")
        status = json.loads(connection.getresponse().read())
    return bool(status["Topology"]["Max"])
