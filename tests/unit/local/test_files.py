"""Ports, passwords and private files of a data directory."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest

from services.local import ports
from services.local.credentials import Credentials
from services.local.files import read_json, write_json
from services.local.ports import FIRST_PORT, LAST_PORT, LOOPBACK, NoFreePort, PortBook


def listener(port: int) -> socket.socket:
    server = socket.socket()
    server.bind((LOOPBACK, port))
    server.listen()
    return server


def test_ports_lie_below_the_ephemeral_ones(tmp_path):
    book = PortBook(tmp_path / "ports.json")
    assert all(FIRST_PORT <= book.port(f"part-{number}") <= LAST_PORT for number in range(20))


def test_ports_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(ports, "LAST_PORT", FIRST_PORT + 40)
    book = PortBook(tmp_path / "ports.json")
    assert len({book.port(f"part-{number}") for number in range(20)}) == 20


def test_no_free_port_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(ports, "LAST_PORT", FIRST_PORT)
    book = PortBook(tmp_path / "ports.json")
    with listener(book.port("first")), pytest.raises(NoFreePort, match="no free port for second"):
        book.port("second")


def test_port_stays_the_same_next_time(tmp_path):
    path = tmp_path / "ports.json"
    first = PortBook(path).port("s3")
    again = PortBook(path)
    others = {again.port(f"new-{number}") for number in range(20)}
    assert again.port("s3") == first
    assert again.port("s3") == first
    assert first not in others


def test_preferred_port_is_taken_when_it_is_free(tmp_path):
    path = tmp_path / "ports.json"
    with listener(0) as taken:
        preferred = taken.getsockname()[1]
        other = PortBook(path).port("api", preferred=preferred)
    assert FIRST_PORT <= other <= LAST_PORT
    assert PortBook(path).port("api", preferred=preferred) == preferred
    assert PortBook(path).port("api") == preferred


def test_port_taken_meanwhile_is_replaced(tmp_path):
    path = tmp_path / "ports.json"
    first = PortBook(path).port("s3")
    with listener(first):
        second = PortBook(path).port("s3")
    assert second != first
    assert PortBook(path).port("s3") == second


def test_companion_port_is_free_and_given_to_nobody_else(tmp_path):
    path = tmp_path / "ports.json"
    first = PortBook(path).port("admin", companion=10_000)
    with listener(first + 10_000):
        assert PortBook(path).port("admin", companion=10_000) != first


def test_credentials_are_made_once_and_private(tmp_path):
    path = tmp_path / "secrets.json"
    made = Credentials.load(path)
    assert Credentials.load(path) == made
    assert Credentials.load(tmp_path / "other.json") != made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(made.s3_secret_key) >= 40
    assert len(made.postgres_password) >= 32


def test_credentials_do_not_show_when_printed(tmp_path):
    made = Credentials.load(tmp_path / "secrets.json")
    for secret in vars(made).values():
        assert secret not in repr(made)


def test_missing_credential_is_added_and_the_others_kept(tmp_path):
    path = tmp_path / "secrets.json"
    made = Credentials.load(path)
    kept = read_json(path)
    del kept["postgres_password"]
    write_json(path, kept)
    later = Credentials.load(path)
    assert later.s3_secret_key == made.s3_secret_key
    assert later.postgres_password != made.postgres_password
    assert Credentials.load(path) == later


def test_json_file_is_replaced_whole_and_private(tmp_path):
    path = tmp_path / "value.json"
    path.write_text("old")
    path.chmod(0o644)
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [None, "", "{", "[1]"])
def test_unreadable_json_counts_as_nothing(tmp_path: Path, content: str | None):
    path = tmp_path / "value.json"
    if content is not None:
        path.write_text(content)
    assert read_json(path) == {}
