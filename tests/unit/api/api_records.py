"""Records of exports as the store returns them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration

from services.api.states import ExportState
from services.api.store.records import ExportRecord
from videoexport.v1 import export_pb2 as pb

EXPORT = "exp_" + "e" * 32
CREATED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)

PLAN = pb.Plan(
    frame_rate=pb.Rational(numerator=25, denominator=1),
    frame_count=500,
    duration=Duration(seconds=20),
    width=1280,
    height=720,
    resolution=pb.RESOLUTION_720P,
    quality=pb.QUALITY_MEDIUM,
    estimated_processing_time=Duration(seconds=40),
)


def record(**changes: Any) -> ExportRecord:
    """Return an export that waits, but for what is changed."""
    values: dict[str, Any] = {
        "id": EXPORT,
        "user_id": "anna",
        "state": ExportState.QUEUED,
        "phase": "WAITING",
        "progress": 0.0,
        "priority": 0,
        "source": pb.Source(video_id="vid_" + "0" * 32),
        "source_etag": "etag",
        "source_size_bytes": 1000,
        "segments": (),
        "settings": pb.ExportSettings(),
        "plan": None,
        "output": None,
        "output_run_id": None,
        "frames_to_encode": 500,
        "frames_encoded": 0,
        "replans": 0,
        "generation": 0,
        "error": None,
        "warnings": (),
        "created_at": CREATED,
        "started_at": None,
        "ended_at": None,
        "expires_at": None,
        "updated_at": CREATED,
    }
    return ExportRecord(**{**values, **changes})
