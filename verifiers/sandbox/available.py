"""Whether a sandbox can be made here: the whole profile is run once, and what refuses it is named with the remedy."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

from .bubble import PYTHON, bubblewrap
from .filter import MACHINES, known
from .trials import How, run

INSTALL = "install bubblewrap 0.8 or newer"
APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
# What must hold inside. The filter's own answer to a socket is 97; without it a socket can be made.
PROBE = """
import os, socket
def probe():
    try:
        socket.socket(socket.AF_INET).close()
        call = 0
    except OSError as error:
        call = error.errno
    return [call, os.getuid() != 0, os.path.exists("/etc/passwd")]
"""
WANTED = [97, True, False]


class Unavailable(Exception):
    """Something needs the sandbox, and none can be made: one line that says why, and the remedy."""

    exit_code = 69  # EX_UNAVAILABLE: a program that is needed is missing, or does not work here


def require() -> None:
    """Raises Unavailable where model-written code cannot be run. Tried once for the process."""
    refused = tried()
    if refused is not None:
        raise Unavailable(f"no sandbox for model-written code: {refused[0]}; {refused[1]}")


@lru_cache(maxsize=1)
def tried() -> tuple[str, str] | None:
    """(what refuses, the remedy), or None where the sandbox works."""
    if sys.platform != "linux" or not known():
        machines = " or ".join(MACHINES)
        return f"it is made for Linux on {machines}, not {sys.platform} on {platform.machine()}", "use such a machine"
    if bubblewrap() is None:
        return "bwrap is missing", INSTALL
    if not Path(PYTHON).exists():
        return f"{PYTHON} is missing", "install the system's Python 3"
    try:
        ran = run(PROBE, "call", [[]], entry="probe", seconds=15)
    except PermissionError as error:
        return f"another user than root cannot be taken ({error})", "run as a plain user, or with the right to change users"
    except (OSError, subprocess.SubprocessError) as error:
        return f"bwrap cannot be run ({error})", INSTALL
    if ran.refused:
        return refusal(ran.refused, restricted())
    [result] = ran.results
    if result.how is not How.DONE:
        return f"a program fails in it ({result.how}: {result.detail})", "run `ponderosa doctor` where it works, and compare"
    if result.value != WANTED:
        return f"it does not hold (got {result.value}, not {WANTED})", "do not run model-written code here"
    return None


def restricted() -> bool:
    """Whether AppArmor keeps user namespaces from programs without a profile, as Ubuntu's does."""
    return APPARMOR.is_file() and APPARMOR.read_text().strip() == "1"


def refusal(said: str, apparmor: bool) -> tuple[str, str]:
    """What keeps bubblewrap from working, and the remedy, from what it said."""
    line = (said.strip().splitlines() or ["no message"])[-1].removeprefix("bwrap: ")
    if "unknown option" in line.lower():
        return f"bwrap is too old ({line})", INSTALL
    if "seccomp" in line.lower() or "PR_SET_NO_NEW_PRIVS" in line:
        return f"the seccomp filter is refused ({line})", "use a kernel and a container that allow seccomp filters"
    if "python" in line.lower():
        return f"Python does not start in it ({line})", "install the system's Python 3 under /usr"
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


__all__ = ["Unavailable", "refusal", "require", "restricted", "tried"]
