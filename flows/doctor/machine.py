"""Checks of the machine: processors, memory, devices, the sandbox."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

from .finding import Finding

GB = 1 << 30
# what the sandbox of model-written code would be started with, around a program that does nothing
PROFILE = (
    *("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session", "--clearenv"),
    *("--cap-drop", "ALL", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"),
)


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
