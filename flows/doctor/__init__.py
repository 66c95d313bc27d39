"""What could keep the system from working here: versions, the database and its folder, the sandbox, devices, Prefect, models.

A finding is ok, warn (works, with the risk that it names) or fail (will not work), with the remedy. A check only looks: it
creates no database, migrates none, and leaves no file behind. What a check takes beside its subject is there for the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli import FOLDER

from .database import database_file, database_server, latency_of_server
from .finding import Check, Finding
from .folder import commits, disk, file_system, latency, sqlite, writable
from .machine import cuda, memory, sandbox, threads
from .programs import LIMIT, code, fastapi, models, packages, prefect, python

if TYPE_CHECKING:
    from sqlalchemy import URL


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
    from flows import records, tables
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
        records.tell(*told)
    return int(failed)


def _tried(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:
        what = f"could not be examined: {type(error).__name__}: {' '.join(str(error).split())}"
        return Finding(name, "fail", what, "see what the error names; the other findings do not depend on it")


# ------------------------------------------------------------------------------------------------- what there is to check


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


def _of_a_server(url: URL) -> list[Check]:
    return [("database", lambda: database_server(url)), ("commit", lambda: latency_of_server(url))]


__all__ = [
    "LIMIT",
    "Check",
    "Finding",
    "code",
    "commits",
    "cuda",
    "database_file",
    "database_server",
    "disk",
    "examine",
    "fastapi",
    "file_system",
    "findings",
    "latency",
    "latency_of_server",
    "memory",
    "models",
    "packages",
    "prefect",
    "python",
    "run",
    "sandbox",
    "sqlite",
    "threads",
    "writable",
]
