"""Free loopback ports that stay the same from one start to the next."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from services.local.files import read_json, write_json
from services.local.process import PartFailed

LOOPBACK = "127.0.0.1"
# Below the range that Linux (32768 and up) and macOS (49152 and up) hand out to outgoing
# connections: a port from there could be taken between the check here and the child's bind.
FIRST_PORT, LAST_PORT = 15000, 31999
# Ports tried at random before giving up.
CANDIDATES = 200


class NoFreePort(PartFailed):
    """Every port that was tried is taken."""


def is_free(port: int) -> bool:
    """Whether a server could listen on a loopback port now."""
    with socket.socket() as probe:
        # As servers do: connections of the last run in TIME_WAIT do not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


class PortBook:
    """Ports by name, remembered in a file.

    URLs made in one run (of S3 objects, of the database) stay good in the next one, as
    long as nobody took the port meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ports = {
            name: port for name, port in read_json(path).items() if isinstance(port, int)
        }
        self._checked: set[str] = set()

    def port(self, name: str, *, companion: int | None = None, preferred: int | None = None) -> int:
        """Return the port called `name`; the same one however often it is asked for.

        Args:
            name: what listens there, such as `s3`.
            companion: a second port, this far above, is to be free too.
            preferred: taken when it is free, even where another is remembered.

        Raises:
            NoFreePort: none was found.
        """
        wanted = {name: 0} if companion is None else {name: 0, f"{name}+{companion}": companion}
        if name not in self._checked:
            first = self._choose(wanted, preferred)
            self._ports |= {each: first + distance for each, distance in wanted.items()}
            self._checked |= set(wanted)
            write_json(self._path, self._ports)
        return self._ports[name]

    def _choose(self, wanted: dict[str, int], preferred: int | None) -> int:
        """Return the first port of a group given by its distances.

        The preferred one if free, then the remembered one if free.
        """
        name = next(iter(wanted))
        others = {port for each, port in self._ports.items() if each not in wanted}
        last = LAST_PORT - max(wanted.values())
        every = range(FIRST_PORT, last + 1)
        candidates = secrets.SystemRandom().sample(every, min(CANDIDATES, len(every)))
        if name in self._ports:
            candidates.insert(0, self._ports[name])
        if preferred is not None:
            candidates.insert(0, preferred)
        for port in candidates:
            group = [port + distance for distance in wanted.values()]
            if not others.intersection(group) and all(map(is_free, group)):
                return port
        raise NoFreePort(f"no free port for {name} between {FIRST_PORT} and {last}")
