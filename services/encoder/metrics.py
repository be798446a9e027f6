"""Metrics of the encoder service. Every label's values are closed by an enum."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.common.errors import Reason
from services.common.metrics import from_zero
from services.common.nats import PublishMetrics
from videoexport.v1 import export_pb2 as pb

# From a probe to a film on a slow machine.
TASK_SECONDS = (0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
# Seconds of output made per second: below 1 the encoder is slower than playback.
SPEEDS = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64)
FRAME_RATES = (5, 10, 25, 50, 100, 200, 400, 800, 1600)


class EncoderMetrics:
    """What operators see of one encoder."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.task_seconds = Histogram(
            "videoexport_task_duration_seconds",
            "Wall time of finished runs, by kind of task and encoder family.",
            ("kind", "family"),
            buckets=TASK_SECONDS,
            registry=registry,
        )
        self.task_failures = from_zero(
            Counter(
                "videoexport_task_failures_total",
                "Failed runs, by kind of task and reason of docs/errors.md.",
                ("kind", "reason"),
                registry=registry,
            ),
            pb.TaskKind.keys(),
            Reason,
        )
        self.speed = Histogram(
            "videoexport_encode_speed_ratio",
            "Seconds of output made per second of encoding, by encoder family.",
            ("family",),
            buckets=SPEEDS,
            registry=registry,
        )
        self.frame_rate = Histogram(
            "videoexport_encode_frames_per_second",
            "Frames encoded per second, by encoder family.",
            ("family",),
            buckets=FRAME_RATES,
            registry=registry,
        )
        self.cpu_seconds = Counter(
            "videoexport_ffmpeg_cpu_seconds_total",
            "CPU time that FFmpeg has used, by encoder family.",
            ("family",),
            registry=registry,
        )
        self.slots = Gauge(
            "videoexport_encoder_slots",
            "Slots of this encoder, by lane.",
            ("lane",),
            registry=registry,
        )
        self.busy = Gauge(
            "videoexport_encoder_slots_busy",
            "Busy slots of this encoder, by lane.",
            ("lane",),
            registry=registry,
        )
        self.fallbacks = Counter(
            "videoexport_encoder_gpu_fallbacks_total",
            "Encodes that failed on the GPU and ran on the CPU instead.",
            registry=registry,
        )
        self.bytes_read = Counter(
            "videoexport_source_read_bytes_total",
            "Bytes of sources read from S3.",
            registry=registry,
        )
        self.bytes_written = Counter(
            "videoexport_output_written_bytes_total",
            "Bytes of outputs written to S3.",
            registry=registry,
        )
        self.scratch_free = Gauge(
            "videoexport_encoder_scratch_free_bytes",
            "Room on the disk of this encoder's scratch folder.",
            registry=registry,
        )
        self.scratch_full = Gauge(
            "videoexport_encoder_scratch_full",
            "1 while that is less than the encoder wants, so that it takes nothing but probes.",
            registry=registry,
        )
        self.publishes = PublishMetrics(registry)
        self.draining = Gauge(
            "videoexport_encoder_draining",
            "1 once the encoder takes no new work.",
            registry=registry,
        )

    def encoded(
        self, family: pb.EncoderFamily.ValueType, frames_per_second: float, rate: pb.Rational
    ) -> None:
        """Count how fast pictures were encoded."""
        name = pb.EncoderFamily.Name(family)
        self.frame_rate.labels(name).observe(frames_per_second)
        self.speed.labels(name).observe(frames_per_second * rate.denominator / rate.numerator)
