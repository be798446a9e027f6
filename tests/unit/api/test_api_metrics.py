"""Metrics of exports and queues, as a scrape would see them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from api_records import PLAN, record
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import CollectorRegistry

from services.api.metrics import ApiMetrics
from services.api.states import TaskState
from services.api.store.housekeeping import QueueDepth
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def metrics(registry: CollectorRegistry) -> ApiMetrics:
    return ApiMetrics(registry)


def test_accepted_exports_are_counted_by_what_was_asked(
    metrics: ApiMetrics, registry: CollectorRegistry
) -> None:
    metrics.created(record(plan=PLAN))
    metrics.created(record(plan=PLAN))
    metrics.created(record(settings=pb.ExportSettings(quality=pb.QUALITY_HIGH)))
    name = "videoexport_exports_accepted_total"
    planned = {"quality": "medium", "resolution": "720p"}
    unplanned = {"quality": "high", "resolution": "unspecified"}
    assert registry.get_sample_value(name, planned) == 2
    assert registry.get_sample_value(name, unplanned) == 1


def ended(state: pb.ExportState.ValueType, *warnings: pb.ExportWarning) -> task_pb2.ExportEnded:
    return task_pb2.ExportEnded(
        state=state,
        create_time=Timestamp(seconds=100),
        end_time=Timestamp(seconds=107),
        resolution=pb.RESOLUTION_720P,
        quality=pb.QUALITY_MEDIUM,
        warnings=warnings,
    )


def test_ended_exports_are_counted_and_timed_by_state(
    metrics: ApiMetrics, registry: CollectorRegistry
) -> None:
    metrics.ended(ended(pb.EXPORT_STATE_COMPLETED))
    metrics.ended(ended(pb.EXPORT_STATE_EXPIRED))
    labels = {"state": "COMPLETED", "quality": "medium", "resolution": "720p"}
    assert registry.get_sample_value("videoexport_exports_total", labels) == 1
    by_state = {"state": "COMPLETED"}
    assert registry.get_sample_value("videoexport_export_duration_seconds_sum", by_state) == 7
    assert registry.get_sample_value("videoexport_gpu_fallbacks_total") == 0


def test_fallbacks_are_counted(metrics: ApiMetrics, registry: CollectorRegistry) -> None:
    warning = pb.ExportWarning(code="GPU_FALLBACK", message="…")
    metrics.ended(ended(pb.EXPORT_STATE_COMPLETED, warning))
    metrics.ended(ended(pb.EXPORT_STATE_EXPIRED, warning))
    assert registry.get_sample_value("videoexport_gpu_fallbacks_total") == 1


def test_queues_show_depth_and_age_of_what_waits(
    metrics: ApiMetrics, registry: CollectorRegistry
) -> None:
    now = datetime.now(UTC)
    metrics.queues(
        [
            QueueDepth(Lane.CPU, TaskState.PENDING, 4, now - timedelta(seconds=30)),
            QueueDepth(Lane.CPU, TaskState.DISPATCHED, 2, now - timedelta(seconds=90)),
            QueueDepth(Lane.CPU, TaskState.RUNNING, 1, now - timedelta(hours=5)),
            QueueDepth(Lane.PROBE, TaskState.RUNNING, 3, now - timedelta(seconds=5)),
        ],
        [("QUEUED", 6)],
    )

    def depth(lane: str, state: str) -> float | None:
        return registry.get_sample_value("videoexport_queue_depth", {"lane": lane, "state": state})

    def age(lane: str) -> float | None:
        return registry.get_sample_value("videoexport_queue_oldest_age_seconds", {"lane": lane})

    assert [depth("cpu", state) for state in ("PENDING", "DISPATCHED", "RUNNING")] == [4, 2, 1]
    assert age("cpu") == pytest.approx(90, abs=1)
    assert age("probe") == age("gpu") == 0
    active = "videoexport_exports_active"
    assert registry.get_sample_value(active, {"state": "QUEUED"}) == 6
    assert registry.get_sample_value(active, {"state": "PROCESSING"}) == 0


def test_queue_that_has_emptied_is_shown_empty(
    metrics: ApiMetrics, registry: CollectorRegistry
) -> None:
    waiting = QueueDepth(Lane.GPU, TaskState.PENDING, 4, datetime.now(UTC) - timedelta(seconds=30))
    metrics.queues([waiting], [("QUEUED", 4)])
    metrics.queues([], [])
    labels = {"lane": "gpu", "state": "PENDING"}
    assert registry.get_sample_value("videoexport_queue_depth", labels) == 0
    assert registry.get_sample_value("videoexport_queue_oldest_age_seconds", {"lane": "gpu"}) == 0
    assert registry.get_sample_value("videoexport_exports_active", {"state": "QUEUED"}) == 0
