"""Why states change: the list in the code, and its copies for people."""

from __future__ import annotations

import re
from pathlib import Path

from services.api.states import TaskState
from services.api.store.history import Cause
from services.common.errors import Reason
from videoexport.v1 import export_pb2 as pb

ROOT = Path(__file__).resolve().parents[3]


def test_document_lists_every_cause() -> None:
    lines = (ROOT / "docs/history.md").read_text().splitlines()
    listed = [match[1] for line in lines if (match := re.match(r"\| `([A-Z_]+)` \|", line))]
    assert listed == [*Cause]


def test_contract_lists_every_cause() -> None:
    contract = (ROOT / "protos/videoexport/v1/export.proto").read_text()
    comment = contract[contract.index("// Output only. Why; stable.") :].partition("string")[0]
    assert set(re.findall(r"[A-Z]+(?:_[A-Z]+)*(?=,| and|;|, which)", comment)) >= set(Cause)


def test_causes_are_no_failures() -> None:
    assert not set(Cause) & set(Reason)


def test_every_task_state_of_the_contract_is_a_state_of_ours() -> None:
    names = {name.removeprefix("TASK_STATE_") for name in pb.TaskState.keys()}  # noqa: SIM118
    assert names - {"UNSPECIFIED"} == {state.value for state in TaskState}
