"""Every fault that the campaign injects.

A new one is an entry in the FAULTS of a module of `faults/injections`: a function that does
it, mends it and waits until work goes on, and the words that say so.
"""

from __future__ import annotations

from collections.abc import Collection

from faults.fault import Fault
from faults.injections import apis, encoders, network, s3_answers, servers

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for module in (encoders, apis, servers, s3_answers, network)
    for fault in module.FAULTS
}


def chosen(names: Collection[str]) -> list[Fault]:
    """Return the faults of these names, or whose names begin so; all without a name.

    Raises:
        KeyError: there is none of a name.
    """
    if not names:
        return list(FAULTS.values())
    found = []
    for name in names:
        fitting = [fault for fault in FAULTS.values() if fault.name.startswith(name)]
        if not fitting:
            raise KeyError(name)
        found += [fault for fault in fitting if fault not in found]
    return found
