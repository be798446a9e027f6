"""Settings of the encoder service."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.config import Port, PositiveSeconds, ServiceSettings

Slots = Annotated[int, Field(ge=0, le=256)]


class EncoderSettings(ServiceSettings):
    """What the encoder service is told. Times are in seconds."""

    model_config = SettingsConfigDict(
        env_prefix="VIDEOEXPORT_ENCODER_", frozen=True, extra="forbid"
    )

    service: ClassVar[str] = "encoder"

    listen_port: Port = Field(50052, description="gRPC port; 0 takes a free one")
    metrics_port: Port = Field(9092, description="port of /metrics; 0 takes a free one")

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")] = Field(
        # It is a token of NATS subjects, where a dot would begin another one.
        default_factory=lambda: _default_id(),  # noqa: PLW0108 — defined below
        description="name of this encoder, unique in the cluster; default: by host and process",
    )
    advertise_address: str = Field(
        "", description="host:port that others reach this encoder at; required beyond loopback"
    )
    nats_url: str = Field(description="address of NATS; several are separated by commas")
    storage_address: str = Field(description="host:port of the StorageService")
    storage_timeout: PositiveSeconds = Field(
        10, description="limit of one call to the StorageService"
    )
    scratch_dir: Path = Field(
        Path("/tmp/videoexport"),  # noqa: S108 — every task has a private directory in it
        description="where outputs lie until they are uploaded, each encoder in its own folder",
    )
    # Several chunks, or a whole output of some minutes: what is begun below it likely fails.
    scratch_least_free_bytes: Annotated[int, Field(ge=0)] = Field(
        1 << 30,
        description="room that the scratch disk must have before work is taken; probes need none",
    )
    ffmpeg: Path | None = Field(None, description="FFmpeg to run; default: the installed wheel's")

    cpu_slots: Slots = Field(1, description="encodes on the CPU at the same time")
    gpu_slots: Slots = Field(2, description="encodes on the GPU at the same time, where it works")
    probe_slots: Slots = Field(2, description="probes at the same time")
    mux_slots: Slots = Field(
        1, description="sounds, assemblies and copies of long exports at the same time"
    )
    encoder_threads: Annotated[int, Field(ge=0, le=64)] = Field(
        0, description="threads of one CPU encode; 0: the cores divided by cpu_slots"
    )

    encode_memory_bytes: Annotated[int, Field(ge=64 << 20)] = Field(
        4 << 30, description="memory that FFmpeg may take for one encode on the CPU"
    )
    stall_timeout: PositiveSeconds = Field(
        60, description="FFmpeg is killed after so long without progress"
    )
    preview_limit_seconds: PositiveSeconds = Field(
        4 * 3600, description="how long FFmpeg may run for a direct Encode"
    )
    trial_timeout: PositiveSeconds = Field(
        30, description="limit of each trial encode, and of asking FFmpeg what it is, at start"
    )
    probe_timeout: PositiveSeconds = Field(30, description="limit of examining a source")
    verify_timeout: PositiveSeconds = Field(120, description="limit of checking a finished file")
    heartbeat_interval: PositiveSeconds = Field(
        15,
        description="pause between two signs of life of a task to JetStream; a quarter of ack_wait",
    )
    task_drain_seconds: PositiveSeconds = Field(
        30, description="how long running tasks may go on after SIGTERM before they are handed back"
    )

    @model_validator(mode="after")
    def _is_reachable(self) -> Self:
        if not self.on_loopback and not self.advertise_address:
            raise ValueError("advertise_address is required when listening beyond loopback")
        return self

    @property
    def own_scratch(self) -> Path:
        """The folder that is this encoder's alone."""
        return self.scratch_dir / self.id

    @property
    def threads(self) -> int:
        """Threads of one CPU encode; part of what makes its bits."""
        cores = os.cpu_count() or 1
        return self.encoder_threads or max(1, cores // max(1, self.cpu_slots))


def _default_id() -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", f"{socket.gethostname()}-{os.getpid()}")
