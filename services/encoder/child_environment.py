"""What processes that read media are told of our environment. Pure but for reading it."""

from __future__ import annotations

import os

# Where programs and libraries are, and how to speak and count.
_NEEDED = frozenset({"PATH", "LD_LIBRARY_PATH", "TMPDIR", "LANG", "LC_ALL", "TZ"})


def child_environment(*more: str) -> dict[str, str]:
    """Return what a child process is told: what it needs, by name.

    Not the service's settings or those of a cluster and of clouds, which hold secrets: what
    strangers made may get the better of whoever reads it. Nor a proxy, which would be asked for
    the loopback address of the gateway.

    Args:
        more: beginnings of other variables' names.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name in _NEEDED or (more and name.startswith(more))
    }
