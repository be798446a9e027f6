"""What the cluster tells its services, and when it restarts a part."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from pathlib import Path

import pytest

from services.local.__main__ import parser
from services.local.services import ServicePart
from services.local.supervisor import RESTARTS_PER_WINDOW, _restart_delay


def encoder(**options: object) -> ServicePart:
    arguments = {
        "port": 16001,
        "metrics_port": 16002,
        "settings": {"id": "encoder-1", "nats_url": "nats://secret@127.0.0.1:1"},
        "extra_env": {},
        "logs": Path("/data/logs"),
        "temporary": Path("/data/tmp/encoder-1"),
    }
    return ServicePart("encoder-1", "encoder", **(arguments | options))


def test_service_is_told_by_environment_alone(monkeypatch):
    for name in ("VIDEOEXPORT_ENCODER_TYPO", "VIDEOEXPORT_ADDRESS", "AWS_PROFILE"):
        monkeypatch.setenv(name, "from the shell")
    command = encoder().command()
    assert command.argv[1:] == ["-m", "services.encoder"]
    told = {name: value for name, value in command.env.items() if "VIDEO" in name or "AWS" in name}
    assert told == {
        "VIDEOEXPORT_ENCODER_LISTEN_HOST": "127.0.0.1",
        "VIDEOEXPORT_ENCODER_LISTEN_PORT": "16001",
        "VIDEOEXPORT_ENCODER_METRICS_PORT": "16002",
        "VIDEOEXPORT_ENCODER_DRAIN_SECONDS": "10",
        "VIDEOEXPORT_ENCODER_ID": "encoder-1",
        "VIDEOEXPORT_ENCODER_NATS_URL": "nats://secret@127.0.0.1:1",
    }
    assert command.env["GRPC_ENABLE_FORK_SUPPORT"] == "0"
    assert command.env["TMPDIR"] == "/data/tmp/encoder-1"
    assert "secret" not in repr(command)


def test_extra_environment_wins():
    part = encoder(extra_env={"VIDEOEXPORT_ENCODER_ID": "other", "FURTHER": "1"})
    assert part.command().env["VIDEOEXPORT_ENCODER_ID"] == "other"
    assert part.command().env["FURTHER"] == "1"


def test_stop_waits_for_every_drain_that_was_set():
    part = encoder(extra_env={"VIDEOEXPORT_ENCODER_TASK_DRAIN_SECONDS": "30"})
    assert part.command().stop_grace == 10 + 30 + 5


def test_task_runs_the_same_program_with_an_argument():
    part = encoder()
    task = part.task("migrate")
    assert task.argv == [*part.command().argv, "migrate"]
    assert task.name == "encoder-1 migrate"


def test_restart_waits_a_second_at_most_five_times_a_minute():
    restarts: deque[float] = deque(maxlen=RESTARTS_PER_WINDOW)
    now, times = 1000.0, []
    for _ in range(12):
        now += _restart_delay(restarts, now)
        restarts.append(now)
        times.append(now)
    assert [later - earlier for earlier, later in pairwise(times[:5])] == [1] * 4
    for sixth_before, time in zip(times, times[5:], strict=False):
        assert time - sixth_before >= 60


def test_restart_is_quick_again_after_a_quiet_time():
    restarts = deque([1.0, 2.0, 3.0, 4.0, 5.0], maxlen=RESTARTS_PER_WINDOW)
    assert _restart_delay(restarts, 1000.0) == 1


def test_arguments_have_the_documented_defaults():
    arguments = parser().parse_args(["up"])
    assert (arguments.encoders, arguments.data, arguments.encoder_threads) == (
        1,
        Path(".local"),
        None,
    )


@pytest.mark.parametrize("words", [[], ["up", "--encoders", "0"], ["up", "--encoder-threads", "x"]])
def test_wrong_arguments_are_refused_with_status_2(words, capsys):
    with pytest.raises(SystemExit) as exit_:
        parser().parse_args(words)
    assert exit_.value.code == 2
    assert "error:" in capsys.readouterr().err
