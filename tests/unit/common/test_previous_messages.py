"""What the version before has sent is read by this one, field for field."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from google.protobuf import json_format, symbol_database
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from services.common.subjects import Lane
from videoexport.v1 import (  # noqa: F401 — known by their names below
    encoder_service_pb2,
    export_service_pb2,
    storage_service_pb2,
    task_pb2,
)

PREVIOUS = Path(__file__).resolve().parents[2] / "fixtures/previous/messages"
NAMES = sorted(path.name.removesuffix(".binpb") for path in PREVIOUS.glob("*.binpb"))


def read(name: str) -> Message:
    """Return a message of the version before, as this one reads it."""
    kind = symbol_database.Default().GetSymbol(f"videoexport.v1.{name.partition('.')[0]}")
    message: Message = kind.FromString((PREVIOUS / f"{name}.binpb").read_bytes())
    return message


@pytest.mark.parametrize("name", NAMES)
def test_message_of_the_version_before_says_the_same_to_this_one(name: str) -> None:
    message = read(name)
    assert len(UnknownFieldSet(message)) == 0
    said = json.loads((PREVIOUS / f"{name}.json").read_text())
    assert json_format.MessageToDict(message, preserving_proto_field_name=True) == said


def test_every_message_between_services_is_there() -> None:
    kinds = {name.partition(".")[0] for name in NAMES}
    on_nats = set(task_pb2.DESCRIPTOR.message_types_by_name) & kinds
    assert on_nats >= {
        *("Task", "TaskEvent", "TaskProgress", "EncoderHeartbeat"),
        *("CancelTasks", "ExportChanged", "ExportEnded"),
    }
    for work in ("probe", "whole", "video.0", "audio", "assemble", "copy"):
        assert f"Task.{work}" in NAMES
    for kind in ("started", "failed", "released"):
        assert f"TaskEvent.{kind}" in NAMES
    for result in ("info", "output", "part"):
        assert f"TaskEvent.succeeded.{result}" in NAMES
    for method in ("CreateUpload", "CompleteUpload", "AbortUpload", "StatObjects", "SignDownload"):
        assert {f"{method}Request", f"{method}Response"} <= kinds
    assert {"CopyObjectRequest", "DeleteObjectsRequest", "ProbeRequest"} <= kinds


def test_lanes_of_the_version_before_are_there() -> None:
    # They are names of consumers, and of a column.
    assert {"probe", "cpu", "gpu", "mux"} <= set(Lane)
