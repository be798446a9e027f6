"""Who calls, and what names may look like.

Until authentication lands, the user is named in metadata by a caller that is
trusted because services listen on loopback only.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from grpc.aio import Metadata, ServicerContext

from services.common.errors import DomainError, Reason, Violation, invalid_request

USER_KEY = "videoexport-user"

# What may stand in an object key as one step: no separator, no leading dot.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,127}")
_ID = re.compile(r"(exp|vid|tsk|run|prv)_[0-9a-f]{32}")


def user_of(context: ServicerContext[Any, Any]) -> str:
    """Return the user a call is made for.

    Raises:
        DomainError: USER_REQUIRED without one, INVALID_REQUEST for a name that
            cannot be a step of an object key.
    """
    for key, value in context.invocation_metadata() or ():
        if key == USER_KEY:
            name = value.decode() if isinstance(value, bytes) else value
            if not _USER.fullmatch(name) or ".." in name:
                raise invalid_request(
                    [Violation(USER_KEY, "must be 1 to 128 letters, digits or ._@+- characters")]
                )
            return name
    raise DomainError(Reason.USER_REQUIRED, f"Name the user in the metadata key {USER_KEY}.")


def as_user(user_id: str) -> Metadata:
    """Return the metadata that names `user_id` in a call to another service."""
    return Metadata((USER_KEY, user_id))


def is_id(text: str, prefix: str) -> bool:
    """Return whether `text` is an identifier of ours with this prefix."""
    return text.startswith(prefix + "_") and _ID.fullmatch(text) is not None


# Persian words and emoji families are written with these; they change no direction.
_JOINERS = "\u200c\u200d"


def has_control_characters(text: str) -> bool:
    """Return whether `text` holds a control, format or line-breaking character."""
    return any(
        unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs") and char not in _JOINERS
        for char in text
    )
