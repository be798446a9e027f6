"""A Postgres server on loopback, for the services' database."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import psycopg
from psycopg import sql

from services.local import permissions
from services.local.credentials import Credentials
from services.local.files import make_private_folder, write_private
from services.local.part import Part, bare_environment
from services.local.ports import LOOPBACK, PortBook
from services.local.process import Command, NotReady, PartFailed, run_to_end
from services.local.programs import postgres_programs

DATABASE = "videoexport"
ROLE = "videoexport"
# Postgres refuses to run as root; then this system user runs it.
SYSTEM_USER = "videoexport-postgres"
PROBE_TIMEOUT_S = 2
INITDB_TIMEOUT_S = 60


def initdb_arguments(*, data: Path, password_file: Path) -> list[str]:
    """Return the arguments of initdb for a new data folder."""
    return [
        f"--pgdata={data}",
        f"--username={ROLE}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        # The same order of text on every machine, whatever its locale.
        "--locale=C",
        "--no-instructions",
    ]


def server_arguments(*, data: Path, port: int, fsync: bool) -> list[str]:
    """Return the arguments of the server.

    Args:
        data: its data folder.
        port: where it listens.
        fsync: off only where the data may be lost with the machine's power, in tests.
    """
    settings = {
        "listen_addresses": LOOPBACK,
        "port": str(port),
        # Its path would have to be short, and the services do not use it.
        "unix_socket_directories": "",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Nothing replicates a local cluster.
        "wal_level": "minimal",
        "max_wal_senders": "0",
        # All queries are short: compiling one costs more than it saves.
        "jit": "off",
    }
    if not fsync:
        # Commits are still written before they are answered: killed, it loses none.
        settings |= {"fsync": "off", "full_page_writes": "off"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    return ["-D", str(data), *options]


class PostgresPart(Part):
    """The Postgres server of a local cluster."""

    name = "postgres"

    def __init__(
        self,
        directory: Path,
        ports: PortBook,
        logs: Path,
        credentials: Credentials,
        *,
        fsync: bool,
        notify: Callable[[str], None],
    ) -> None:
        self.port = ports.port("postgres")
        self._directory = directory
        self._data = directory / "data"
        self._logs = logs
        self._password = credentials.postgres_password
        self._fsync = fsync
        self._notify = notify
        self._user = SYSTEM_USER if os.geteuid() == 0 else None

    @property
    def public_url(self) -> str:
        """Where the database is, without the password."""
        return f"postgresql://{ROLE}@{LOOPBACK}:{self.port}/{DATABASE}"

    @property
    def url(self) -> str:
        """Where the database is, with the password."""
        return f"postgresql://{ROLE}:{self._password}@{LOOPBACK}:{self.port}/{DATABASE}"

    async def prepare(self) -> None:
        """Make the data folder when there is none."""
        make_private_folder(self._directory)
        if self._user is not None:
            await asyncio.to_thread(self._open_to, self._user)
        if not self._data.exists():
            await self._initialise()

    def command(self) -> Command:
        """Return the server's command line."""
        arguments = server_arguments(data=self._data, port=self.port, fsync=self._fsync)
        return self._as_command("postgres", "postgres", arguments)

    async def probe(self) -> None:
        """Ask for an answer; create the services' database when there is none."""
        try:
            await self._ensure_database()
        except psycopg.OperationalError as error:
            # What fails while connecting comes without a code.
            if "password authentication failed" in str(error):
                raise PartFailed(
                    f"postgres refuses the password of {self._directory.parent}/secrets.json: "
                    f"the data in {self._data} was made with another one"
                ) from error
            raise NotReady(str(error).strip()) from error

    async def _initialise(self) -> None:
        """Run initdb beside the final place: a data folder is there whole or not at all."""
        new = self._directory / "new"
        await asyncio.to_thread(shutil.rmtree, new, ignore_errors=True)
        password_file = self._directory / "initial-password"
        write_private(password_file, self._password + "\n")
        try:
            if self._user is not None:
                permissions.give(password_file, self._user)
            arguments = initdb_arguments(data=new, password_file=password_file)
            await run_to_end(
                self._as_command("postgres (initdb)", "initdb", arguments), INITDB_TIMEOUT_S
            )
        finally:
            password_file.unlink()
        new.rename(self._data)

    def _as_command(self, name: str, program: str, arguments: list[str]) -> Command:
        return Command(
            name=name,
            argv=[str(postgres_programs() / program), *arguments],
            env=bare_environment(),
            # The system user may not enter the folder that this process was started in.
            cwd=self._directory,
            log=self._logs / f"{program}.log",
            user=self._user,
            # Its "fast" shutdown: SIGTERM would wait until every client has gone.
            stop_signal=signal.SIGINT,
        )

    def _open_to(self, user: str) -> None:
        permissions.ensure_system_user(user)
        permissions.give(self._directory, user)
        programs = postgres_programs()
        opened = [*permissions.open_the_way(self._directory), *permissions.open_the_way(programs)]
        for folder in opened:
            self._notify(f"everybody can now pass through {folder}, as the system user {user} must")
        # The libraries that the programs share lie beside the package.
        package = programs.parents[1]
        for folder in (programs.parent, package.with_name(f"{package.name}.libs")):
            if folder.exists():
                permissions.make_readable(folder)

    async def _ensure_database(self) -> None:
        connection = await psycopg.AsyncConnection.connect(
            host=LOOPBACK,
            port=self.port,
            user=ROLE,
            password=self._password,
            dbname="postgres",
            connect_timeout=PROBE_TIMEOUT_S,
            # CREATE DATABASE does not run in a transaction.
            autocommit=True,
        )
        async with connection:
            found = await connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]
            )
            if await found.fetchone() is None:
                await connection.execute(
                    sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE))
                )
