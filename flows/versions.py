"""What any result depends on beside its run's spec and its models: versions, the machine, the commit."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def versions() -> dict[str, str]:
    """What any result depends on: versions, the machine, the commit."""
    names = ("torch", "transformers", "tokenizers", "numpy", "numba", "prefect", "sqlalchemy", "psycopg", "math-verify")
    return {
        **{name: _installed(name) for name in names},
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "machine": platform.machine(),
        "processor": _processor(),
        "system": platform.system(),
        "threads": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())),
        "commit": commit(),
    }


@lru_cache(maxsize=16)
def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


@lru_cache(maxsize=1)
def _processor() -> str:
    """The CPU's name, or what the platform says of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


@lru_cache(maxsize=1)
def commit() -> str:
    """The commit the code was taken from, with "+" where files differ from it; empty outside a checkout."""
    here = Path(__file__).resolve().parent
    ask = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=10"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


__all__ = ["commit", "versions"]
