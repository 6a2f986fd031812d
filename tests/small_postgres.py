"""A PostgreSQL of one's own, from Debian's packages: a cluster in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import needs

PASSWORD = "hunter2@/:"
_STARTING_SECONDS = 60


class Cluster:
    """A server with one database, which can be stopped at once and started again.

    Attributes:
        url: for SQLAlchemy, with the password escaped.
    """

    def __init__(self, folder: Path, programs: Path, owner: dict):
        self._folder, self._programs, self._owner = folder, programs, owner
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self._port = listening.getsockname()[1]
        self._process: subprocess.Popen | None = None
        self.url = f"postgresql://tfmodel:hunter2%40%2F%3A@127.0.0.1:{self._port}/postgres"

    def make(self) -> None:
        """Make the cluster's files."""
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        if self._owner:
            for path in (self._folder, secret):
                os.chown(path, self._owner["user"], self._owner["group"])
        command = [self._programs / "initdb", "-D", self._folder / "data", "-U", "tfmodel"]
        command += ["-A", "scram-sha-256", "--pwfile", secret, "--no-sync", "-E", "UTF8"]
        subprocess.run(
            [*command, "--locale", "C"],
            check=True,
            capture_output=True,
            cwd=self._folder,
            **self._owner,
        )

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        import psycopg

        command = [self._programs / "postgres", "-D", self._folder / "data", "-h", "127.0.0.1"]
        command += ["-p", str(self._port), "-k", self._folder]
        with open(self._folder.with_name(self._folder.name + ".log"), "ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._folder, **self._owner
            )
        deadline = time.monotonic() + _STARTING_SECONDS
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None and time.monotonic() < deadline
                time.sleep(0.1)

    def crash(self) -> None:
        """End it at once, as a power cut would."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster that runs; root's processes become those of the user postgres or nobody."""
    needs.package("psycopg")
    programs = _programs()
    owner = {}
    if os.geteuid() == 0:
        names = {each.pw_name: each for each in pwd.getpwall()}
        user = names.get("postgres") or names["nobody"]
        owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    # Not under pytest's own folder, which no other user may enter.
    folder = Path(tempfile.mkdtemp(prefix="tfmodel-postgres-"))
    made = Cluster(folder, programs, owner)
    try:
        made.make()
        made.start()
        yield made
    finally:
        made.crash()
        shutil.rmtree(folder, ignore_errors=True)
        folder.with_name(folder.name + ".log").unlink(missing_ok=True)


def _programs() -> Path:
    """The folder with PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    there = shutil.which("initdb")
    if there is None:
        needs.give_up("PostgreSQL is not installed: apt-get install postgresql")
    return Path(there).resolve().parent
