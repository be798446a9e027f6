"""Command lines and configuration of the servers, as whole lists."""

from __future__ import annotations

from pathlib import Path

from services.local import nats, postgres, s3
from services.local.credentials import Credentials

DATA = Path("/data")


def test_nats_config_is_loopback_with_files():
    config = nats.server_config(
        name="videoexport-local", port=1, monitor_port=2, store=DATA, sync_interval="always"
    )
    assert config == {
        "server_name": "videoexport-local",
        "host": "127.0.0.1",
        "port": 1,
        "http": "127.0.0.1:2",
        "jetstream": {"store_dir": "/data", "sync_interval": "always"},
    }


def test_s3_arguments_name_every_port_and_switch_off_the_rest():
    ports = {flag: number for number, flag in enumerate(s3.PORT_FLAGS, start=1001)}
    assert s3.server_arguments(data=DATA, identities=Path("/keys.json"), ports=ports) == [
        "-logtostderr=true",
        "mini",
        "-dir=/data",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-s3.port=1001",
        "-s3.port.grpc=1002",
        "-filer.port=1003",
        "-filer.port.grpc=1004",
        "-volume.port=1005",
        "-volume.port.grpc=1006",
        "-master.port=1007",
        "-master.port.grpc=1008",
        "-admin.port=1009",
        "-admin.port.grpc=11009",
        "-s3.config=/keys.json",
        "-s3.autoCreateBucket=false",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-admin.ui=false",
        "-webdav=false",
        "-filer.disableDirListing=true",
        "-master.resumeState=false",
        "-master.telemetry=false",
        "-volume.preStopSeconds=0",
    ]


def test_s3_identities_hold_the_key():
    credentials = Credentials("access", "secret", "password")
    (identity,) = s3.identities(credentials)["identities"]
    assert identity["credentials"] == [{"accessKey": "access", "secretKey": "secret"}]


def test_initdb_arguments_take_the_password_from_a_file():
    assert postgres.initdb_arguments(data=DATA, password_file=Path("/password")) == [
        "--pgdata=/data",
        "--username=videoexport",
        "--pwfile=/password",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-instructions",
    ]


def test_postgres_arguments_are_safe_unless_told_otherwise():
    settings = [
        "listen_addresses=127.0.0.1",
        "port=5",
        "unix_socket_directories=",
        "timezone=UTC",
        "log_timezone=UTC",
        "wal_level=minimal",
        "max_wal_senders=0",
        "jit=off",
    ]
    safe = ["-D", "/data", *(word for setting in settings for word in ("-c", setting))]
    assert postgres.server_arguments(data=DATA, port=5, fsync=True) == safe
    assert postgres.server_arguments(data=DATA, port=5, fsync=False) == [
        *safe,
        *("-c", "fsync=off", "-c", "full_page_writes=off"),
    ]
