"""What this encoder is: proven capabilities, FFmpeg's build, what runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.common.content_key import RECIPE_VERSION
from services.common.families import LANE_OF_FAMILY
from services.common.subjects import Lane
from services.common.times import timestamp_of
from services.encoder.board import TaskBoard
from services.encoder.ffmpeg import FfmpegBuild
from services.encoder.options import ENCODER_NAMES
from services.encoder.settings import EncoderSettings
from videoexport.v1 import export_pb2 as pb


@dataclass
class EncoderDescription:
    """Everything about this encoder but the moment.

    Attributes:
        problems: by family, why a trial encode failed; None where it succeeded.
        address: where others reach its EncoderService; known once it listens.
    """

    settings: EncoderSettings
    board: TaskBoard
    build: FfmpegBuild
    problems: dict[pb.EncoderFamily.ValueType, str | None]
    address: str = ""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> pb.Encoder:
        """Return this encoder as it is now."""
        return pb.Encoder(
            id=self.settings.id,
            address=self.address,
            capabilities=[self._capability(family) for family in self.problems],
            ffmpeg_version=self.build.version,
            ffmpeg_build=self.build.sha256,
            encoder_threads=self.settings.threads,
            running_tasks=[run.live for run in self.board.running()],
            draining=self.board.draining,
            start_time=timestamp_of(self.started),
            last_seen_time=timestamp_of(datetime.now(UTC)),
            probe_slots=self.board.slots[Lane.PROBE],
            mux_slots=self.board.slots[Lane.MUX],
            problem=self.board.problem() or "",
            recipe_version=RECIPE_VERSION,
        )

    def _capability(self, family: pb.EncoderFamily.ValueType) -> pb.EncoderCapability:
        lane = LANE_OF_FAMILY[family]
        problem = self.problems[family]
        return pb.EncoderCapability(
            family=family,
            encoder_name=ENCODER_NAMES[family],
            available=problem is None,
            unavailable_reason=problem or "",
            slots=self.board.slots[lane],
            busy_slots=self.board.busy(lane),
        )
