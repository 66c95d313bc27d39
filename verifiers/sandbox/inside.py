# ruff: noqa: SIM105  contextlib would be read at every start
"""What runs first inside the sandbox: it sets the limits, then runs the candidate's program on each test in a child of its own.

Read as text and given to `/usr/bin/python3 -I -S -c`; it imports nothing of ours and runs on any Python from 3.9. Its first
four bytes of input are the length of a job, a JSON object; after the job come 32 bytes, the run's nonce, which are read only
when the last test is over. No child has the input or the reply's pipe open, and none can look into this process (there is no
/proc, and the filter refuses ptrace and its kin): so the nonce cannot be known by the program under test, and the replies
cannot be written by it. What it can decide is its own test's result, which is all that it is asked for. Expected values are
not in the job.

With a command instead of a program it sets the limits and becomes that command; the rest of the input is the command's.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
from typing import Any

TAIL = 300  # characters kept of what a program says of its failure
NOT_RUN_ON = ("timeout", "flood", "signal 24")  # how a test ends that the others are not tried after; 24 is SIGXCPU


def exactly(size: int) -> bytes:
    """The next `size` bytes of the input."""
    parts = []
    while size:
        part = os.read(0, size)
        if not part:
            os._exit(3)
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def say(data: bytes, to: int = 1) -> None:
    while data:
        data = data[os.write(to, data) :]


def plain(value: Any, depth: int = 0) -> Any:
    """The value in JSON's types, tuples as lists. TypeError for any other type, subclasses too; nothing is converted."""
    if depth > 50:
        raise TypeError("nested more than 50 deep")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return [plain(each, depth + 1) for each in value]
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: plain(each, depth + 1) for key, each in value.items()}
    raise TypeError("returned a " + type(value).__name__ + ", which JSON cannot write")


def called(scope: Any, entry: str, arguments: Any) -> Any:
    """A function by its name, or a method as `Solution.name`, called with the test's arguments."""
    first, _, rest = entry.partition(".")
    found = scope[first]
    for name in filter(None, rest.split(".")):
        found = getattr(found() if isinstance(found, type) else found, name)
    return found(*arguments)


def compiled(source: str, name: str) -> Any:
    """The code, or what keeps it from being compiled, as text."""
    try:
        return compile(source, name, "exec", dont_inherit=True)
    except BaseException as error:
        return (type(error).__name__ + ": " + str(error))[:TAIL]


def performed(job: Any, test: Any) -> list[Any]:
    """One test, in the child: whether it went well, and its value or what went wrong. In place of whether: "program" where
    that is no Python, "suite" where the suite is none; then nothing is run."""
    imported = job["kind"] in ("call", "suite")
    program, suite = compiled(job["source"], "program"), compiled(test if job["kind"] == "suite" else "", "suite")
    if type(suite) is str:
        return ["suite", suite]
    if type(program) is str:
        return ["program", program]
    scope = {"__name__": "candidate" if imported else "__main__", "__builtins__": __builtins__}
    try:
        try:
            exec(program, scope)
        except SystemExit as error:
            if imported or error.code not in (None, 0):
                raise
        if job["kind"] == "call":
            return [True, plain(called(scope, job["entry"], test))]
        if job["kind"] == "suite":
            exec(suite, scope)
            if job["entry"] and "check" in scope:
                scope["check"](scope[job["entry"]])  # type: ignore[operator]
            return [True, None]
        return [True, None if scope.get("answer") is None else str(scope["answer"])[:2000]]
    except BaseException as error:
        return [False, (type(error).__name__ + ": " + str(error))[:TAIL]]


def child(job: Any, test: Any, back: int) -> None:
    """The child's whole life."""
    resource.setrlimit(resource.RLIMIT_CPU, (job["cpu"], job["cpu"] + 1))
    sys.argv = ["program"]
    try:
        reply = json.dumps(performed(job, test), allow_nan=False).encode()
    except BaseException as error:
        reply = json.dumps([False, (type(error).__name__ + ": " + str(error))[:TAIL]]).encode()
    try:
        sys.stdout.flush()
    except BaseException:
        pass
    say(reply, back)
    os._exit(0)


def started(job: Any, test: Any) -> tuple[int, int, int, int]:
    """Starts a test's child: the pipes its result and its printed output are read from, the one it is fed by, and itself."""
    back, printed, fed = os.pipe(), os.pipe(), os.pipe()
    pid = os.fork()
    if pid:
        for end in (back[1], printed[1], fed[0]):
            os.close(end)
        return back[0], printed[0], fed[1], os.pidfd_open(pid)
    os.dup2(fed[0], 0)
    os.dup2(printed[1], 1)
    os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
    os.dup2(back[1], 3)
    os.closerange(4, 256)
    child(job, test, 3)
    raise AssertionError


def fed_some(fed: int, text: bytes, poll: select.poll) -> bytes:
    """What is left of the input; its pipe is closed where nothing is."""
    try:
        text = text[os.write(fed, text[:65536]) :] if text else b""
    except OSError:  # nobody reads it any more
        text = b""
    if not text:
        poll.unregister(fed)
        close(fed)
    return text


def close(end: int) -> None:
    try:
        os.close(end)
    except OSError:  # it was closed before
        pass


def watched(ends: tuple[int, int, int, int], text: bytes, seconds: float, most: int) -> tuple[bytes, bytes, str]:
    """Feeds a child and reads it until it ends (what it left running may hold its pipes open, and is not waited for): its
    result, its output, "" or why it was given up."""
    back, printed, fed, process = ends
    poll, until, over = select.poll(), time.monotonic() + seconds, False
    for end in ends:
        os.set_blocking(end, False)
        poll.register(end, select.POLLOUT if end == fed else select.POLLIN)
    got, reading, why = {back: b"", printed: b""}, {back, printed}, ""
    while (reading or not over) and not why:
        events = poll.poll(0 if over else max(until - time.monotonic(), 0) * 1000)
        if over and not any(end in reading for end, _ in events):
            break  # it has ended, and what it wrote is read
        if not events:
            why = "timeout"
        for end, _ in events:
            if end == process:
                over = True
                poll.unregister(process)
                continue
            if end == fed:
                text = fed_some(fed, text, poll)
                continue
            data = os.read(end, 65536)
            got[end] += data
            if not data:
                poll.unregister(end)
                reading.discard(end)
            elif len(got[end]) > most:
                why = "flood"
    for end in (back, printed, process):
        os.close(end)
    close(fed)
    return got[back], got[printed], why


def tested(job: Any, test: Any) -> list[str]:
    """One test: how it ended, the child's result, what it printed. Nothing of it is left running."""
    text = test.encode("utf-8", "replace") if job["kind"] == "stdin" else b""
    back, printed, why = watched(started(job, test), text, job["seconds"], job["most"])
    try:
        os.kill(-1, signal.SIGKILL)  # all of the namespace but this process and its init
    except ProcessLookupError:
        pass
    status = os.wait()[1]
    if not why and not back:
        why = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "exit"
    return [why, back.decode("utf-8", "replace"), printed.decode("utf-8", "replace")]


def main() -> None:
    job = json.loads(exactly(int.from_bytes(exactly(4), "big")))
    for name, value in job["limits"].items():  # hard limits: no child can raise them again
        resource.setrlimit(getattr(resource, name), (value, value))
    if "command" in job:
        resource.setrlimit(resource.RLIMIT_CPU, (job["cpu"], job["cpu"] + 1))
        say(b"ready\n")
        try:
            os.execv(job["command"][0], job["command"])
        except OSError as error:  # a script whose interpreter is not there
            say(f"{job['command'][0]}: {error.strerror}\n".encode(), 2)
            os._exit(126)
    say(b"ready\n")
    for test in job["tests"]:
        result = tested(job, test)
        say(json.dumps(result, ensure_ascii=False).encode() + b"\n")  # without escapes: text takes no more room than it has
        if result[0] in NOT_RUN_ON:
            break
    say(exactly(32) + b"\n")
    os._exit(0)


if __name__ == "__main__":
    main()
