"""The pool of grading children: what runs side by side, what is replaced, and what is left behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search.types import Problem
from verifiers.child import Child
from verifiers.grade import Graders, Verdict
from verifiers.pool import Pool, default_size

LIMIT = 6.0  # seconds of wall time that any answer may take


def math(answer: str) -> Problem:
    return Problem("p", "", answer, "math/x", {"style": "math"})


def gone(pid: int) -> bool:
    """Whether a process is no more, not even as a zombie."""
    return state(pid) == ""


def state(pid: int) -> str:
    """R, S, Z...; "" for no process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_until(done: Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.02)
    return done()


def test_a_pool_has_a_child_for_each_processor_and_two_at_least() -> None:
    assert default_size() >= 2
    with pytest.raises(ValueError, match="at least 1 child, not 0"):
        Pool(0)


def test_a_killed_child_has_a_successor_before_it_is_needed() -> None:
    with Child(seconds=1.0) as child:
        assert child.ask("1/2", "0.5")[0] == "correct"
        first = child.pid
        os.kill(first or 0, signal.SIGSTOP)
        assert child.ask("1/2", "0.5")[0] == "timeout"
        assert child.pid not in (None, first), "nobody has asked again yet"
        assert wait_until(lambda: child.ready, 30)
        assert child.ask("1/2", "0.5")[0] == "correct"


SLOW_TO_START = """
import json, sys, time
time.sleep(1.0)  # as imports on a busy machine
print(json.dumps({"ready": "x"}), flush=True)
for line in sys.stdin:
    time.sleep(0.7 if json.loads(line)["answer"] == "trivial" else 9)
    print(json.dumps({"verdict": "correct", "detail": ""}), flush=True)
"""


def test_a_start_is_outside_of_the_limit_of_an_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a busy machine the start had used up the limit, half of which was left: trivial answers were time-outs."""
    worker = tmp_path / "worker.py"
    worker.write_text(SLOW_TO_START)
    monkeypatch.setattr("verifiers.child.WORKER", worker)
    with Child(seconds=1.2) as child:
        assert child.ask("1", "trivial") == ("correct", "")
        start = time.monotonic()
        assert child.ask("1", "hostile")[0] == "timeout"
        assert time.monotonic() - start < LIMIT  # the child would take 9 s
        assert child.ask("1", "trivial") == ("correct", "")


def test_a_start_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(SLOW_TO_START)
    monkeypatch.setattr("verifiers.child.WORKER", worker)
    monkeypatch.setattr("verifiers.child.START_SECONDS", 0.1)
    with Child() as child, pytest.raises(RuntimeError, match=r"does not start: it is not up after 0\.1 s"):
        child.ask("1", "trivial")


def test_a_child_that_is_up_has_imported_what_an_answer_needs() -> None:
    """The first answer paid for it, out of its own limit."""
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "verifiers")!r})
import grade_worker, math_verify
grade_worker.warm()
known = set(sys.modules)
for gold, answer, prose in [("5", "The answer is not 5", True), ("1/2", "\\\\boxed{{0.5}}", False), ("x^2+1", "1+x^2", False)]:
    assert grade_worker.answer(dict(gold=gold, answer=answer, prose=prose, letters=False, seconds=9))[0] == "correct", answer
print(sorted(set(sys.modules) - known))
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert done.stdout.strip() == "[]", done.stderr[-500:]


def test_one_that_hangs_holds_up_no_other() -> None:
    """Both are handed in together: the second is answered while the first still computes."""
    with Pool(2, seconds=3.0) as pool:
        pool.ask("1", "x")
        assert wait_until(lambda: len(pool.pids) == 2, 30)
        said: list[tuple[float, str]] = []
        start = time.monotonic()

        def ask(answer: str) -> None:
            verdict, _ = pool.ask("5", answer)
            said.append((time.monotonic() - start, verdict))

        threads = [threading.Thread(target=ask, args=(answer,)) for answer in ("$5000000!$", "x+5")]
        for thread in threads:
            thread.start()
            time.sleep(0.05)
        for thread in threads:
            thread.join()
    assert [verdict for _, verdict in said] == ["wrong", "timeout"]


def test_a_batch_gets_the_verdicts_of_one_by_one_in_its_order() -> None:
    rng = random.Random(3)
    golds = ["\\frac{1}{2}", "7"]
    keys: list[str | None] = ["0.5", "1+x", "7.0", "(1,3)", "???", "9^{9^{9}}", None, "\\frac{3}{6}"]
    asked = [(math(rng.choice(golds)), rng.choice(keys), rng.choice(["", "the answer is 7."])) for _ in range(40)]
    with Graders() as graders:
        alone = [graders.grade(*each) for each in asked]
        graders._known.clear()
        assert graders.grade_all(asked) == alone
        assert set(graders.grade_all(asked)) >= {"correct", "wrong", "unparsed", "timeout", "none"}


# what is not a large power as it is written, or would spin if it were computed with
DISGUISED = [
    "(9^9)^{(9^9)}",
    "\\exp(\\exp(\\exp(20)))",
    "e^{e^{e^{20}}}",
    "\\int_0^1 x^{x^{x^x}} \\sin(\\frac{1}{x}) dx",
    "\\sum_{k=1}^{10^9} \\frac{1}{k!}",
    "\\prod_{k=1}^{100000000} k",
    "\\lim_{x \\to 0} \\frac{\\sin(\\sin(\\sin(x))) - x^{x}}{x^{9}}",
    "(x+y+z)^{9999}",
    "\\sqrt{\\sqrt{\\sqrt{2}+3^{1000}}+7^{9999}}",
    "((((1" + "+1)" * 4 + "^{9999})^{9999})^{9999}",
    "\\log(\\log(9999999999999^{9999}))",
    "1" * 1990,
    "0." + "3" * 1990,
    "\\binom{9999}{5000}\\binom{9998}{4000}",
]


@pytest.mark.parametrize("some", [slice(0, 2), pytest.param(slice(2, None), marks=pytest.mark.slow)], ids=["some", "rest"])
def test_no_answer_takes_longer_than_the_limit_and_the_next_is_graded(some: slice) -> None:
    with Graders() as graders:
        graders.grade(math("x"), "y")
        for answer in DISGUISED[some]:
            start = time.monotonic()
            assert graders.grade(math("5"), answer) is not Verdict.CORRECT
            assert time.monotonic() - start < LIMIT, answer
            assert graders.grade(math("\\frac{1}{2}"), f"0.{len(answer)}") is Verdict.WRONG, answer


PIECES = [
    "9",
    "10",
    "x",
    "^",
    "^{",
    "}",
    "!",
    "(",
    ")",
    "\\frac{",
    "}{",
    "\\sqrt{",
    "+",
    "-",
    "\\cdot ",
    "\\binom{",
    "e",
    "\\int ",
]
PIECES += [
    "\\sum_{k=1}^{",
    "\\boxed{",
    "$",
    " ",
    ",",
    "=",
    "%",
    "\\text{",
    "\\exp(",
    "\\ln ",
    "\\infty",
    "\\pi",
    "A",
    "(B)",
    "\ud800",
    "\0",
]
ANSWERS = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=14).map("".join)
STYLES = [
    {"style": "math"},
    {"style": "aime"},
    {"family": "countdown"},
    {"family": "word"},
    {"grader": "choice"},
    {"grader": "numeric"},
]


@pytest.fixture(scope="module")
def fuzzed() -> Graders:
    graders = Graders(seconds=2.0)
    graders.grade(math("x"), "y")
    return graders


@given(ANSWERS, st.sampled_from(STYLES), st.sampled_from(["5", "\\frac{1}{2}", "B", "24 from 3,8"]), st.booleans())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_grading_never_raises_and_never_exceeds_its_limit(
    fuzzed: Graders, answer: str, meta: dict[str, str], gold: str, as_text: bool
) -> None:
    start = time.monotonic()
    verdict = fuzzed.grade(Problem("p", "", gold, "", meta), None if as_text else answer, answer)
    assert verdict in set(Verdict)
    assert time.monotonic() - start < LIMIT


def test_the_fuzzed_graders_close(fuzzed: Graders) -> None:
    pids = fuzzed.pool.pids
    fuzzed.close()
    assert all(map(gone, pids))


def test_nothing_is_left_when_a_pool_is_closed_under_work() -> None:
    pool = Pool(2)
    pool.ask("1", "x")
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(pool.ask("5", "$5000000!$")[0]))
    thread.start()
    time.sleep(0.3)
    pids = pool.pids
    start = time.monotonic()
    pool.close()
    thread.join()
    assert time.monotonic() - start < 4.0  # an answer may take 5 s
    assert said == ["error"]
    assert len(pids) == 2
    assert all(map(gone, pids))
    assert pool.pids == []


PARENT = """
import sys, threading
from verifiers.pool import Pool
pool = Pool(2)
pool.ask("1", "x")
threading.Thread(target=lambda: pool.ask("5", "$5000000!$")).start()
print(*pool.pids, flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_children_end_with_their_parent_however_it_ends(how: signal.Signals) -> None:
    """Also one that is deep in a computation and would not see that its pipe is closed."""
    here = Path(__file__).parents[1]
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, cwd=here, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        time.sleep(0.3)
        parent.send_signal(how)
    for pid in pids:
        # a zombie is dead, and is reaped by whoever adopts orphans here
        assert wait_until(lambda pid=pid: state(pid) in ("", "Z")), pid  # type: ignore[misc]


def test_ctrl_c_in_a_batch_waits_for_nothing_and_the_next_answer_is_graded(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is begun without it
    with Graders() as graders:
        graders.grade(math("x"), "y")
        timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        start = time.monotonic()
        monkeypatch.setattr("verifiers.graders.too_large", lambda _: False)
        with pytest.raises(KeyboardInterrupt):
            graders.grade_all([(math("5"), f"5000000!+{i}", "") for i in range(20)])
        assert time.monotonic() - start < 4.5  # an answer may take 5 s
        assert graders.grade(math("\\frac{1}{2}"), "0.5") is Verdict.CORRECT
    signal.signal(signal.SIGINT, before)
