"""What could keep the system from working here: versions, the database and its folder, the sandbox, devices, Prefect, models.

A finding is ok, warn (works, with the risk that it names) or fail (will not work), with the remedy. A check only looks: it
creates no database, migrates none, and leaves no file behind. What a check takes beside its subject is there for the tests.
"""

from __future__ import annotations

import json as jsonlib
import os
import platform
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.cli import FOLDER

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection

GB = 1 << 30
LIMIT = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
NETWORK = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs", "gpfs", "pvfs2"),
    *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.juicefs", "davfs"),
}
# what the sandbox of model-written code would be started with, around a program that does nothing
PROFILE = (
    *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session", "--clearenv"),
    *("--cap-drop", "ALL", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"),
)
CHECK_SECONDS = 30.0  # for SQLite's own check of a file
COMMITS = 20  # of which the median is told
SLOW_MS = 50.0

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    name: str
    status: Status
    what: str
    remedy: str = ""  # '' where it is ok


Check = tuple[str, Callable[[], Finding]]


def examine(database: str | None) -> list[Finding]:
    """All findings; without a database, only those about the machine. Never raises."""
    return list(findings(database))


def findings(database: str | None) -> Iterator[Finding]:
    """Each as soon as it is there. A check that raises is a failure, and no password is told."""
    checks: list[Check] = [
        *(("python", python), ("packages", packages), ("fastapi", fastapi), ("code", code), ("models", models)),
        *(("threads", threads), ("memory", memory), ("cuda", cuda), ("prefect", prefect), ("sandbox", sandbox)),
    ]
    secrets: set[str] = set()
    if database is not None:
        try:
            found = _place(database)
        except Exception:  # its text may hold a part of the password
            checks.append(("database", _unreadable))
            secrets.add(database)
        else:
            secrets = _secrets(found)
            checks += _of_a_file(found) if isinstance(found, Path) else _of_a_server(found)
    for name, check in checks:
        yield _hidden(_tried(name, check), secrets)


def run(database: str | None, json: bool = False) -> int:
    """Prints the findings; 1 where one failed, else 0."""
    from flows import tables
    from flows.show import oneline

    out, failed = tables.console(), False
    told = []
    for each in findings(database):
        failed |= each.status == "fail"
        told.append(asdict(each))
        if not json:
            line = each.what + (f"; {each.remedy}" if each.remedy else "")
            out.print(f"{each.status:<4}  {each.name:<11}  {oneline(line, 600)}")
    if json:
        sys.stdout.write(jsonlib.dumps(told, indent=1) + "\n")
    return int(failed)


def _tried(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:
        what = f"could not be examined: {type(error).__name__}: {' '.join(str(error).split())}"
        return Finding(name, "fail", what, "see what the error names; the other findings do not depend on it")


# ------------------------------------------------------------------------------------------------------------- programs


def python(version: str = platform.python_version(), wanted: str | None = None) -> Finding:
    from packaging.specifiers import SpecifierSet

    wanted = wanted if wanted is not None else metadata.metadata("ponderosa")["Requires-Python"] or ""
    if SpecifierSet(wanted).contains(version, prereleases=True):
        return Finding("python", "ok", f"{version} ({sys.executable})")
    return Finding("python", "fail", f"{version} is not {wanted}", f"make the environment with a Python {wanted}")


def packages(requires: Sequence[str] | None = None, installed: Callable[[str], str] = metadata.version) -> Finding:
    """Every package that the installed Ponderosa names, but FastAPI, which has a line of its own."""
    wanted = [each for each in _wanted(requires) if each.name != "fastapi"]
    wrong = {f"'{each.name}{each.specifier}'": said for each in wanted if (said := _mismatch(each, installed))}
    if wrong:
        return Finding("packages", "fail", ", ".join(wrong.values()), "pip install " + " ".join(wrong))
    return Finding("packages", "ok", f"{len(wanted)} inside their ranges")


def fastapi(requires: Sequence[str] | None = None, installed: Callable[[str], str] = metadata.version) -> Finding:
    """Prefect's server does not start with a newer one, and Prefect's metadata does not say so."""
    for each in _wanted(requires):
        if each.name == "fastapi" and (said := _mismatch(each, installed)):
            mend = f"pip install '{each.name}{each.specifier}', or work with --plain"
            return Finding("fastapi", "fail", f"{said}: Prefect's server does not start", mend)
    return Finding("fastapi", "ok", f"{installed('fastapi')}, which Prefect's server starts with")


def _mismatch(wanted: Any, installed: Callable[[str], str]) -> str:
    """What is wrong with an installed package; '' = nothing."""
    try:
        found = installed(wanted.name)
    except metadata.PackageNotFoundError:
        return f"{wanted.name} is not installed"
    return "" if wanted.specifier.contains(found, prereleases=True) else f"{wanted.name} {found} is not {wanted.specifier}"


def _wanted(requires: Sequence[str] | None) -> list[Any]:
    """Requirements that hold here, with those of the extras they ask for."""
    from packaging.requirements import Requirement

    def holds(one: Requirement, extra: str) -> bool:
        return one.marker is None or one.marker.evaluate({"extra": extra})

    def here(lines: Sequence[str], extra: str) -> list[Requirement]:
        every = [Requirement(line) for line in lines]
        return [each for each in every if holds(each, extra) and (extra == "" or not holds(each, ""))]

    found = here(requires if requires is not None else metadata.requires("ponderosa") or (), "")
    more = [each for r in found for extra in sorted(r.extras) for each in here(metadata.requires(r.name) or (), extra)]
    return found + more


def code() -> Finding:
    """The commit, with "+" where files differ from it."""
    ask = ["git", "-C", str(Path(__file__).resolve().parent), "describe", "--always", "--dirty=+", "--abbrev=10"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    changed = ", with changes that are not committed" if said.endswith("+") else ""
    return Finding("code", "ok", f"commit {said}{changed}" if said else "no checkout: the commit is not known")


def models(bundled: Mapping[str, Path] | None = None) -> Finding:
    """The bundled ones are there, and are those that their cards were measured on."""
    import hashlib

    from pipelines.models import BUNDLED, ModelError, fingerprint

    told, wrong = [], []
    for role, folder in (BUNDLED if bundled is None else bundled).items():
        try:
            told.append(f"{role} {fingerprint(str(folder), role)}")
            card = jsonlib.loads((folder / "card.json").read_text(encoding="utf-8"))
            sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in card["sha256"]}
            if sums != card["sha256"]:
                wrong.append(f"the {role} has other weights than its card says")
        except (ModelError, OSError, ValueError, KeyError) as error:
            wrong.append(f"the {role}: {error}")
    if wrong:
        return Finding("models", "fail", ", ".join(wrong), "install Ponderosa again, or check pipelines/bundled out again")
    return Finding("models", "ok", ", ".join(told))


def prefect(environ: Mapping[str, str] = os.environ, ask: Callable[[], tuple[str, str]] | None = None) -> Finding:
    """It can be imported, with its server where that is to be started here, and the server that is named answers."""
    mend = "pip install -c constraints.txt 'prefect>=3.8.8,<4', or work with --plain"
    try:
        version, url = _ask_prefect(environ) if ask is None else ask()
    except subprocess.TimeoutExpired as error:
        return Finding("prefect", "warn", f"not imported within {error.timeout:.0f} s", "try again, or work with --plain")
    except subprocess.CalledProcessError as error:
        said = (str(error.stderr or "").strip().splitlines() or ["no message"])[-1]
        return Finding("prefect", "fail", f"cannot be imported: {said}", mend)
    if url:
        shown = re.sub(r"//[^/@]*@", "//***@", url)
        if _answers(url):
            return Finding("prefect", "ok", f"{version}, server {shown}")
        mend = "start it, or unset PREFECT_API_URL for a temporary one, or work with --plain"
        return Finding("prefect", "warn", f"{version}, server {shown} does not answer", mend)
    limit = environ.get(LIMIT, "180")
    if not re.fullmatch(r"\d+", limit) or int(limit) < 60:
        what = f"{version}, a temporary server may take {limit} s to start; a cold start has been seen to take 47 s"
        return Finding("prefect", "warn", what, f"unset {LIMIT} (then it is 180), or set at least 60")
    return Finding("prefect", "ok", f"{version}, a temporary server each time, which may take {limit} s to start")


def _ask_prefect(environ: Mapping[str, str], seconds: float = 120.0) -> tuple[str, str]:
    """Prefect's version, and the server that it would use. In a process of its own: it is slow, and an import can hang."""
    script = (
        "import prefect, prefect.settings\n"
        "url = prefect.settings.get_current_settings().api.url or ''\n"
        "if not url: import prefect.server.api.server\n"
        "print(prefect.__version__, url)"
    )
    quiet = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "ERROR"}
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, check=True, env={**environ, **quiet}, stdin=subprocess.DEVNULL
    )
    version, _, url = done.stdout.strip().splitlines()[-1].partition(" ")
    return version, url


def _answers(url: str) -> bool:
    """Whether anything does, even with "not allowed"."""
    try:
        with urllib.request.urlopen(url.rstrip("/") + "/health", timeout=3):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except (OSError, ValueError):
        return False


# -------------------------------------------------------------------------------------------------------------- machine


def threads(usable: int | None = None, used: int | None = None) -> Finding:
    if usable is None:
        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if used is None:
        import torch

        used = torch.get_num_threads()
    what = f"{usable} CPU thread(s), torch uses {used}"
    if used > usable:
        return Finding("threads", "warn", f"{what}: they wait for each other", f"set OMP_NUM_THREADS={usable}")
    return Finding("threads", "ok", what)


def memory(free: int | None = None) -> Finding:
    free = _memory() if free is None else free
    if free < 0:
        return Finding("memory", "ok", "not known on this system")
    what = f"{free / GB:.1f} GB available"
    if free < GB:
        return Finding(
            "memory", "warn", f"{what}: a run may be killed", "end other programs, or run with fewer rows and cache_mb"
        )
    return Finding("memory", "ok", what)


def _memory(proc: Path = Path("/proc/meminfo"), group: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that this process may still take: the machine's, or a container's where that is less; -1 = not known."""
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", proc.read_text(), re.MULTILINE)
    except OSError:
        found = None
    free = int(found[1]) * 1024 if found else -1
    try:
        left = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return free
    return left if free < 0 else min(free, left)


def cuda(device: Any = None) -> Finding:
    """`device`: torch.cuda, or what stands for it."""
    if device is None:
        import torch

        device = torch.cuda
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        there = device.is_available()
    if not there and said:  # a driver that does not fit
        mend = "install a torch for this driver, or a newer driver; device=cpu works"
        return Finding("cuda", "warn", f"none: {' '.join(str(said[0].message).split())}", mend)
    if not there:
        return Finding("cuda", "ok", "none")
    told = []
    for number in range(device.device_count()):
        free, total = device.mem_get_info(number)
        told.append(f"{device.get_device_name(number)}, {free / GB:.1f} of {total / GB:.1f} GB free")
    return Finding("cuda", "ok", "; ".join(told))


def sandbox(program: str | None = None, apparmor: bool | None = None) -> Finding:
    """Runs a program that does nothing in bubblewrap. As a user who is not root: root is not bound by its process limit.
    A warning at most: nothing needs it yet."""
    program = shutil.which("bwrap") if program is None else program
    if not program:
        return Finding(
            "sandbox", "warn", "bwrap is missing: model-written code cannot be run", "install bubblewrap 0.8 or newer"
        )
    as_nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    try:
        done = subprocess.run(
            [program, *PROFILE],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            cwd="/",
            stdin=subprocess.DEVNULL,
            **as_nobody,
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("sandbox", "warn", f"bwrap cannot be run: {error}", "install bubblewrap 0.8 or newer")
    if done.returncode == 0:
        return Finding("sandbox", "ok", f"bubblewrap works ({program})")
    if apparmor is None:
        switch = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
        apparmor = switch.is_file() and switch.read_text().strip() == "1"
    what, remedy = refusal(done.stderr, apparmor)
    return Finding("sandbox", "warn", f"{what}: model-written code cannot be run", remedy)


def refusal(said: str, apparmor: bool) -> tuple[str, str]:
    """What keeps bubblewrap from working, and the remedy, from what it said."""
    line = (said.strip().splitlines() or ["no message"])[-1].removeprefix("bwrap: ")
    if "unknown option" in line.lower():
        return f"bwrap is too old ({line})", "install bubblewrap 0.8 or newer"
    if not re.search("namespace|uid map|gid map|unshare|clone|not permitted|permission denied", line.lower()):
        return f"bwrap fails ({line})", "run it by hand to see why"
    if apparmor:
        return f"AppArmor refuses user namespaces ({line})", "give bwrap an AppArmor profile that allows userns"
    if "mount" in line.lower():
        return f"mounts inside a namespace are refused ({line})", "allow them in the container's seccomp and /proc settings"
    return (
        f"user namespaces refused ({line})",
        "raise user.max_user_namespaces, or allow them in the container's seccomp profile",
    )


# ------------------------------------------------------------------------------------------------------- the database's place


def _place(database: str) -> Path | URL:
    """A file, or a server's URL with our driver."""
    if "://" not in database:
        return Path(database)
    from sqlalchemy.engine import make_url

    url = make_url(database)
    if url.get_backend_name() == "sqlite" and url.database:
        return Path(url.database)
    if url.get_backend_name() != "postgresql":
        raise ValueError
    return url.set(drivername="postgresql+psycopg") if url.drivername == "postgresql" else url


def _unreadable() -> Finding:
    return Finding("database", "fail", "the URL cannot be read", "name a file, or write postgresql://USER@HOST/NAME")


def _secrets(found: Path | URL) -> set[str]:
    if isinstance(found, Path):
        return set()
    told = [found.password, *(found.query.get(key) for key in ("password", "sslpassword"))]
    return {str(each) for each in told if each and len(str(each)) > 3}  # a shorter one is a part of many words


def _hidden(finding: Finding, secrets: set[str]) -> Finding:
    """An error's text may repeat what it was given."""
    for secret in sorted(secrets, key=len, reverse=True):
        finding = replace(finding, what=finding.what.replace(secret, "***"), remedy=finding.remedy.replace(secret, "***"))
    return finding


def _of_a_file(path: Path) -> list[Check]:
    # the folder of the default database is made by the first run, in the folder we are in
    parent = path.parent
    if str(parent) == FOLDER and not parent.exists():
        parent = Path()
    there = next((each for each in (parent.resolve(), *parent.resolve().parents) if each.is_dir()), Path("/"))
    checks: list[Check] = [
        *(("sqlite", sqlite), ("folder", lambda: writable(parent, path)), ("file system", lambda: file_system(there))),
        *(("disk", lambda: disk(there)), ("database", lambda: database_file(path))),
    ]
    return [*checks, ("commit", lambda: latency(parent))] if parent.is_dir() else checks


def sqlite(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> Finding:
    what = ".".join(map(str, version))
    if not (3, 7, 0) <= version <= (3, 51, 2):
        return Finding("sqlite", "ok", what)
    return Finding(
        "sqlite",
        "warn",
        f"{what} can damage a file when two connections write or checkpoint at the same instant (rare; our own take turns)",
        "let no other tool write to the file, or use SQLite 3.51.3 or newer, or PostgreSQL",
    )


def writable(folder: Path, path: Path) -> Finding:
    """By trying it: rights, a read-only mount and root's exceptions are all in the answer."""
    if not folder.is_dir():
        return Finding("folder", "fail", f"'{folder}' does not exist", "create it, or name a database in another folder")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        mend = "change its rights, or name a database in another folder"
        return Finding("folder", "fail", f"'{folder}' cannot be written to: {error.strerror}", mend)
    if path.is_file() and not os.access(path, os.W_OK):
        return Finding("folder", "fail", f"'{path}' cannot be written to", "change its rights")
    return Finding("folder", "ok", f"'{folder.resolve()}' can be written to")


def file_system(folder: Path, mounts: str | None = None) -> Finding:
    """SQLite's write-ahead log needs memory that all its users share: not so on a network file system."""
    if mounts is None:
        try:
            mounts = Path("/proc/mounts").read_text()
        except OSError:
            return Finding("file system", "ok", "not known on this system")
    kind, longest = "unknown", -1
    for line in mounts.splitlines():
        _, place, found, *_ = [*line.split(" "), "", "", ""]
        point = Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), place) or "/nowhere")
        if folder.is_relative_to(point) and len(point.parts) >= longest:  # the last of those mounted on one place counts
            kind, longest = found, len(point.parts)
    if kind in NETWORK:
        mend = "put the database on a local disk, or use PostgreSQL"
        return Finding(
            "file system", "fail", f"'{folder}' is on a network file system ({kind}): SQLite's log cannot work", mend
        )
    return Finding("file system", "ok", kind)


def disk(folder: Path, free: int | None = None) -> Finding:
    free = shutil.disk_usage(folder).free if free is None else free
    what = f"{free / GB:.1f} GB free" if free >= GB else f"{free >> 20} MB free"
    if free < 200 << 20:
        return Finding("disk", "fail", what, "free some: a run stops when the disk is full")
    if free < 2 * GB:
        return Finding("disk", "warn", what, "free some before a long run: a million candidates take 1.4 GB")
    return Finding("disk", "ok", what)


def latency(folder: Path) -> Finding:
    """Of a committed write to a scratch file beside the database, synced as ours are."""
    with (
        tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as scratch,
        closing(sqlite3.connect(Path(scratch) / "scratch.db", isolation_level=None)) as connection,
    ):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE t (x)")
        return commits(lambda: connection.execute("INSERT INTO t VALUES (1)"))


def commits(write: Callable[[], object], slow: float = SLOW_MS) -> Finding:
    taken = []
    for _ in range(COMMITS):
        began = time.perf_counter()
        write()
        taken.append(1000 * (time.perf_counter() - began))
    what = f"{statistics.median(taken):.1f} ms for a committed write, {max(taken):.1f} ms at worst of {COMMITS}"
    if statistics.median(taken) > slow:
        return Finding("commit", "warn", what, "put the database on a faster disk, or nearer")
    return Finding("commit", "ok", what)


# --------------------------------------------------------------------------------------------------------- the database


def database_file(path: Path, seconds: float = CHECK_SECONDS) -> Finding:
    """Reads only: a file that is to be made, or brought up to date, is left to the first command that uses it."""
    name = "database"
    if path.is_dir():
        return Finding(name, "fail", f"'{path}' is a directory", f"name a file in it: {path / 'ponderosa.db'}")
    if not path.exists() or path.stat().st_size == 0:
        return Finding(name, "ok", f"'{path}' is not there yet: the first run makes it")
    with path.open("rb") as file:
        if file.read(16) != b"SQLite format 3\x00":
            return Finding(name, "fail", f"'{path}' is not a SQLite database", "name another file")
    before = path.stat()
    if any(Path(f"{path}{end}").exists() for end in ("-wal", "-journal")):
        return _checked(path, "mode=ro", seconds)
    # a file that nobody has open: read as one that does not change, else SQLite leaves a log and its index beside it
    found = _checked(path, "mode=ro&immutable=1", seconds)
    after = path.stat()
    if Path(f"{path}-wal").exists() or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        return _checked(path, "mode=ro", seconds)  # somebody has opened it meanwhile
    return found


def _checked(path: Path, how: str, seconds: float) -> Finding:
    until = time.monotonic() + seconds
    said = ""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?{how}", uri=True, timeout=5)) as connection:
            tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            status, said, remedy = schema(tables, tables, lambda table: connection.execute(_VERSION.format(table)).fetchone())
            if status == "ok":
                connection.set_progress_handler(lambda: time.monotonic() > until, 10_000)
                for (wrong,) in connection.execute("PRAGMA quick_check(1)"):
                    if wrong != "ok":
                        raise sqlite3.DatabaseError(wrong)
    except sqlite3.OperationalError as error:
        if str(error) == "interrupted":
            what = f"'{path}': {said}, not checked to its end in {seconds:.0f} s"
            return Finding("database", "warn", what, "PRAGMA quick_check in the sqlite3 program checks it all")
        mend = "check the rights of the file and of its folder"
        return Finding("database", "fail", f"'{path}' cannot be opened: {error}", mend)
    except sqlite3.DatabaseError as error:
        what = f"'{path}' is damaged: {' '.join(str(error).split())}"
        return Finding("database", "fail", what, "restore a copy; `sqlite3 FILE .recover` saves what can still be read")
    size = sum(each.stat().st_size for each in (path, Path(f"{path}-wal")) if each.exists())
    checked = f", {size / (1 << 20):.1f} MB, checked" if status == "ok" else ""
    return Finding("database", status, f"'{path}': {said}{checked}", remedy)


_VERSION = "SELECT version_num FROM {}"


def schema(tables: set[str], strangers: set[str], ask: Callable[[str], Any]) -> tuple[Status, str, str]:
    """Whether it is ours, and of a version that we know. `strangers`: tables that, without a version, mean another's."""
    from store.schema import HEAD, VERSION_TABLE, VERSIONS

    row = ask(VERSION_TABLE) if VERSION_TABLE in tables else None
    if row is None and strangers - {VERSION_TABLE}:
        what = f"of another application (it has a table '{min(strangers - {VERSION_TABLE})}')"
        return "fail", what, "name another database"
    if row is None:
        return "ok", "empty: the first run makes its tables", ""
    if row[0] not in VERSIONS:
        return (
            "fail",
            f"schema version '{row[0]}', this program knows up to '{HEAD}'",
            "update Ponderosa, or name another database",
        )
    older = "" if row[0] == HEAD else f", brought up to {HEAD} by the next command that opens it"
    return "ok", f"schema version {row[0]}{older}", ""


def _of_a_server(url: URL) -> list[Check]:
    return [("database", lambda: database_server(url)), ("commit", lambda: latency_of_server(url))]


def database_server(url: URL) -> Finding:
    """Opens, is ours or empty, and keeps what it has acknowledged."""
    from sqlalchemy import inspect, text
    from sqlalchemy.exc import DBAPIError

    from store.schema import metadata as ours

    shown = url.set(query={}).render_as_string(hide_password=True)

    def look(connection: Connection) -> Finding:
        def ask(sql: str) -> Any:
            return connection.execute(text(sql)).fetchone()

        tables = set(inspect(connection).get_table_names())
        status, said, remedy = schema(tables, tables & set(ours.tables), lambda table: ask(_VERSION.format(table)))
        version, size, may, replica = ask(
            "SELECT current_setting('server_version'), pg_database_size(current_database()),"
            " coalesce(has_schema_privilege(current_schema(), 'CREATE'), false), pg_is_in_recovery()"
        )
        what = f"{shown}: PostgreSQL {version.split()[0]}, {said}, {size / (1 << 20):.1f} MB"
        if status == "ok" and replica:
            return Finding("database", "fail", f"{what}, a read-only copy", "name the server that is written to")
        if status == "ok" and not may:
            mend = "GRANT CREATE, USAGE ON SCHEMA public TO the role, or name a database that it owns"
            return Finding("database", "fail", f"{what}, the role may make no tables", mend)
        off = [s for s in ("fsync", "full_page_writes", "synchronous_commit") if ask(f"SHOW {s}")[0] == "off"]
        if status == "ok" and off:
            what += f", {' and '.join(off)} off: a power cut may lose what was stored"
            return Finding("database", "warn", what, "set it on")
        return Finding("database", status, what, remedy)

    try:
        return _connected(url, look)
    except ImportError as error:
        return Finding("database", "fail", f"{shown}: the driver is missing ({error})", "pip install 'psycopg[binary]>=3.2'")
    except DBAPIError as error:
        said = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0]
        mend = "check that the server runs, and the URL's host, name, user and password"
        return Finding("database", "fail", f"{shown}: {said}", mend)


def latency_of_server(url: URL) -> Finding:
    """Of a commit that the server has to write: a message in its log, which no table sees."""
    from sqlalchemy import text
    from sqlalchemy.exc import DBAPIError

    def look(connection: Connection) -> Finding:
        def write() -> None:
            connection.execute(text("SELECT pg_logical_emit_message(true, 'ponderosa doctor', '')"))
            connection.commit()

        return commits(write)

    try:
        return _connected(url, look)
    except (ImportError, DBAPIError):
        return Finding("commit", "fail", "not measured: the server gave no answer", "see the database")


def _connected(url: URL, look: Callable[[Connection], Finding]) -> Finding:
    from sqlalchemy import NullPool, create_engine, text

    engine = create_engine(url, poolclass=NullPool, connect_args={"connect_timeout": 5})
    with engine.connect() as connection:
        connection.execute(text("SET statement_timeout = 10000"))
        connection.commit()
        return look(connection)
