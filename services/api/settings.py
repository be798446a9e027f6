"""Settings of the API service."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.config import Port, PositiveSeconds, ServiceSettings

Count = Annotated[int, Field(ge=0)]
PositiveCount = Annotated[int, Field(ge=1)]


def _is_postgres(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith("postgresql://"):
        raise ValueError("must begin with postgresql://")
    return url


class ApiSettings(ServiceSettings):
    """What the API service is told. Times are in seconds unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="VIDEOEXPORT_API_", frozen=True, extra="forbid")

    service: ClassVar[str] = "api"

    listen_port: Port = Field(50051, description="gRPC port; 0 takes a free one")
    metrics_port: Port = Field(9091, description="port of /metrics; 0 takes a free one")

    database_url: Annotated[SecretStr, AfterValidator(_is_postgres)] = Field(
        description="postgresql://user:password@host:port/database"
    )
    database_pool_size: Annotated[int, Field(ge=2)] = Field(
        20, description="most connections of this process, beside one that health has to itself"
    )
    database_loop_connections: Count = Field(
        0,
        description="how many of them are for dispatching and applying events alone, which "
        "callers then cannot hold up; 0: half of them",
    )
    database_timeout: PositiveSeconds = Field(5, description="limit of one statement")
    # Statements take milliseconds: whoever waits longer stands behind hundreds.
    database_pool_timeout: PositiveSeconds = Field(
        2, description="limit of waiting for a connection"
    )
    # The dispatcher has its rows locked for up to 2 s while NATS does not answer.
    database_lock_timeout: PositiveSeconds = Field(
        3, description="limit of waiting for a row that another transaction has locked"
    )
    nats_url: str = Field(
        min_length=1, description="address of NATS; several are separated by commas"
    )
    nats_replicas: PositiveCount = Field(1, description="copies of each stream; 3 in a cluster")
    storage_address: str = Field(
        min_length=1, description="host:port of the StorageService, as this service sees it"
    )
    public_storage_address: str = Field(
        "", description="host:port of the StorageService, as clients see it; default: the same"
    )
    storage_timeout: PositiveSeconds = Field(
        10, description="limit of one call to the StorageService"
    )
    probe_timeout: PositiveSeconds = Field(30, description="limit of a probe for validate_only")

    exports_per_hour: Count = Field(
        5, description="exports a user may create in an hour; 0: no limit"
    )
    running_per_user: Count = Field(
        3, description="unfinished exports a user may have; 0: no limit"
    )
    queue_limit: Count = Field(1000, description="unfinished exports of all users; 0: no limit")
    # Of an export with 1,000 segments each costs 150 kB: together less than the pod has.
    watch_limit: PositiveCount = Field(
        2000, description="WatchExport streams of this process; more are refused"
    )
    watches_per_user: PositiveCount = Field(
        200, description="WatchExport streams of this process that one user may have"
    )
    source_buckets: list[str] = Field(
        [],
        description="JSON list of the buckets that s3_object sources may name, for clients to read",
    )

    chunk_threshold_seconds: Annotated[float, Field(ge=0)] = Field(
        60, description="an output that is longer is made in parts, on several encoders at once"
    )
    # At least 5: an assembly names every chunk of a day in one message of NATS, 1 MiB at most.
    chunk_seconds: Annotated[float, Field(ge=5, le=60)] = Field(
        8, description="how long the chunks are that its pictures are encoded in"
    )
    encode_limit_floor_seconds: PositiveSeconds = Field(
        600, description="how long FFmpeg may run for one task at the least"
    )
    # Slow machines and hard material differ from the average by less.
    encode_limit_factor: Annotated[float, Field(ge=1)] = Field(
        20, description="and how many times as long as a CPU is expected to encode its frames"
    )
    retention_days: Annotated[float, Field(gt=0)] = Field(
        30, description="how long outputs are kept"
    )
    download_url_seconds: Annotated[int, Field(ge=60, le=604_800)] = Field(
        3600, description="how long a download URL works"
    )
    # By then its owner has gone. 1,000 exports, as many as may be queued, of a minute's encode
    # each take one slot 17 hours, so an honest queue is not cut off.
    queue_wait_seconds: Annotated[float, Field(ge=0)] = Field(
        86_400,
        description="an export of which nothing was worked on for so long while it was due "
        "fails with QUEUE_TIMEOUT; never sooner than ack_wait; 0: waits for ever",
    )
    task_attempts: PositiveCount = Field(4, description="failures after which a task is given up")
    retry_delay: PositiveSeconds = Field(
        2, description="pause before the first retry; then doubled"
    )
    ack_wait: PositiveSeconds = Field(
        60, description="silence after which JetStream gives a task to another encoder"
    )
    encoder_timeout: PositiveSeconds = Field(
        10, description="silence after which an encoder is no longer listed"
    )
    reconcile_interval: PositiveSeconds = Field(
        5, description="pause between two rounds of the reconciler"
    )

    @model_validator(mode="after")
    def _leaves_connections_to_callers(self) -> Self:
        if self.database_loop_connections >= self.database_pool_size:
            raise ValueError("database_loop_connections must be less than database_pool_size")
        return self

    @property
    def loop_connections(self) -> int:
        """Connections that callers do not get."""
        return self.database_loop_connections or self.database_pool_size // 2
