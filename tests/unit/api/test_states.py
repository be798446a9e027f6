"""Every way from one state to another, against the lists below."""

from __future__ import annotations

import itertools

import pytest

from services.api.states import (
    ACTIVE_EXPORTS,
    ACTIVE_TASKS,
    EXPORT_TRANSITIONS,
    IN_FLIGHT_TASKS,
    TASK_TRANSITIONS,
    TERMINAL_EXPORTS,
    UNDECIDED_TASKS,
    ExportState,
    TaskState,
    export_sources,
    task_sources,
)
from videoexport.v1 import export_pb2 as pb

EXPORT_WAYS = {
    ("QUEUED", "PROCESSING"),
    ("QUEUED", "FAILED"),
    ("QUEUED", "CANCELLED"),
    ("PROCESSING", "COMPLETED"),
    ("PROCESSING", "FAILED"),
    ("PROCESSING", "CANCELLED"),
    ("COMPLETED", "EXPIRED"),
    ("FAILED", "QUEUED"),
}

UNDECIDED = ("PENDING", "DISPATCHED", "RUNNING")

TASK_WAYS = {
    ("PENDING", "DISPATCHED"),
    ("DISPATCHED", "PENDING"),
    ("RUNNING", "PENDING"),
    ("FAILED", "PENDING"),
    ("CANCELLED", "PENDING"),
    ("WAITING", "PENDING"),
    ("WAITING", "CANCELLED"),
    ("FAILED", "WAITING"),
    ("CANCELLED", "WAITING"),
    *itertools.product(UNDECIDED, ("RUNNING", "SUCCEEDED", "FAILED", "CANCELLED")),
}


@pytest.mark.parametrize(("source", "target"), [*itertools.product(ExportState, repeat=2)])
def test_export_transition(source: ExportState, target: ExportState) -> None:
    allowed = (source.value, target.value) in EXPORT_WAYS
    assert (target in EXPORT_TRANSITIONS[source]) is allowed
    assert (source in export_sources(target)) is allowed


@pytest.mark.parametrize(("source", "target"), [*itertools.product(TaskState, repeat=2)])
def test_task_transition(source: TaskState, target: TaskState) -> None:
    allowed = (source.value, target.value) in TASK_WAYS
    assert (target in TASK_TRANSITIONS[source]) is allowed
    assert (source in task_sources(target)) is allowed


def test_every_export_state_of_the_contract_is_a_state_of_ours() -> None:
    names = {name.removeprefix("EXPORT_STATE_") for name in pb.ExportState.keys()}  # noqa: SIM118
    assert names - {"UNSPECIFIED"} == {state.value for state in ExportState}


def test_every_state_has_its_row() -> None:
    assert set(EXPORT_TRANSITIONS) == set(ExportState)
    assert set(TASK_TRANSITIONS) == set(TaskState)


def test_groups_of_states() -> None:
    assert set(ACTIVE_EXPORTS) == {ExportState.QUEUED, ExportState.PROCESSING}
    assert set(TERMINAL_EXPORTS) == set(ExportState) - set(ACTIVE_EXPORTS)
    assert {state.value for state in UNDECIDED_TASKS} == set(UNDECIDED)
    assert set(ACTIVE_TASKS) == {TaskState.WAITING, *UNDECIDED_TASKS}
    assert set(IN_FLIGHT_TASKS) == {TaskState.DISPATCHED, TaskState.RUNNING}


def test_cancelled_and_expired_are_final() -> None:
    assert not EXPORT_TRANSITIONS[ExportState.CANCELLED]
    assert not EXPORT_TRANSITIONS[ExportState.EXPIRED]


def test_every_unfinished_export_can_be_cancelled() -> None:
    assert set(export_sources(ExportState.CANCELLED)) == set(ACTIVE_EXPORTS)
