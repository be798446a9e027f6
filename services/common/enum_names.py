"""Names of enum values as rows keep them, where a newer version may have written the row. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    # By this name in the stubs alone.
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

V = TypeVar("V", bound=int)


def known_value(kind: _EnumTypeWrapper[V], name: str) -> V | None:
    """Return the value of a name; None for one that this version does not know."""
    return kind.Value(name) if name in kind.keys() else None  # noqa: SIM118 — no mapping


def value_or_unspecified(kind: _EnumTypeWrapper[V], name: str) -> V:
    """Return the value of a name; the first one for one that this version does not know."""
    found = known_value(kind, name)
    return kind.values()[0] if found is None else found
