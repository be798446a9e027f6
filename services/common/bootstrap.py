"""How every service starts: settings, logs, then its own `run` until a signal comes."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from services.common.config import (
    ServiceSettings,
    SettingsError,
    StartupError,
    describe,
    load_settings,
    show,
    visible,
)
from services.common.logging import configure_logging

log = structlog.get_logger()

S = TypeVar("S", bound=ServiceSettings)

EXIT_BAD_SETTINGS = 2
EXIT_FAILED = 1


def start(kind: type[S], run: Callable[[S, asyncio.Event], Awaitable[None]]) -> int:
    """Run a service until SIGTERM or SIGINT; return the exit status.

    Args:
        kind: the settings to read.
        run: the service; it returns soon after the event is set.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m services.{kind.service}",
        description=f"Run the {kind.service} service. It is configured by the environment:",
        epilog=describe(kind),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--check-config", action="store_true", help="print the settings, secrets masked, and exit"
    )
    arguments = parser.parse_args()
    settings = settings_or_exit(kind)
    if arguments.check_config:
        sys.stdout.write(show(settings) + "\n")
        return 0
    configure_logging(settings.log_level, kind.service)
    try:
        asyncio.run(_until_signal(settings, run))
    except StartupError as error:
        log.error("cannot start", problem=str(error))
        return EXIT_FAILED
    except Exception as error:
        # One line of JSON, not a trace across the log of the next tool.
        log.critical("service failed", exc_info=error)
        return EXIT_FAILED
    return 0


def settings_or_exit(kind: type[S]) -> S:
    """Return the settings, or end the process with one plain sentence."""
    try:
        return load_settings(kind)
    except SettingsError as error:
        sys.stderr.write(f"{kind.service}: {error}\n")
        raise SystemExit(EXIT_BAD_SETTINGS) from None


async def _until_signal(settings: S, run: Callable[[S, asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.info("starting", settings=visible(settings))
    await run(settings, stop)
