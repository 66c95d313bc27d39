"""The escape suite: what model-written code might try, each as root (where we are) and as a plain user, and nothing survives.

Where no sandbox can be made the tests are skipped with the reason, and fail where PONDEROSA_REQUIRE_SANDBOX=1 (as in .ci/run).
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from verifiers import sandbox
from verifiers.code import judge
from verifiers.sandbox import available, bubble, filter, trials
from verifiers.sandbox.available import Unavailable, refusal
from verifiers.sandbox.limits import Limits
from verifiers.sandbox.plain import parsed, same, same_output
from verifiers.sandbox.trials import How, Ran, Result

PACKAGE = Path(sandbox.__file__).parent
MARK = f"mark-{secrets.token_hex(8)}"  # in the command line of everything that this file starts
PLAIN = 61_150  # a user that nobody is
ROOT = os.geteuid() == 0
SCRATCH = 16 << 20
RUNNER = """
import json, sys
from dataclasses import asdict
sys.path.insert(0, sys.argv[1])
from verifiers.sandbox import Limits, run
asked = json.load(sys.stdin)
ran = run(*asked["words"], seconds=asked["seconds"], limits=Limits(**asked["limits"]))
print(json.dumps(asdict(ran)))
"""


@pytest.fixture(scope="module", autouse=True)
def there() -> None:
    refused = available.tried()
    if refused is not None:
        line = f"no sandbox here: {refused[0]}; {refused[1]}"
        pytest.fail(line) if os.environ.get("PONDEROSA_REQUIRE_SANDBOX") == "1" else pytest.skip(line)


@pytest.fixture(scope="module")
def copied() -> Iterator[Path]:
    """The sandbox's code where any user can read it, marked."""
    folder = Path(tempfile.mkdtemp(prefix="ponderosa-"))
    folder.chmod(0o755)
    shutil.copytree(PACKAGE, folder / "verifiers" / "sandbox", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "verifiers" / "__init__.py").touch()
    inside = folder / "verifiers" / "sandbox" / "inside.py"
    inside.write_text(f"# {MARK}\n{inside.read_text()}")
    yield folder
    shutil.rmtree(folder)


class Attack:
    """Runs a program that misbehaves, as one user or the other, and gives what came out of the sandbox."""

    def __init__(self, plain: bool, folder: Path) -> None:
        self.plain, self.folder = plain, folder

    def __call__(self, source: str, kind: str = "call", test: Any = None, seconds: float = 8.0, **limits: Any) -> Result:
        [result] = self.ran(source, kind, [[] if test is None else test], seconds, **limits).results
        return result

    def ran(self, source: str, kind: str, tests: list[Any], seconds: float = 8.0, **limits: Any) -> Ran:
        entry = "attack" if kind == "call" else ""
        if not self.plain:
            return sandbox.run(source, kind, tests, entry, seconds, Limits(**limits))  # type: ignore[arg-type]
        asked = {"words": [source, kind, tests, entry], "seconds": seconds, "limits": limits}
        done = subprocess.run(
            ["/usr/bin/python3", "-c", RUNNER, str(self.folder)],
            input=json.dumps(asked),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            cwd="/",
            user=PLAIN,
            group=PLAIN,
            extra_groups=[],
        )
        found = json.loads(done.stdout)
        results = tuple(Result(How(each.pop("how")), **each) for each in found.pop("results"))
        return Ran(results, **found)


WHO = [False, True] if ROOT else [False]


@pytest.fixture(params=WHO, ids=["as-we-are", "plain-user"][: len(WHO)])
def attack(request: pytest.FixtureRequest, copied: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Attack]:
    monkeypatch.setattr(trials, "inside", lambda: f"# {MARK}\n{bubble.INSIDE.read_text()}")
    before = len(os.listdir("/proc/self/fd"))
    yield Attack(request.param, copied)
    assert survivors() == []
    assert len(os.listdir("/proc/self/fd")) == before, "a file descriptor is left open here"


def survivors() -> list[str]:
    """What of ours still runs: bubblewrap, what runs first inside, and all its forks have the mark in their command lines."""
    left = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and MARK.encode() in (entry / "cmdline").read_bytes():
                left.append(entry.name)
        except OSError:
            continue
    return left


# ------------------------------------------------------------------------------------------------------- what it can reach

TRIED = """
import errno, os, socket
def tried(what, *arguments, **more):
    try:
        return repr(what(*arguments, **more))
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__)
    except Exception as error:
        return type(error).__name__
"""


def test_the_network_is_not_there(attack: Attack) -> None:
    """A listener of ours on the loopback must see nobody, nor one at an abstract address, which no file protects."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        abstract = f"ponderosa-{secrets.token_hex(4)}"
        unix.bind(f"\0{abstract}")
        unix.listen()
        source = TRIED + (
            f"def attack():\n"
            f"    inet = tried(socket.create_connection, ('127.0.0.1', {tcp.getsockname()[1]}), timeout=1)\n"
            f"    kinds = [tried(socket.socket, kind) for kind in (socket.AF_INET, socket.AF_INET6, 16, 17, 40)]\n"
            f"    unix = socket.socket(socket.AF_UNIX)\n"
            f"    local = tried(unix.connect, chr(0) + {abstract!r})\n"
            f"    return [inet, local, tried(socket.getaddrinfo, 'localhost', 80), *kinds]\n"
        )
        result = attack(source)
        for server in (tcp, unix):
            server.setblocking(False)
            with pytest.raises(BlockingIOError):
                server.accept()
    assert result.value == ["EAFNOSUPPORT", "ECONNREFUSED", "gaierror", *["EAFNOSUPPORT"] * 5]


def test_no_file_of_the_machine_is_there_but_usr(attack: Attack, copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets are in homes, in /etc, in /tmp, in the environment, and in files that are open here."""
    monkeypatch.setenv("PONDEROSA_CANARY", "canary-in-environment")
    secret = copied / "secret.txt"
    secret.write_text("canary-in-file")
    secret.chmod(0o644)
    with secret.open() as opened:
        os.set_inheritable(opened.fileno(), True)
        places = [
            "/etc/passwd",
            "/root",
            "/home",
            "/proc/self/environ",
            "/proc/1/root",
            "/sys",
            "/dev/shm",
            "/run",
            str(secret),
        ]
        result = attack(
            TRIED + f"def attack():\n"
            f"    return [sorted(os.listdir('/')), sorted(os.listdir('/tmp')), sorted(os.listdir('/dev')), dict(os.environ),\n"
            f"        [tried(os.stat, each) for each in {places!r}],\n"
            f"        [i for i in range(1024) if tried(os.fstat, i) != 'EBADF']]\n"
        )
    root, tmp, dev, environ, found, descriptors = result.value
    assert set(root) <= {"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "tmp", "dev"}
    assert (tmp, dev, descriptors) == ([], ["null", "urandom", "zero"], [0, 1, 2, 3])
    assert set(environ) <= {"PATH", "LANG", "PWD", "LC_CTYPE"}
    assert set(found) == {"ENOENT"}


def test_nothing_can_be_written(attack: Attack) -> None:
    """bubblewrap's own root and /dev are a tmpfs without a bound: writable, they would fill the machine's memory."""
    result = attack(
        TRIED + "def attack():\n"
        "    places = ['/x', '/tmp/x', '/dev/x', '/usr/x', '/usr/bin/x', '/lib/x', '/usr/lib/python3/x']\n"
        "    return [[tried(open, each, 'w') for each in places],\n"
        "        [tried(os.chmod, each, 0o777) for each in ('/', '/usr', '/dev', '/tmp')],\n"
        "        tried(os.mkdir, '/x'), tried(os.rename, '/usr', '/tmp/usr'), tried(os.mknod, '/tmp/sda', 0o60666, 0x800),\n"
        "        tried(os.unlink, '/usr/bin/python3')]\n"
    )
    writes, modes, *others = result.value
    assert set(writes) <= {"EROFS", "EACCES"}
    assert set(modes) <= {"EROFS", "EPERM"}
    assert set(others) <= {"EROFS", "EPERM", "EACCES", "EXDEV"}


def test_links_lead_nowhere(attack: Attack, copied: Path) -> None:
    target = copied / "verifiers" / "__init__.py"
    result = attack(
        TRIED + f"def attack():\n"
        f"    out = []\n"
        f"    places = ['/etc/passwd', {str(target)!r}, '/../../etc/passwd', '/proc/self/root', '../../../etc']\n"
        f"    for i, to in enumerate(places):\n"
        f"        os.symlink(to, f'/tmp/{{i}}')\n"
        f"        out.append(tried(open, f'/tmp/{{i}}'))\n"
        f"    os.symlink('/usr/written', '/tmp/write')\n"
        f"    hard = tried(os.link, '/usr/bin/python3', '/tmp/hard')\n"
        f"    return [*out, tried(open, '/tmp/write', 'w'), hard, tried(os.chroot, '/tmp')]\n",
        scratch=SCRATCH,
    )
    *reads, write, hard, root = result.value
    assert set(reads) == {"ENOENT"}
    assert write in ("EROFS", "EACCES")
    assert (hard in ("EXDEV", "EPERM"), root) == (True, "EPERM")


def test_it_has_no_rights_and_gets_none(attack: Attack) -> None:
    result = attack(
        TRIED + "import ctypes, resource\n"
        "def attack():\n"
        "    libc = ctypes.CDLL(None)\n"
        "    caps = [libc.prctl(23, each, 0, 0, 0) for each in range(41)]\n"
        "    raised = tried(resource.setrlimit, resource.RLIMIT_NPROC, (4096, 4096))\n"
        "    return [os.getuid() != 0, sum(caps), libc.prctl(39, 0, 0, 0, 0), libc.prctl(21, 0, 0, 0, 0),\n"
        "        tried(os.setuid, 0), tried(os.setgroups, [0]), raised, tried(os.nice, -5)]\n"
    )
    assert result.value == [True, 0, 1, 2, "EINVAL", "EPERM", "ValueError", "EPERM"]  # there is no user 0


def test_the_filter_refuses_what_it_names(attack: Attack) -> None:
    """bubblewrap sets no filter of its own; keyrings and the calls of past kernel defects are not held by namespaces."""
    column = filter.MACHINES[os.uname().machine][0]
    calls = {name: int(numbers[column]) for name, numbers in filter.REFUSED.items() if numbers[column] != "-"}
    result = attack(
        f"import ctypes, errno\n"
        f"def attack():\n"
        f"    libc = ctypes.CDLL(None, use_errno=True)\n"
        f"    out = {{}}\n"
        f"    for name, number in {calls!r}.items():\n"
        f"        ctypes.set_errno(0)\n"
        f"        libc.syscall(number, 0, 0, 0, 0, 0, 0)\n"
        f"        out[name] = ctypes.get_errno()\n"
        f"    for flag in (0x10000000, 0x20000, 0x40000000):\n"
        f"        libc.syscall({filter.CLONE[column]}, flag | 17, 0, 0, 0, 0)\n"
        f"        out[hex(flag)] = ctypes.get_errno()\n"
        f"    libc.syscall(435, 0, 0)\n"
        f"    out['clone3'] = 1 if ctypes.get_errno() == errno.ENOSYS else -1\n"
        f"    libc.syscall(1000, 0, 0)\n"
        f"    out['unknown'] = 1 if ctypes.get_errno() == errno.ENOSYS else -1\n"
        f"    return out\n"
    )
    assert len(result.value) == len(calls) + 5
    assert {name for name, code in result.value.items() if code != 1} == set()


def test_a_new_user_namespace_cannot_be_made_by_a_program_either(attack: Attack) -> None:
    """Without --disable-userns it can: there it is root, and much of the kernel is open to it."""
    result = attack(
        "import subprocess\n"
        "def attack():\n"
        "    said = [subprocess.run(each, capture_output=True).returncode for each in (['unshare', '-Ur', 'true'], ['true'])]\n"
        "    return [said[0] != 0, said[1]]\n"
    )
    assert result.value == [True, 0]


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare")
def test_without_the_filter_a_new_user_namespace_cannot_be_made_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two hold it one without the other."""
    monkeypatch.setattr(bubble, "program", lambda: filter._step(filter.RETURN, 0, 0, filter.ALLOW))
    source = "import subprocess\ndef attack(): return subprocess.run(['unshare', '-U', 'true'], capture_output=True).returncode"
    assert sandbox.run(source, "call", [[]], "attack").results[0].value == 1


def judged(code: bytes, architecture: int, number: int, first: int = 0) -> int:
    """What the filter says of a call, by a small interpreter of its own: seccomp's programs need no kernel to be read."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, first, *[0] * 5)
    at, held = 0, 0
    while True:
        operation, then, otherwise, value = struct.unpack_from("=HBBI", code, 8 * at)
        at += 1
        match operation:
            case 0x06:
                return int(value)
            case 0x20:
                (held,) = struct.unpack_from("=I", data, value)
            case _:
                holds = {0x15: held == value, 0x25: held > value, 0x35: held >= value, 0x45: bool(held & value)}[operation]
                at += then if holds else otherwise


@pytest.mark.parametrize("machine", filter.MACHINES)
def test_the_filter_of_each_machine_says_what_it_should(machine: str) -> None:
    """Of the one that is not ours, too. A filter that does not look at the architecture lets 32-bit calls through under other
    numbers, and the x32 calls of x86_64 have a numbering of their own."""
    column, architecture = filter.MACHINES[machine]
    code, other = filter.program(machine), 0x40000003
    fail = {name: filter.FAIL | getattr(errno, name) for name in ("EPERM", "ENOSYS", "EAFNOSUPPORT")}
    common = {"x86_64": {"read": 0, "write": 1, "mmap": 9, "execve": 59, "futex": 202}}
    common["aarch64"] = {"read": 63, "write": 64, "mmap": 222, "execve": 221, "futex": 98}
    refused = {int(numbers[column]) for numbers in filter.REFUSED.values() if numbers[column] != "-"}
    for number in common[machine].values():
        assert judged(code, architecture, number) == filter.ALLOW
        assert judged(code, other, number) == filter.KILL
        assert number not in refused
    assert {judged(code, architecture, number) for number in refused} == {fail["EPERM"]}
    clone, socket_, pair = (each[column] for each in (filter.CLONE, filter.SOCKET, filter.SOCKETPAIR))
    assert judged(code, architecture, clone, 0x3D0F00) == filter.ALLOW  # a thread
    assert {judged(code, architecture, clone, 1 << bit | 17) for bit in (17, *range(25, 31))} == {fail["EPERM"]}
    for each in (socket_, pair):
        assert judged(code, architecture, each, 1) == filter.ALLOW
        assert {judged(code, architecture, each, family) for family in (0, *range(2, 50))} == {fail["EAFNOSUPPORT"]}
    assert {judged(code, architecture, number) for number in (435, 452, 1000, 0x3FFFFFFF)} == {fail["ENOSYS"]}
    assert judged(code, architecture, 0x40000000) == (filter.KILL if machine == "x86_64" else fail["ENOSYS"])


# ----------------------------------------------------------------------------------------------------- how much it can take


def test_a_fork_bomb_is_held(attack: Attack) -> None:
    """RLIMIT_NPROC does not bind root: 1,000 forks of its own have been seen to succeed."""
    result = attack(
        "import os, time\n"
        "def attack():\n"
        "    made = 0\n"
        "    for _ in range(1000):\n"
        "        try:\n"
        "            pid = os.fork()\n"
        "        except OSError:\n"
        "            break\n"
        "        if not pid:\n"
        "            time.sleep(60)\n"
        "        made += 1\n"
        "    return made\n"
    )
    assert (result.how, 0 < result.value < Limits().processes) == (How.DONE, True)
    assert attack("import os\nwhile True:\n    os.fork()\n", "program", seconds=1.0).how in (How.TIMEOUT, How.FAILED)


def test_a_memory_bomb_ends_in_a_memory_error(attack: Attack) -> None:
    result = attack(
        "def attack():\n    kept = []\n    while True:\n        kept.append(bytearray(1 << 24))\n", memory=128 << 20
    )
    assert (result.how, result.detail.split(":")[0]) == (How.FAILED, "MemoryError")


def test_a_full_disk_is_its_own(attack: Attack) -> None:
    """Where there is a /tmp it is memory: its 16 MB are the most that all files have, and one file may not have more."""
    result = attack(
        "def attack():\n"
        "    wrote = 0\n"
        "    try:\n"
        "        for i in range(100):\n"
        "            with open(f'/tmp/{i}', 'wb', 0) as file:\n"
        "                wrote += file.write(bytes(1 << 20))\n"
        "    except OSError as error:\n"
        "        return [error.errno, wrote >> 20]\n",
        scratch=SCRATCH,
    )
    assert result.value == [28, 16]
    source = TRIED + "def attack():\n    return tried(os.truncate, os.open('/tmp/x', os.O_CREAT | os.O_RDWR), 1 << 30)\n"
    result = attack(source, scratch=SCRATCH)
    assert result.value in ("EFBIG", "EINVAL")


def test_spinning_ends_by_processor_time_and_by_wall_time(attack: Attack) -> None:
    began = time.monotonic()
    assert attack("while True: pass", "program", seconds=20, cpu=1).how is How.TIMEOUT
    assert attack("import time\ntime.sleep(60)", "program", seconds=0.4).how is How.TIMEOUT
    assert time.monotonic() - began < 6


def test_an_output_flood_is_cut(attack: Attack) -> None:
    """Read without a cap, one second of it fills the memory of whoever reads."""
    began = time.monotonic()
    for flood in (
        "print('x' * 1000)",
        "import os; os.write(2, b'x' * 1000); print('x' * 1000)",
        "import os; os.write(3, b'x' * 1000)",
    ):
        result = attack(f"while True:\n    {flood}\n", "program")
        assert (result.how, result.printed) == (How.FLOOD, "")
    assert time.monotonic() - began < 10


def test_a_byte_now_and_then_does_not_stretch_the_time(attack: Attack) -> None:
    began = time.monotonic()
    result = attack("import time\nwhile True:\n    print('.', flush=True)\n    time.sleep(0.05)\n", "program", seconds=0.6)
    assert (result.how, time.monotonic() - began < 5) == (How.TIMEOUT, True)


def test_a_daemon_does_not_survive_and_is_not_waited_for(attack: Attack) -> None:
    """It has left its session and its parent, ignores what it can, and keeps the output open."""
    began = time.monotonic()
    ran = attack.ran(
        "import os, signal, time\n"
        "def attack(keep):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork() == 0:\n"
        "            for number in range(1, 64):\n"
        "                try:\n"
        "                    signal.signal(number, signal.SIG_IGN)\n"
        "                except (OSError, ValueError):\n"
        "                    pass\n"
        "            if not keep:\n"
        "                os.closerange(0, 64)\n"
        "            while True:\n"
        "                time.sleep(1)\n"
        "        os._exit(0)\n"
        "    return 7\n",
        "call",
        [[True], [False], [True]],
    )
    assert [result.value for result in ran.results] == [7, 7, 7]
    assert time.monotonic() - began < 5


def test_it_can_end_its_own_sandbox_and_nothing_else(attack: Attack) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        outside = os.getpid(), other.pid
        result = attack(TRIED + f"def attack():\n    return [tried(os.kill, each, 9) for each in {outside}]\n")
        assert result.value == ["ESRCH", "ESRCH"]
        assert other.poll() is None
        other.kill()
    for target in ("os.getppid()", "-1"):
        ran = attack.ran(f"import os, time\ndef attack():\n    os.kill({target}, 9)\n    time.sleep(5)\n", "call", [[], []])
        assert [each.how for each in ran.results] == [How.FAILED, How.UNRUN]
        assert ran.results[0].detail == "the program ended its own sandbox"


def test_every_test_has_a_process_of_its_own(attack: Attack) -> None:
    """What one test breaks in the interpreter must not decide the next."""
    source = (
        "import builtins, json, sys\nstate = []\n"
        "def attack(first):\n"
        "    state.append(1)\n"
        "    builtins.len = lambda x: 99\n"
        "    json.dumps = None\n"
        "    if first:\n"
        "        sys.exit(3)\n"
        "    return sum(state)\n"
    )
    ran = attack.ran(source, "call", [[True], [False], [False]])
    assert (ran.results[0].how, ran.results[0].detail) == (How.FAILED, "SystemExit: 3")
    assert [each.value for each in ran.results[1:]] == [1, 1]


def test_a_parent_that_is_killed_takes_the_sandbox_with_it(copied: Path) -> None:
    words = {"words": ["import time\ntime.sleep(60)", "program", [None]], "seconds": 50, "limits": {"seconds": 50}}
    process = subprocess.Popen(
        ["/usr/bin/python3", "-c", RUNNER, str(copied)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd="/"
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(words).encode())
    process.stdin.close()
    until = time.monotonic() + 10
    while len(survivors()) < 4 and time.monotonic() < until:  # bubblewrap's two, what runs first, and the program
        time.sleep(0.02)
    assert len(survivors()) == 4
    process.kill()
    process.wait()
    while survivors() and time.monotonic() < until:
        time.sleep(0.02)
    assert survivors() == []


# ---------------------------------------------------------------------------------------------------------- forged verdicts

ADD = {"entry": "add", "calls": [{"args": [1, 2], "expected": 3}, {"args": [20, 22], "expected": 42}]}
FORGED = {
    "exits before its tests": "import sys\ndef add(a, b): return 0\nsys.exit(0)",
    "exits in its tests": "import os\ndef add(a, b): os._exit(0)",
    "says that it is ready and goes": 'import os\nprint(\'ready\')\nprint(\'["", "[true, 3]", ""]\', flush=True)\nos._exit(0)',
    "writes replies by itself": 'import os\ndef add(a, b):\n    os.write(1, b\'["", "[true, 3]", ""]\\n\')\n    os._exit(0)',
    "returns what equals everything": "class Yes:\n    def __eq__(self, other): return True\ndef add(a, b): return Yes()",
    "returns an int that equals everything": "class Yes(int):\n    __eq__ = lambda *_: True\ndef add(a, b): return Yes()",
    "returns a list that equals everything": "class Yes(list):\n    __eq__ = lambda *_: True\ndef add(a, b): return Yes()",
    "patches comparison and json": (
        "import builtins, json, sys\nbuiltins.all = lambda *_: True\njson.dumps = lambda *a, **k: '[true, true]'\n"
        "json.loads = lambda *a, **k: 3\nbuiltins.isinstance = lambda *_: True\ndef add(a, b): return 0"
    ),
    "returns true for three": "def add(a, b): return True",
    "returns the text of the number": "def add(a, b): return str(a + b)",
    "returns no number": "def add(a, b): return float('nan')",
    "returns too much": "def add(a, b): return 10 ** 5000",
    "returns a thing that is too deep": "def add(a, b):\n    x = []\n    for _ in range(10000): x = [x]\n    return x",
    "returns what holds itself": "def add(a, b):\n    x = []\n    x.append(x)\n    return x",
    "writes a bomb into its result": "import os\ndef add(a, b):\n    os.write(3, b'[' * 60000)\n    os._exit(0)",
    "ends its sandbox": "import os\ndef add(a, b): os.kill(-1, 9)",
    "raises what cannot be shown": "class E(Exception):\n    def __str__(self): raise self\ndef add(a, b): raise E",
}


@pytest.mark.parametrize("how", FORGED)
def test_a_verdict_cannot_be_forged(how: str) -> None:
    """The first three passed a check by exit code, a check by a marker, and an assert, inside the program's process."""
    assert judge(ADD, FORGED[how]).verdict == "wrong"
    assert judge(ADD, "def add(a, b): return a + b").verdict == "correct"


def test_a_program_that_writes_its_own_result_has_only_guessed() -> None:
    """A forged reply can equal nothing but what its program put there: one of two tests, by chance."""
    forged = 'import os\ndef add(a, b):\n    os.write(3, b"[true, 3]")\n    os._exit(0)'
    assert judge(ADD, forged) == ("wrong", "test 2 of 2: not what is expected")


def test_neither_what_is_expected_nor_the_nonce_is_in_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program looks through every frame, every object and its input for long numbers: it must find its arguments alone."""
    nonce, expected, argument = "0123456789abcdef" * 2, 918273645546, 111222333444
    monkeypatch.setattr(secrets, "token_hex", lambda size: nonce)
    source = (
        "import gc, os, re, sys\n"
        "def attack(x):\n"
        "    text, frame = [], sys._getframe()\n"
        "    while frame:\n"
        "        text.append(repr(frame.f_locals) + repr(frame.f_globals))\n"
        "        frame = frame.f_back\n"
        "    for each in gc.get_objects():\n"
        "        try:\n"
        "            text.append(repr(each)[:100000])\n"
        "        except Exception:\n"
        "            pass\n"
        "    for fd in (0, 3, 4, 5):\n"
        "        try:\n"
        "            os.set_blocking(fd, False)\n"
        "            text.append(repr(os.read(fd, 4096)))\n"
        "        except OSError:\n"
        "            pass\n"
        "    text = ' '.join(text)\n"
        "    return [sorted(set(re.findall(r'\\d{12}', text))), ''.join(reversed('9876543210fe')) in text]\n"
    )
    seen: list[Result] = []
    monkeypatch.setattr("verifiers.code._returns", lambda test, result: bool(seen.append(result)))
    judge({"entry": "attack", "calls": [{"args": [argument], "expected": expected}]}, source)
    assert seen[0].how is How.DONE, seen[0].detail
    numbers, nonce_seen = seen[0].value
    assert str(argument) in numbers, "the search itself works"
    assert (str(expected) in numbers, nonce_seen) == (False, False)


def test_a_suite_says_that_its_verdict_can_be_forged() -> None:
    """Tests that are code run beside the program: an object that equals everything passes them."""
    suite = {"suite": "assert add(1, 2) == 3"}
    forged = judge(suite, "class Yes:\n    def __eq__(self, other): return True\ndef add(a, b): return Yes()")
    assert forged.verdict == "correct"
    assert "forgeable_verdict" in forged.detail
    assert judge(suite, "import sys\nsys.exit(0)").verdict == "wrong"
    assert judge(suite, "import os\nprint('ok')\nos._exit(0)").verdict == "wrong"
    assert (
        judge({"suite": "def check(f):\n    assert f(2) == 4", "entry": "twice"}, "def twice(x): return x").verdict == "wrong"
    )


def test_a_suite_that_is_no_python_is_not_the_programs_fault() -> None:
    assert judge({"suite": "assert ("}, "x = 1")[0] == "error"
    assert "the suite is no Python: SyntaxError" in judge({"suite": "assert ("}, "x = (")[1]


@pytest.mark.parametrize("source", ["def add(a, b): return a +", "  x = 1\n y = 2", "x = 1\0", "\ud800"])
def test_only_a_program_that_cannot_be_compiled_is_unparsed(source: str) -> None:
    assert judge(ADD, source).verdict == "unparsed"


@pytest.mark.parametrize(
    "source",
    [
        "def add(a, b): raise SyntaxError('x')",
        "def add(a, b): exec('1 +')",
        'import os\ndef add(a, b):\n    os.write(3, b\'["suite", "SyntaxError"]\')\n    os._exit(0)',
    ],
)
def test_a_program_that_raises_a_syntax_error_is_wrong(source: str) -> None:
    """It went by the exception's name."""
    assert judge(ADD, source).verdict == "wrong"


def test_much_right_output_in_many_tests_is_right() -> None:
    """The cap of the whole run was eight times one test's, after escapes: test 19 of 20 was wrong."""
    tests = {"stdin": [{"input": f"{i}\n", "output": f"{i} \u00e9\n" * 45_000} for i in range(20)]}
    program = "n = input()\nprint((n + ' \u00e9\\n') * 45000, end='')"
    assert judge(tests, program) == ("correct", "")


def test_more_than_the_run_may_have_is_an_error_that_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "MOST", 2)
    tests = {"stdin": [{"input": "", "output": "x" * 900_000}] * 4}
    verdict, detail = judge(tests, "print('x' * 900000)")
    assert (verdict, detail[:37]) == ("error", "test 3 of 4: the tests before it were")
    assert judge(tests, "print('y' * 900000)") == ("wrong", "test 1 of 4: not what is expected")


def test_who_stops_the_process_that_judges_does_not_hold_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lasted as long as twenty tests may take, up to a minute."""
    monkeypatch.setattr("verifiers.code.START", 2.0)
    stop = "import os, signal\ndef add(a, b):\n    os.kill(os.getppid(), signal.SIGSTOP)\n    return a + b"
    began = time.monotonic()
    assert judge({**ADD, "seconds": 0.5}, stop) == ("timeout", "test 1 of 2: the whole run's limit")
    assert time.monotonic() - began < 8


# ------------------------------------------------------------------------------------------------------ values, and absence


@pytest.mark.parametrize(
    ("expected", "given", "right"),
    [
        *((1, True, False), (True, 1, False), (True, True, True), (0, False, False), (None, 0, False), (None, None, True)),
        *((2, 2.0, True), (2, 2.0000001, False), (2.0, 2.0000001, True), (0.5, 0.6, False), (1e300, 10**400, False)),
        *(("1", 1, False), (1, "1", False), ([1, 2], [1, 2], True), ([1, 2], [2, 1], False), ([1], [True], False)),
        *(({"a": 1.0}, {"a": 1}, True), ({"a": 1}, {"a": 1, "b": 2}, False), ({}, [], False), ([], None, False)),
    ],
)
def test_values_are_compared_with_their_types(expected: Any, given: Any, right: bool) -> None:
    assert same(expected, given) is right


@pytest.mark.parametrize(
    ("expected", "given", "right"),
    [
        *(("3\n", "3", True), ("3", "3  \n\n", True), ("1 2", "1  2", False), ("1 2", "1\n2", False), ("Yes", "yes", False)),
        *(("0.5", "0.50000001", True), ("0.5", "0.51", False), ("5", "5.0", False), ("", "\n", True), ("", "x", False)),
        *(
            ("0.5", "nan", False),
            ("nan.", "1", False),
            ("a 0.5  b", "a 0.50000001  b", True),
            ("a 0.5  b", "a 0.50000001 b", False),
        ),
        *(("  *\n ***\n*****\n", "*\n***\n*****\n", False), ("  *\n ***", "  *  \n ***\t\r\n\n \n", True)),
        *(("a\n\nb", "a\nb", False), ("x", "\nx", False), ("a b", "a\u2028b", False), ("a\tb", "a b", False)),
    ],
)
def test_outputs_are_compared_line_by_line_and_only_what_ends_a_line_does_not_count(
    expected: str, given: str, right: bool
) -> None:
    assert same_output(expected, given) is right


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "NaN", "-Infinity", "1e999", "9" * 5000, "[" * 70 + "]" * 70, "", '"' + "x" * (1 << 20) + '"']
)
def test_a_reply_that_is_no_plain_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parsed(text)


@pytest.mark.parametrize(
    ("missing", "what"),
    [("bubblewrap", "bwrap is missing"), ("known", "it is made for Linux"), ("PYTHON", "/no/python3 is missing")],
)
def test_where_there_is_no_sandbox_nothing_is_run_and_the_line_says_why(
    missing: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never a weaker way, in silence."""
    put = {"bubblewrap": lambda: None, "known": lambda: False, "PYTHON": "/no/python3"}[missing]
    monkeypatch.setattr(available, missing, put)
    monkeypatch.setattr(available, "tried", available.tried.__wrapped__)
    with pytest.raises(Unavailable) as raised:
        judge(ADD, "def add(a, b): return a + b")
    line = str(raised.value)
    assert line.startswith(f"no sandbox for model-written code: {what}")
    assert (line.count("\n"), "; " in line, raised.value.exit_code) == (0, True, 69)


def test_a_filter_that_is_not_applied_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that allows everything makes a sandbox that looks well: the probe must try it."""
    monkeypatch.setattr(bubble, "program", lambda: filter._step(filter.RETURN, 0, 0, filter.ALLOW))
    refused = available.tried.__wrapped__()
    assert refused is not None
    assert refused[0].startswith("it does not hold")


def test_a_filter_that_the_kernel_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubble, "program", lambda: b"12345678")
    refused = available.tried.__wrapped__()
    assert refused is not None
    assert "seccomp" in refused[0]


def test_a_bwrap_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        fake = Path(folder) / "bwrap"
        fake.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
        fake.chmod(0o755)
        monkeypatch.setattr(bubble, "bubblewrap", lambda: str(fake))
        refused = available.tried.__wrapped__()
    assert refused is not None
    assert refused[0] == refusal("setting up uid map: Permission denied", available.restricted())[0]
    assert "user namespaces" in refused[0]


@pytest.mark.skipif(not ROOT, reason="only root takes another user")
def test_a_root_that_may_not_change_users_is_refused_and_not_run_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    def no(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(bubble.subprocess, "Popen", no)
    refused = available.tried.__wrapped__()
    assert refused is not None
    assert refused[0].startswith("another user than root cannot be taken")


def test_a_refused_launch_is_no_verdict_on_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubble, "bubblewrap", lambda: shutil.which("false"))
    found = judge(ADD, "def add(a, b): return a + b")
    assert (found.verdict, found.detail.startswith("no sandbox")) == ("error", True)


def test_what_comes_out_is_plain_data() -> None:
    ran = sandbox.run("def f(x): return {'a': [x, 1.5, None, 'é\\ud800', True]}", "call", [[1]], "f")
    assert json.loads(json.dumps(asdict(ran)))["results"][0]["value"]["a"][:3] == [1, 1.5, None]
    assert re.fullmatch(r"0\.\d+|1\.\d+", str(ran.seconds))
