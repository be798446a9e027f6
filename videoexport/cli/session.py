"""What every command has in common: whom to call, how to answer, how to be interrupted."""

from __future__ import annotations

import asyncio
import functools
import getpass
import os
import shlex
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec

import click
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from videoexport.cli.arguments import GivenType
from videoexport.cli.signals import call_on_signals
from videoexport.cli.text import plain
from videoexport.client import DEFAULT_ADDRESS, AsyncClient, user_name

P = ParamSpec("P")

# Keys of click's `meta`, which a group and its subcommands share: what came after the
# subcommand replaces what came before it.
_ADDRESS = "videoexport.address"
_USER = "videoexport.user"
_JSON = "videoexport.json"


class Interrupted(Exception):
    """Ctrl-C or another signal to end; the text says what goes on without us.

    Attributes:
        number: of the signal.
    """

    def __init__(self, text: str, number: int) -> None:
        super().__init__(text)
        self.number = number


class Session:
    """One run of a command.

    Attributes:
        client: open while the command runs.
        json: whether stdout is to carry one JSON object and nothing else.
        after_interrupt: what to say when a signal ends the command.
    """

    def __init__(self, client: AsyncClient, *, json: bool, given: Sequence[str]) -> None:
        self.client = client
        self.json = json
        self.after_interrupt = "Interrupted."
        self._given = given

    def answer(self, message: Message, text: Callable[[], str]) -> None:
        """Print `message` as JSON, or `text` for a person, on stdout."""
        click.echo(MessageToJson(message) if self.json else text())

    def note(self, text: str) -> None:
        """Tell the person something beside the answer, on stderr."""
        click.echo(plain(text), err=True)

    def command(self, *words: str) -> str:
        """Return a command line that reaches the same service as the same user."""
        return shlex.join(["videoexport", *words, *self._given])


def session_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --address, --user and --json."""
    address = click.option(
        "--address",
        type=GivenType(),
        metavar="HOST:PORT",
        callback=_keep(_ADDRESS),
        expose_value=False,
        help=f"ExportService.  [env: VIDEOEXPORT_ADDRESS; default: {DEFAULT_ADDRESS}]",
    )
    user = click.option(
        "--user",
        type=GivenType(),
        metavar="NAME",
        callback=_keep(_USER),
        expose_value=False,
        help="On whose behalf.  [env: VIDEOEXPORT_USER; default: your login name]",
    )
    json = click.option(
        "--json",
        is_flag=True,
        default=None,
        callback=_keep(_JSON),
        expose_value=False,
        help="Print one JSON object on stdout; progress stays on stderr.",
    )
    return address(user(json(function)))


def with_session(
    function: Callable[Concatenate[Session, P], Awaitable[None]],
) -> Callable[P, None]:
    """Make a blocking command of an async one, and give it a Session."""

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> None:
        meta = click.get_current_context().meta
        client = AsyncClient(_address(meta), user=_user(meta))
        session = Session(client, json=_JSON in meta, given=_given(meta))

        signals: list[int] = []

        async def work() -> None:
            task = asyncio.current_task()

            def stop(number: int) -> None:
                # Only once: a second cancellation would disturb what the first one undoes.
                if task is not None and not signals:
                    task.cancel()
                signals.append(number)

            call_on_signals(asyncio.get_running_loop(), stop)
            async with client:
                await function(session, *args, **kwargs)

        try:
            asyncio.run(work())
        except KeyboardInterrupt:
            raise Interrupted(session.after_interrupt, signal.SIGINT) from None
        except (asyncio.CancelledError, OSError):
            # With SIGHUP the terminal has gone, and writing to it fails.
            if not signals:
                raise
            raise Interrupted(session.after_interrupt, signals[0]) from None
        except UnicodeEncodeError as error:
            # What the service sends is always text; arguments need not be.
            raise click.UsageError(
                f"{error.object!r} cannot be written in {error.encoding}."
            ) from None

    return command


def _keep(key: str) -> Callable[[click.Context, click.Parameter, Any], None]:
    def keep(context: click.Context, _: click.Parameter, value: Any) -> None:
        if value is not None:
            context.meta[key] = value

    return keep


def _address(meta: Mapping[str, Any]) -> str:
    return meta.get(_ADDRESS) or os.environ.get("VIDEOEXPORT_ADDRESS") or DEFAULT_ADDRESS


def _user(meta: Mapping[str, Any]) -> str:
    user = meta.get(_USER) or os.environ.get("VIDEOEXPORT_USER")
    if user:
        return _checked(user, "The user")
    try:
        login = getpass.getuser()
    except (KeyError, OSError):  # no entry in the password database, as in some containers
        raise click.UsageError("Your login name is not known; name a user by --user.") from None
    return _checked(login, "Name a user by --user, because your login name")


def _checked(user: str, subject: str) -> str:
    try:
        return user_name(user)
    except ValueError as error:
        raise click.UsageError(f"{subject} {error}.") from None


def _given(meta: Mapping[str, Any]) -> list[str]:
    options = (("--address", _ADDRESS), ("--user", _USER))
    return [word for option, key in options if key in meta for word in (option, meta[key])]
