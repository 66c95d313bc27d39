"""Prefect's temporary server as a child of a command: apart from its terminal, and never longer than it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

_DEATH = 1  # PR_SET_PDEATHSIG of prctl(2)


def apart() -> None:
    """Has Prefect start its temporary server in a process group of its own. A Ctrl-C in the terminal would end it before the
    flow could report to it that it was stopped, and Prefect would ask a dead server for minutes. Where this process is killed,
    Linux ends the server. Nothing to do with a server that is there."""
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
        return
    from prefect.server.api import server

    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def with_us() -> None:
        os.setpgid(0, 0)
        if libc is not None:
            libc.prctl(_DEATH, signal.SIGTERM)

    def started(**given: Any) -> subprocess.Popen[Any]:
        return subprocess.Popen(**given, preexec_fn=with_us)

    if getattr(server, "subprocess", None) is subprocess:
        shim = SimpleNamespace(Popen=started, TimeoutExpired=subprocess.TimeoutExpired)
        server.subprocess = shim  # type: ignore[attr-defined, assignment]
