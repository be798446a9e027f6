"""Metrics of the API service. Every label's values are closed by an enum."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.api.states import TERMINAL_EXPORTS, ExportState, TaskState
from services.api.store.housekeeping import QueueDepth
from services.api.store.records import ExportRecord
from services.common.metrics import from_zero
from services.common.nats import PublishMetrics
from services.common.subjects import Lane
from videoexport.v1 import export_pb2 as pb
from videoexport.v1 import task_pb2

# From a probe of a local file to a film on a slow machine.
EXPORT_SECONDS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)


class ApiMetrics:
    """What operators see of exports and queues."""

    def __init__(self, registry: CollectorRegistry) -> None:
        kind = ("quality", "resolution")
        kinds = (
            [_label(name, "QUALITY_") for name in pb.Quality.keys()],  # noqa: SIM118
            [_label(name, "RESOLUTION_") for name in pb.Resolution.keys()],  # noqa: SIM118
        )
        self._created = Counter(
            "videoexport_exports_accepted_total", "Exports accepted.", kind, registry=registry
        )
        self._ended = from_zero(
            Counter(
                "videoexport_exports_total",
                "Exports that reached a terminal state, by state, quality and resolution.",
                ("state", *kind),
                registry=registry,
            ),
            TERMINAL_EXPORTS,
            *kinds,
        )
        self._frames = from_zero(
            Counter(
                "videoexport_export_frames_total",
                "Frames of completed exports, by origin: encoded for them, or reused.",
                ("origin",),
                registry=registry,
            ),
            ("encoded", "reused"),
        )
        self._seconds = Histogram(
            "videoexport_export_duration_seconds",
            "Time from acceptance to a terminal state.",
            ("state",),
            buckets=EXPORT_SECONDS,
            registry=registry,
        )
        self.active = Gauge(
            "videoexport_exports_active",
            "Unfinished exports, by state.",
            ("state",),
            registry=registry,
        )
        self._depth = Gauge(
            "videoexport_queue_depth",
            "Tasks that are not decided, by lane and state.",
            ("lane", "state"),
            registry=registry,
        )
        self._age = Gauge(
            "videoexport_queue_oldest_age_seconds",
            "Age of the oldest task that no encoder has begun, by lane.",
            ("lane",),
            registry=registry,
        )
        self.slots = Gauge(
            "videoexport_live_slots",
            "Slots of the live encoders, by lane.",
            ("lane",),
            registry=registry,
        )
        self.dispatched = Counter(
            "videoexport_tasks_dispatched_total",
            "Tasks sent to encoders, by lane.",
            ("lane",),
            registry=registry,
        )
        self.publishes = PublishMetrics(registry)
        self.retries = Counter(
            "videoexport_task_retries_total",
            "Failed runs that are tried again, by reason of docs/errors.md.",
            ("reason",),
            registry=registry,
        )
        self.replans = Counter(
            "videoexport_export_replans_total",
            "Exports that were planned again, by the reason of docs/errors.md that led to it.",
            ("reason",),
            registry=registry,
        )
        self.requeued = from_zero(
            Counter(
                "videoexport_tasks_requeued_total",
                "Lost tasks that the reconciler sent again, by lane.",
                ("lane",),
                registry=registry,
            ),
            Lane,
        )
        self.fallbacks = Counter(
            "videoexport_gpu_fallbacks_total",
            "Exports that the CPU made although a GPU was wanted.",
            registry=registry,
        )
        self.deletions = Counter(
            "videoexport_object_deletions_total",
            "Deletions carried out; each object has two, one for late writers.",
            registry=registry,
        )
        self.watchers = Gauge(
            "videoexport_watch_streams", "Open WatchExport streams.", registry=registry
        )

    def created(self, record: ExportRecord) -> None:
        """Count an accepted export."""
        self._created.labels(*_kind(record.plan or record.settings)).inc()

    def completed(self, output: pb.Output) -> None:
        """Count the frames of an export that is completed."""
        reused = output.reused_frame_count
        self._frames.labels("encoded").inc(output.frame_count - reused)
        self._frames.labels("reused").inc(reused)

    def ended(self, end: task_pb2.ExportEnded) -> None:
        """Count an export that reached a terminal state."""
        state = ExportState.of(end.state)
        self._ended.labels(state, *_kind(end)).inc()
        if state is not ExportState.EXPIRED:
            age = end.end_time.ToDatetime() - end.create_time.ToDatetime()
            self._seconds.labels(state).observe(age.total_seconds())
        fell_back = any(warning.code == "GPU_FALLBACK" for warning in end.warnings)
        if fell_back and state is ExportState.COMPLETED:
            self.fallbacks.inc()

    def queues(self, depths: Iterable[QueueDepth], active: Iterable[tuple[str, int]]) -> None:
        """Set the gauges of the queues; what is not mentioned is empty."""
        now = datetime.now(UTC)
        found = {(item.lane, item.state): item for item in depths}
        for lane in Lane:
            ages = [0.0]
            for state in (TaskState.PENDING, TaskState.DISPATCHED, TaskState.RUNNING):
                item = found.get((lane, state))
                self._depth.labels(lane, state).set(item.count if item else 0)
                if item and item.oldest is not None and state is not TaskState.RUNNING:
                    ages.append((now - item.oldest).total_seconds())
            self._age.labels(lane).set(max(ages))
        counts = dict(active)
        for export_state in (ExportState.QUEUED, ExportState.PROCESSING):
            self.active.labels(export_state).set(counts.get(export_state, 0))


def _kind(export: pb.Plan | pb.ExportSettings | task_pb2.ExportEnded) -> tuple[str, str]:
    return (
        _label(pb.Quality.Name(export.quality), "QUALITY_"),
        _label(pb.Resolution.Name(export.resolution), "RESOLUTION_"),
    )


def _label(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()
