"""Checks of the programs: Python, packages, this code, the models, Prefect."""

from __future__ import annotations

import json as jsonlib
import os
import platform
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

from .finding import Finding

LIMIT = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"


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
