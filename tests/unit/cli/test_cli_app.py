"""Exit status and words of whatever ends before a service is needed."""

from __future__ import annotations

import errno
import getpass
import os
import subprocess
import sysconfig
import time
from pathlib import Path

import click
import pytest

from videoexport.cli.app import run
from videoexport.cli.group import cli
from videoexport.client import (
    ExportFailed,
    LocalFileFailed,
    Refused,
    ServiceUnreachable,
    TransferFailed,
)
from videoexport.v1 import export_pb2

EXPORT_ID = "exp_" + "0a" * 16
# Nothing listens on port 1, the tcpmux of old.
NOBODY = "127.0.0.1:1"

COMMANDS = [
    "upload",
    "probe",
    "export",
    "plan",
    "get",
    "watch",
    "list",
    "cancel",
    "retry",
    "delete",
    "encoders",
]


def start(arguments: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start the installed program."""
    return subprocess.Popen(
        [Path(sysconfig.get_path("scripts")) / "videoexport", *arguments],
        env=os.environ | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No address or user from outside, and a file to name."""
    monkeypatch.delenv("VIDEOEXPORT_ADDRESS", raising=False)
    monkeypatch.delenv("VIDEOEXPORT_USER", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("talk.mp4").write_bytes(b"not a video")


def test_commands_are_those_of_the_contract() -> None:
    assert sorted(cli.commands) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_has_examples(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"  videoexport {command}" in shown.partition("Examples:")[2]
    for option in ("--address", "--user", "--json"):
        assert option in shown


def test_help_lists_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    shown = capsys.readouterr().out.partition("Exit status:")[2]
    statuses = [line.split()[0] for line in shown.splitlines() if line.strip()]
    assert statuses == [*"012345", "130"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bogus"], "bogus"),
        (["get"], "ID"),
        (["get", EXPORT_ID, "more"], "more"),
        (["list", "--state", "lost"], "lost"),
        (["list", "--limit", "0"], "--limit"),
        (["upload", "nosuch.mp4"], "There is no file 'nosuch.mp4'."),
        (["upload", ""], "There is no file ''."),
        (["export", ""], "'' is neither a file here"),
        (["upload", "."], ". is not a regular file."),
        (["upload", "/dev/null"], "/dev/null is not a regular file."),
        (["export", "/dev/null"], "/dev/null is not a regular file."),
        (["probe", "nosuch.mp4"], "nosuch.mp4"),
        (["probe", "s3://bucket"], "s3://bucket"),
        (["delete"], "ID"),
        # An empty text would be taken for none.
        (["export", "talk.mp4", "--request-id", ""], "'--request-id': it is empty"),
        (["list", "--video", ""], "'--video': it is empty"),
        (["list", "--user", ""], "'--user': it is empty"),
        (["list", "--address", ""], "'--address': it is empty"),
        (["get", "exp_\udcff"], "exp_\\udcff"),
        (["export", "talk.mp4", "--segment", "1-nan"], "'1-nan'"),
        (["export", "talk.mp4", "--segment", "1-2", "--segment", "-1-2"], "'-1-2'"),
        (["export", "talk.mp4", "--segment", "garbage"], "'garbage'"),
        (["export", "talk.mp4", "--resolution", "481p"], "481p"),
        (["export", "talk.mp4", "--quality", "best"], "best"),
        (["export", "talk.mp4", "--encoder", "abacus"], "abacus"),
        (["export", "talk.mp4", "--frame-rate", "fast"], "fast"),
        (["export", "talk.mp4", "--audio-stream", "-1"], "--audio-stream"),
        (["export", "talk.mp4", "--audio-stream", "2147483648"], "2147483648"),
        (["export", "talk.mp4", "--loudness", "loud"], "loud"),
        (["export", "talk.mp4", "--priority", "2147483648"], "2147483648"),
        (["export", "talk.mp4", "--output", "nosuch/cut.mp4"], "nosuch"),
        (["export", "talk.mp4", "--output", "talk.mp4", "--force"], "is the source"),
        (["export", "talk.mp4", "--output", "cut.mp4", "--no-wait"], "--no-wait"),
        (["plan", "talk.mp4", "--segment", "1:60-2:00"], "'1:60-2:00'"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_status_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # An address that nobody answers at: had a call been made, the status would be 5.
    assert run(["--address", NOBODY, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("videoexport: ")
    assert err.count("\n") == 1
    assert words in err


def test_no_arguments_show_the_help_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Usage: videoexport" in capsys.readouterr().err


def test_unreachable_service_is_one_sentence_and_status_5_soon() -> None:
    nowhere = {"VIDEOEXPORT_ADDRESS": "127.0.0.1:2"}
    began = time.monotonic()
    # Side by side, because each waits 5 seconds for the service to come back.
    running = [
        start(["--address", NOBODY, "get", EXPORT_ID], nowhere),
        start(["--address", "127.0.0.1:2", "list", "--address", NOBODY, "--json"]),
        start(["encoders"], {"VIDEOEXPORT_ADDRESS": NOBODY}),
        start(["export", "talk.mp4", "--address", NOBODY]),
    ]
    for process in running:
        out, err = process.communicate(timeout=30)
        assert process.returncode == 5
        assert out == ""
        assert err == f"videoexport: The service at {NOBODY} cannot be reached.\n"
    # 5 seconds and four starts of the program, which take long on a busy machine.
    assert time.monotonic() - began < 20


def test_unknown_login_name_asks_for_a_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr(getpass, "getuser", unknown)
    assert run(["list", "--address", NOBODY]) == 2
    assert "--user" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("a mistake"), 1),
        (ValueError("a mistake"), 1),
        (OSError(errno.ENOSPC, "No space left on device", "cut.mp4"), 2),
        (LocalFileFailed("cut.mp4 cannot be written."), 2),
        (Refused("INVALID_REQUEST", "No."), 3),
        (ExportFailed(export_pb2.Export(id=EXPORT_ID)), 4),
        (TransferFailed("The download broke off."), 5),
        (ServiceUnreachable("Nobody is there."), 5),
        (KeyboardInterrupt(), 130),
    ],
)
def test_every_error_has_its_status(
    error: BaseException,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setitem(cli.commands, "fail", click.Command("fail", callback=fail))
    assert run(["fail"]) == status
    said = capsys.readouterr().err.strip()
    assert said.startswith("videoexport: ")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", ["müller", "ann\n", "a\nb", "a b", ".."])
def test_user_name_that_no_service_takes_is_a_wrong_argument(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["list", "--address", NOBODY, "--user", name]) == 2
    monkeypatch.setenv("VIDEOEXPORT_USER", name)
    assert run(["list", "--address", NOBODY]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == second
    assert first.startswith(f"videoexport: The user {name!r} is not a user name: ")


def test_empty_user_variable_counts_as_unset(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VIDEOEXPORT_USER", "")
    monkeypatch.setattr(getpass, "getuser", lambda: "müller")
    assert run(["list", "--address", NOBODY]) == 2
    assert "your login name 'müller'" in capsys.readouterr().err


def test_login_name_that_no_service_takes_asks_for_a_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "müller")
    assert run(["list", "--address", NOBODY]) == 2
    said = capsys.readouterr().err
    assert said.startswith("videoexport: Name a user by --user, because your login name 'müller' ")


def test_entry_point_exits_with_the_status() -> None:
    process = start(["export", "nosuch.mp4"])
    out, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert out == ""
    assert err.startswith("videoexport: ")
    assert err.count("\n") == 1


def test_help_is_shown_where_not_every_character_can_be() -> None:
    process = start(["get", "--help"], {"PYTHONIOENCODING": "latin-1"})
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert "  videoexport get exp_0123? --json\n" in out
