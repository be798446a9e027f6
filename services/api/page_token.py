"""Opaque page tokens: where the last page ended, and for which filters."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from datetime import datetime

from services.common.caller import is_id
from services.common.errors import DomainError, Reason
from videoexport.v1 import export_service_pb2 as service

# Ours have some 140 characters; deeply nested JSON would exhaust the parser's stack.
MAX_TOKEN = 512


def encode_token(request: service.ListExportsRequest, created_at: datetime, export_id: str) -> str:
    """Return the token of the page after the given export."""
    content = [_fingerprint(request), created_at.isoformat(), export_id]
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def decode_token(request: service.ListExportsRequest) -> tuple[datetime, str] | None:
    """Return creation time and id of the last export of the previous page, if there is one.

    Raises:
        DomainError: INVALID_PAGE_TOKEN when it is damaged or of other filters.
    """
    if not request.page_token:
        return None
    if len(request.page_token) > MAX_TOKEN:
        raise _invalid("The page token is damaged.")
    try:
        content = json.loads(base64.urlsafe_b64decode(request.page_token.encode()))
        fingerprint, created_at, export_id = content
        position = datetime.fromisoformat(created_at)
    except (binascii.Error, ValueError, TypeError):
        raise _invalid("The page token is damaged.") from None
    if position.tzinfo is None or not is_id(str(export_id), "exp"):
        raise _invalid("The page token is damaged.")
    if fingerprint != _fingerprint(request):
        raise _invalid("The page token belongs to a list with other filters.")
    return position, export_id


def _fingerprint(request: service.ListExportsRequest) -> str:
    filters = service.ListExportsRequest()
    filters.CopyFrom(request)
    filters.ClearField("page_token")
    filters.ClearField("page_size")
    digest = hashlib.sha256(filters.SerializeToString(deterministic=True))
    return digest.hexdigest()[:16]


def _invalid(message: str) -> DomainError:
    return DomainError(Reason.INVALID_PAGE_TOKEN, message)
