"""Settings of the storage service."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, SecretStr, StringConstraints, model_validator
from pydantic_settings import SettingsConfigDict

from services.common.config import Port, PositiveSeconds, ServiceSettings

MIB = 1024 * 1024
GIB = 1024 * MIB
# What S3 accepts as a part; the last one may be smaller.
SMALLEST_PART = 5 * MIB
LARGEST_PART = 5 * GIB
# And as an object.
LARGEST_OBJECT = 5 * 1024 * GIB

Bucket = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9](?:[a-z0-9-]|\.[a-z0-9]){1,61}[a-z0-9]$", max_length=63),
]
Endpoint = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+/?$")]


class StorageSettings(ServiceSettings):
    """What the storage service is told. Sizes are in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="VIDEOEXPORT_STORAGE_")

    service: ClassVar[str] = "storage"

    listen_port: Port = Field(50053, description="gRPC port; 0 takes a free one")
    metrics_port: Port = Field(9093, description="port of /metrics; 0 takes a free one")
    # S3 may take two minutes to copy the largest output.
    rpc_seconds: PositiveSeconds = Field(
        150, description="limit of a unary RPC, also where its caller sets no deadline"
    )
    s3_endpoint: Endpoint = Field(description="URL of the S3 server, as this service reaches it")
    public_s3_endpoint: Endpoint | None = Field(
        None,
        description="URL of the S3 server in presigned URLs, where clients and encoders "
        "reach it by another name; default: s3_endpoint",
    )
    s3_region: str = Field("us-east-1", description="region that requests are signed for")
    s3_access_key: str = Field(min_length=1, description="access key id")
    s3_secret_key: SecretStr = Field(min_length=1, description="secret access key")
    s3_timeout_seconds: PositiveSeconds = Field(
        10, description="how long S3 may be silent before a request to it is given up"
    )
    bucket: Bucket = Field(
        "videoexport", description="bucket of sources, outputs and cache; made when missing"
    )
    source_buckets: tuple[Bucket, ...] = Field(
        (),
        description="JSON list of the buckets that s3_object sources may name; every user "
        "may read whatever lies in them",
    )
    part_size_bytes: int = Field(
        16 * MIB,
        ge=SMALLEST_PART,
        le=LARGEST_PART,
        description="size of an upload's parts; larger files get larger parts",
    )
    max_upload_bytes: int = Field(
        500 * GIB,
        ge=1,
        le=LARGEST_OBJECT,
        description="size of the largest upload, of a source or a finished file",
    )
    upload_url_seconds: int = Field(
        24 * 3600,
        ge=60,
        le=7 * 24 * 3600,
        description="how long the URLs of an upload work; S3 allows at most 7 days, and "
        "unfinished uploads are removed after one",
    )

    @model_validator(mode="after")
    def _own_bucket_is_no_source(self) -> Self:
        # An s3_object source names its key freely: in the own bucket it would
        # reach every user's videos.
        if self.bucket in self.source_buckets:
            raise ValueError("source_buckets must not hold the service's own bucket")
        return self
