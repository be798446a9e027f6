"""Puts the wall clock of a Python process off, by as many seconds as its environment says.

Python imports this by itself where the folder is in PYTHONPATH. No right over the machine's
clock is needed, and the processes beside it keep theirs.
"""

import datetime
import os
import time

OFFSET = float(os.environ.get("FAULTS_CLOCK_OFFSET_SECONDS", "0"))

_time, _time_ns = time.time, time.time_ns


class _Datetime(datetime.datetime):
    """What asks for the present is answered with the wrong one."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> "_Datetime":
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> "_Datetime":
        return cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls) -> "_Datetime":
        return cls.now()


if OFFSET:
    time.time = lambda: _time() + OFFSET
    time.time_ns = lambda: _time_ns() + int(OFFSET * 1e9)
    datetime.datetime = _Datetime  # type: ignore[misc]
