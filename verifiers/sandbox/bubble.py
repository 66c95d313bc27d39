"""One program in bubblewrap: started, fed, read up to a cap, and ended with everything that it started.

The program sees /usr and nothing else of the machine: no /etc, no /proc, no /dev but null, zero and urandom, no home, no
network, no environment. All of it is read-only, bubblewrap's own root too, which would else be a tmpfs without a bound. A /tmp
to write to is made only where it is asked for: its size is bounded, but not the number of its files, which are the kernel's
memory (100 MB a second have been seen). It runs as a user that is not root, for root is not bound by a limit of processes.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .filter import program
from .limits import Ended, Limits, Outcome

PYTHON = "/usr/bin/python3"
INSIDE = Path(__file__).with_name("inside.py")
FIRST_USER, USERS = 60_600, 400  # ids that no distribution hands out (systemd's UIDS-GIDS page)
START = 20.0  # seconds within which bubblewrap has to have made the namespaces
HARD = ("--unshare-all", "--unshare-user", "--disable-userns", "--die-with-parent", "--new-session", "--clearenv")
_users = itertools.count(os.getpid())


def bubblewrap() -> str | None:
    """The program's path, or None where it is missing."""
    return shutil.which("bwrap")


def profile(scratch: int, mounts: Sequence[str] = ()) -> list[str]:
    """bubblewrap's arguments. `mounts` are further files or folders, read-only, at their own paths."""
    words = [*HARD, "--cap-drop", "ALL", "--hostname", "sandbox", "--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        place = Path("/", name)
        if place.is_symlink():
            words += ["--symlink", os.readlink(place), str(place)]
        elif place.is_dir():
            words += ["--ro-bind", str(place), str(place)]
    for name in ("null", "zero", "urandom"):
        words += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    words += ["--size", str(scratch), "--tmpfs", "/tmp"] if scratch else ["--dir", "/tmp"]
    for mount in mounts:
        words += ["--ro-bind", mount, mount]
    return [*words, "--remount-ro", "/", "--chdir", "/tmp", "--setenv", "PATH", "/usr/bin:/bin", "--setenv", "LANG", "C.UTF-8"]


def identity() -> dict[str, Any]:
    """As whom Popen is to start bubblewrap: another one each time where we are root, so that two runs share no count of
    processes; else as we are."""
    if os.geteuid() != 0:
        return {}
    user = FIRST_USER + next(_users) % USERS
    return {"user": user, "group": user, "extra_groups": []}


def launch(
    command: Sequence[str],
    feed: bytes = b"",
    limits: Limits = Limits(),
    mounts: Sequence[str] = (),
    bwrap: str | None = None,
) -> Outcome:
    """Runs a command in a sandbox of its own, with `feed` as its input; nothing of it is left when this returns.

    Only the wall time, the output and /tmp are bounded here: what runs first inside sets the rest of the limits.
    """
    began = time.monotonic()
    with _pipes() as (info, block), _filter() as bpf:
        words = [bwrap or bubblewrap() or "bwrap", *profile(limits.scratch, mounts)]
        words += ["--info-fd", str(info[1]), "--block-fd", str(block[0]), "--seccomp", str(bpf), "--", *command]
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={},
            cwd="/",
            pass_fds=(info[1], block[0], bpf),
            start_new_session=True,
            **identity(),
        )
        first = None
        try:
            os.close(info.pop())
            first = _first(info[0], began + START)
            until = time.monotonic() + limits.seconds  # a machine that is busy makes a sandbox slowly: not the program's fault
            if first is not None:
                os.write(block[1], b"x")  # it waits for this: until here its id is its own
            ended, output, errors = _conversation(process, feed, limits, until)
            if ended is Ended.ITSELF and not _exits(process, until):
                ended = Ended.TIMEOUT
        finally:
            status = _end(process, first)
    if first is None:
        ended = Ended.REFUSED
    return Outcome(ended, status, output, errors.decode(errors="replace"), time.monotonic() - began)


@contextmanager
def _pipes() -> Iterator[tuple[list[int], list[int]]]:
    """Two pipes as [read, write], closed at the end; an end that is closed before is popped."""
    pairs = [list(os.pipe()), list(os.pipe())]
    try:
        yield pairs[0], pairs[1]
    finally:
        for end in itertools.chain(*pairs):
            os.close(end)


@contextmanager
def _filter() -> Iterator[int]:
    """The seccomp filter as a file that bubblewrap can read."""
    fd = os.memfd_create("filter")
    try:
        os.write(fd, program())
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def _first(info: int, until: float) -> int | None:
    """The first process of the namespace, as a file descriptor; None where bubblewrap made none. All others end with it."""
    said = b""
    while b"}" not in said and _readable(info, until):
        data = os.read(info, 4096)
        if not data:
            break
        said += data
    try:
        return os.pidfd_open(json.loads(said)["child-pid"])
    except (ValueError, KeyError, ProcessLookupError):
        return None


def _readable(fd: int, until: float | None = None) -> bool:
    """Waits for it; select.select knows no descriptor above 1023."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if until is None else max(until - time.monotonic(), 0) * 1000))


def _conversation(process: subprocess.Popen[bytes], feed: bytes, limits: Limits, until: float) -> tuple[Ended, bytes, bytes]:
    """Feeds and reads until both of its outputs are closed, the time is up or the cap is reached."""
    fed, *outputs = (_unblocked(pipe) for pipe in (process.stdin, process.stdout, process.stderr))
    got, reading, rest, ended = {end: bytearray() for end in outputs}, set(outputs), memoryview(feed), Ended.ITSELF
    with selectors.DefaultSelector() as selector:
        for end in (fed, *outputs):
            selector.register(end, selectors.EVENT_WRITE if end == fed else selectors.EVENT_READ)
        while reading and ended is Ended.ITSELF:
            ready = selector.select(max(until - time.monotonic(), 0))
            ended = ended if ready else Ended.TIMEOUT
            for end in (key.fd for key, _ in ready):
                if end == fed:
                    rest = _written(fed, rest)
                    if not rest:
                        selector.unregister(fed)
                        _close(process.stdin)
                    continue
                data = os.read(end, 65536)
                got[end] += data
                if not data:
                    selector.unregister(end)
                    reading.discard(end)
                elif len(got[end]) > limits.output:
                    ended = Ended.FLOOD
    output, errors = (bytes(memoryview(got[end])[: limits.output]) for end in outputs)
    return ended, output, errors


def _unblocked(pipe: IO[bytes] | None) -> int:
    assert pipe is not None
    os.set_blocking(pipe.fileno(), False)
    return pipe.fileno()


def _written(fed: int, rest: memoryview) -> memoryview:
    """What is left to write; nothing where nobody reads."""
    try:
        return rest[os.write(fed, rest[:65536]) :] if rest else rest
    except BrokenPipeError:
        return rest[:0]


def _exits(process: subprocess.Popen[bytes], until: float) -> bool:
    try:
        process.wait(max(until - time.monotonic(), 0.05))
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(process: subprocess.Popen[bytes], first: int | None) -> int:
    """Kills what is left and waits until the whole namespace is gone; the exit status of the command, as bubblewrap has it.

    A descriptor of a process becomes readable when the process has ended, and the first of a namespace ends last.
    """
    if first is None:
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(first, signal.SIGKILL)
        _readable(first)
        os.close(first)
    status = process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        _close(pipe)
    return 128 - status if status < 0 else status


def _close(pipe: IO[bytes] | None) -> None:
    with contextlib.suppress(OSError):
        if pipe is not None:
            pipe.close()


__all__ = ["INSIDE", "PYTHON", "bubblewrap", "identity", "launch", "profile"]
