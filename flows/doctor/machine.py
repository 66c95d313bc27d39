"""Checks of the machine: processors, memory, devices, the sandbox."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from verifiers.sandbox import available
from verifiers.sandbox.bubble import PYTHON, bubblewrap

from .finding import Finding

GB = 1 << 30


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


def sandbox(tried: Callable[[], tuple[str, str] | None] = available.tried) -> Finding:
    """Runs a program in the whole profile, once. A warning at most: only what runs such code needs it, and is refused."""
    refused = tried()
    if refused is None:
        return Finding("sandbox", "ok", f"bubblewrap and the seccomp filter work ({bubblewrap()}, {PYTHON})")
    return Finding("sandbox", "warn", f"{refused[0]}: verifiers program and command and grader code cannot run", refused[1])
