"""The passwords of the local S3 server and Postgres: made once, kept in a private file."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path

from services.local.files import read_json, write_json


@dataclass(frozen=True)
class Credentials:
    """What the services need to reach S3 and Postgres; not shown when printed."""

    s3_access_key: str = field(repr=False)
    s3_secret_key: str = field(repr=False)
    postgres_password: str = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> Credentials:
        """Return the credentials kept in `path`; make and keep what is missing there."""
        kept = read_json(path)
        credentials = cls(
            s3_access_key=kept.get("s3_access_key") or secrets.token_hex(10),
            s3_secret_key=kept.get("s3_secret_key") or secrets.token_urlsafe(30),
            # URL-safe, so that it stands in a database URL as it is.
            postgres_password=kept.get("postgres_password") or secrets.token_urlsafe(24),
        )
        if vars(credentials) != kept:
            write_json(path, vars(credentials))
        return credentials
