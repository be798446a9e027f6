"""What this encoder is: proven capabilities, FFmpeg's build, what runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from services.common.content_key import RECIPE_VERSION
from services.common.families import LANE_OF_FAMILY
from services.common.subjects import Lane
from services.common.times import timestamp_of
from services.encoder.board import TaskBoard
from services.encoder.capabilities import Capabilities
from services.encoder.ffmpeg.process import FfmpegBuild
from services.encoder.settings import EncoderSettings
from videoexport.v1 import export_pb2 as pb


@dataclass
class EncoderDescription:
    """Everything about this encoder but the moment.

    Attributes:
        proven: what each family can do, its slots left open.
        address: where others reach its EncoderService; known once it listens.
    """

    settings: EncoderSettings
    board: TaskBoard
    build: FfmpegBuild
    proven: Capabilities
    address: str = ""
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> pb.Encoder:
        """Return this encoder as it is now."""
        return pb.Encoder(
            id=self.settings.id,
            address=self.address,
            capabilities=[self._capability(family) for family in self.proven],
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
        capability = pb.EncoderCapability(
            slots=self.board.slots[lane], busy_slots=self.board.busy(lane)
        )
        capability.MergeFrom(self.proven[family])
        return capability
