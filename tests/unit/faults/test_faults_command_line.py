"""The command line of a campaign: what it takes, what it refuses, and its exit status."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from faults import __main__ as command_line
from faults.__main__ import catalogue, duration, main, orders_of, parser, run
from faults.campaign import Campaign, Orders
from faults.catalogue import FAULTS
from faults.cluster import FaultCluster
from faults.journal import Violation
from faults.report import Result
from services.local.process import PartFailed


def test_times_and_beginnings_of_names_are_taken() -> None:
    assert duration("90s") == 1.5
    assert duration("2h") == 120
    arguments = parser().parse_args(["--soak", "30m"])
    assert orders_of(arguments).minutes == 30
    assert orders_of(arguments).faults == 0
    arguments = parser().parse_args(["--only", "nats", "--faults", "3"])
    assert (orders_of(arguments).only, orders_of(arguments).faults) == (["nats"], 3)
    assert catalogue().count("recovery:") == len(FAULTS)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--only", "meteor"], "no fault is called meteor"),
        (["--only", ""], "no fault is called"),
        (["--exports", "0"], "not at least 1"),
        (["--exports", "-5"], "not at least 1"),
        (["--faults", "-1"], "less than 0"),
        (["--every", "nan"], "no time"),
        (["--every", "-3"], "no time"),
        (["--soak", "0"], "no duration"),
        (["--soak", "30m", "--faults", "9"], "--faults says more"),
        (["--soak", "30m", "--only", "nats"], "--only says more"),
        (["--faults", "0", "--only", "nats"], "leaves nothing"),
        (["--json", "/dev/null/faults.json"], "cannot be written to"),
        (["--json", "/"], "cannot be written to"),
    ],
)
def test_arguments_that_ask_for_nothing_or_for_two_things_are_refused(
    argv: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # What is not refused must not start a cluster here.
    monkeypatch.delattr(command_line, "run")
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    assert words in capsys.readouterr().err


VIOLATION = Violation("every accepted export ends", "exp_1", "gone")


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (Result(seed=1), 0),
        (Result(seed=1, violations=[VIOLATION]), 1),
        (Result(seed=1, interrupted=True), 130),
        (Result(seed=1, interrupted=True, violations=[VIOLATION]), 1),
    ],
)
def test_exit_status_tells_of_violations_first(
    result: Result, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ran(*_: object, **__: object) -> Result:
        return result

    monkeypatch.setattr(command_line, "run", ran)
    assert main(["--seed", "1"]) == status


def test_cluster_that_does_not_start_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def ran(*_: object, **__: object) -> Result:
        raise PartFailed("nats-1 exited with status 1")

    monkeypatch.setattr(command_line, "run", ran)
    assert main([]) == 1
    assert "did not start: nats-1" in capsys.readouterr().err


class Nothing(FaultCluster):
    """A cluster without a process."""

    async def __aenter__(self) -> Nothing:
        (self.cluster.directory / "logs").mkdir(parents=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


Course = Callable[[Campaign], None]


@pytest.fixture
def campaigns(monkeypatch: pytest.MonkeyPatch) -> Callable[[Course], None]:
    """Let campaigns go as they are told to, without a cluster."""
    monkeypatch.setattr(command_line, "FaultCluster", Nothing)
    # The signals of this process are pytest's.
    monkeypatch.setattr(command_line, "stop_on_signal", lambda _: [])

    def go(course: Course) -> None:
        async def ran(campaign: Campaign) -> Result:
            course(campaign)
            campaign.result.interrupted = False
            return campaign.result

        monkeypatch.setattr(Campaign, "run", ran)

    return go


async def test_data_is_kept_unless_all_is_well(
    campaigns: Callable[[Course], None], tmp_path: Path
) -> None:
    async def logs_after(course: Course, *, keep: bool = False) -> bool:
        campaigns(course)
        await run(Orders(1), json=tmp_path / "faults.json", keep=keep, folder=tmp_path)
        return (tmp_path / "cluster" / "logs").exists()

    def violate(campaign: Campaign) -> None:
        campaign.result.violations = [VIOLATION]

    def crash(campaign: Campaign) -> None:
        raise ValueError("a defect of the harness")

    assert not await logs_after(lambda _: None)
    assert await logs_after(lambda _: None, keep=True)
    assert await logs_after(violate)
    with pytest.raises(ValueError, match="a defect"):
        await logs_after(crash)
    assert (tmp_path / "cluster" / "logs").exists()


async def test_interrupted_campaign_shows_and_writes_what_is_known(
    campaigns: Callable[[Course], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(campaign: Campaign) -> None:
        campaign.result.violations = [VIOLATION]
        raise asyncio.CancelledError

    campaigns(interrupt)
    path = tmp_path / "faults.json"
    result = await run(Orders(1), json=path, keep=False, folder=tmp_path)
    assert result.interrupted
    assert "exp_1: gone" in capsys.readouterr().out
    assert json.loads(path.read_text())["violations"][0]["subject"] == "exp_1"


async def test_table_is_seen_although_the_file_cannot_be_written(
    campaigns: Callable[[Course], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    campaigns(lambda _: None)
    with pytest.raises(IsADirectoryError):
        await run(Orders(1), json=tmp_path, keep=False, folder=tmp_path)
    assert "no violation" in capsys.readouterr().out
