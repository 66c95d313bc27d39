"""Grading: the verdicts kept apart, the child's limits, and agreement with labelled pairs."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.problems import FAMILIES
from pipelines.problems.graded import GRADERS as NAMES
from search.types import Problem
from verifiers.child import Child
from verifiers.extract import canonical, extractor_for
from verifiers.grade import GRADERS, Graders, Verdict, grader_for
from verifiers.size import too_deep, too_large

SHARED = Path(os.environ.get("PONDEROSA_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
PAIRS = SHARED / "grading_pairs_dev.jsonl"


@pytest.fixture(scope="module")
def graders() -> Iterator[Graders]:
    with Graders() as shared:
        yield shared


def math(answer: str) -> Problem:
    return Problem("p", "", answer, "math/x", {"style": "math"})


def test_a_problem_file_can_name_every_grader_there_is() -> None:
    assert set(NAMES) == set(GRADERS)


@pytest.mark.parametrize(
    ("problem", "grader"),
    [
        (Problem("a", "", "3", "synthetic/word", {"family": "word"}), "exact"),
        (Problem("a", "", "39 from 3,4", "countdown/x", {"family": "countdown", "style": "countdown"}), "exact"),
        (Problem("a", "", "3", "aime/x", {"style": "aime"}), "integer"),
        (Problem("a", "", "3", "aime/x"), "integer"),
        (Problem("a", "", "3", "gsm8k/x", {"style": "gsm8k"}), "math"),
        (Problem("a", "", "3"), "math"),
        (Problem("a", "", "3", "gsm8k/x", {"style": "gsm8k", "grader": "numeric"}), "numeric"),
    ],
)
def test_the_grader_is_chosen_by_family_then_style(problem: Problem, grader: str) -> None:
    assert grader_for(problem) == grader


@pytest.mark.parametrize("name", FAMILIES)
def test_right_and_wrong_answers_of_every_family_are_told_apart(name: str, graders: Graders) -> None:
    family, rng = FAMILIES[name], random.Random(7)
    extract = extractor_for(name)
    for _ in range(50):
        instance = family.make(rng, rng.choice(family.levels))
        problem = Problem("p", instance.question, instance.answer, "", {"family": name})
        right = extract(instance.steps[-1]).key
        assert right is not None
        assert graders.grade(problem, right) is Verdict.CORRECT
        wrong = f"({right}+1)" if name == "countdown" else str(int(right) + 1)
        assert graders.grade(problem, wrong) is Verdict.WRONG
        assert graders.grade(problem, "no idea") is Verdict.UNPARSED
        assert graders.grade(problem, None) is Verdict.NONE
        assert graders.grade(problem, None, "I do not know.") is Verdict.UNPARSED
        assert graders.grade(problem, None, "\n\n".join(instance.steps)) is Verdict.CORRECT
    assert graders.pool.starts == 0, "the families need no algebra"


def test_a_grader_of_programs_judges_none_of_a_problem_without_tests(graders: Graders) -> None:
    problem = Problem("q", "Q?", "4", "set", {"grader": "code"})
    assert graders.grade_all([(problem, "print(4)", "print(4)")]) == [Verdict.ERROR]


def test_a_reference_that_its_grader_cannot_read_is_an_error_and_not_a_wrong_answer(graders: Graders) -> None:
    countdown = Problem("p", "", "5", "", {"family": "countdown"})
    assert graders.grade(countdown, "3+2") is Verdict.ERROR
    assert graders.detail.startswith("ValueError: ")
    assert graders.grade(Problem("p", "", "5.5", "", {"style": "aime"}), "5") is Verdict.ERROR


@pytest.mark.parametrize(
    ("key", "verdict"),
    [
        ("25", "correct"),
        ("025", "correct"),
        ("25.0", "correct"),
        ("26", "wrong"),
        ("25.5", "unparsed"),
        ("x", "unparsed"),
    ],
)
def test_aime_compares_integers(key: str, verdict: str, graders: Graders) -> None:
    assert graders.grade(Problem("p", "", "25", "", {"style": "aime"}), key) == verdict


@pytest.mark.parametrize(
    ("gold", "key", "verdict"),
    [
        ("\\frac{14}{3}", "14/3", "correct"),
        ("\\frac{14}{3}", "4.666666667", "correct"),
        ("\\frac{14}{3}", "14/5", "wrong"),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\frac{\\pi}{2})", "correct"),
        ("x^2+2x+1", "(x+1)^2", "correct"),
        ("\\text{Evelyn}", "Evelyn", "correct"),
        ("\\text{Evelyn}", "Carla", "wrong"),
        ("12:00", "12:00", "correct"),
        ("1,234", "1234", "correct"),
        ("5", "5.001", "wrong"),
        ("(D) Alina", "D", "correct"),
        ("(D) Alina", "(B)", "wrong"),
        ("5", "  ", "unparsed"),
        ("5", "???", "unparsed"),
        ("???", "5", "error"),
    ],
)
def test_mathematics_is_compared_by_value(gold: str, key: str, verdict: str, graders: Graders) -> None:
    assert graders.grade(math(gold), key) == verdict


BOMBS = [
    "9^{9^{9}}",
    "5000000!",
    "\\binom{10^7}{5\\cdot 10^6}",
    "10^{10^{10}}-10^{10^{10}}+2",
    "(10^{10})!",
    "2^{2^31}",
]


@pytest.mark.parametrize("bomb", [*BOMBS, "3!!!", "9**9**9", "x^{9^{9^9}}", "5^{20!}", "10^{10,000,000}", "2" + "^2" * 900])
def test_a_bomb_is_a_timeout_before_any_algebra(bomb: str, graders: Graders) -> None:
    start = time.monotonic()
    for key in (bomb, f"${bomb}$"):
        assert graders.grade(math("5"), key) is Verdict.TIMEOUT
    assert time.monotonic() - start < 1.5
    assert graders.detail == "too large to compute with"


@pytest.mark.parametrize(
    "fine",
    [
        "2^{100}",
        "10!",
        "\\frac{20!}{18!}",
        "\\binom{10}{3}",
        "2^{2^3}",
        "x^{n+1}",
        "6.02\\times10^{23}",
        "(2n)!",
        "e^{x^2}",
    ],
)
def test_ordinary_powers_and_factorials_are_not_bombs(fine: str) -> None:
    assert not too_large(fine)
    assert not too_deep(fine)


def test_a_bomb_that_slips_through_ends_in_time_and_the_child_works_on() -> None:
    with Child(seconds=2.0) as child:
        assert child.ask("1/2", "0.5")[0] == "correct"
        for bomb in ("$9^{9^{9}}$", "$5000000!$"):
            start = time.monotonic()
            verdict, _ = child.ask("5", bomb)
            assert verdict == "timeout"
            assert time.monotonic() - start < 4.0
            assert child.ask("1/2", "0.5")[0] == "correct"


def test_a_timeout_is_neither_wrong_nor_computed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with Graders(seconds=1.0, children=1) as slow:
        slow.pool.ask("1", "1")
        os.kill(slow.pool.pids[0], signal.SIGSTOP)
        assert slow.grade(math("\\frac12"), "0.5") is Verdict.TIMEOUT
        asked: list[tuple[str, ...]] = []
        with monkeypatch.context() as patch:
            patch.setattr(slow.pool, "ask", lambda *of: asked.append(of))
            assert slow.grade(math("\\frac12"), "0.5") is Verdict.TIMEOUT
        assert not asked
        slow.pool.seconds = 5.0
        assert slow.grade(math("\\frac12"), "1/2") is Verdict.CORRECT, "a new child was started"


def test_a_child_that_was_killed_is_started_again() -> None:
    with Child() as child:
        assert child.ask("1/2", "0.5")[0] == "correct"
        first = child.pid
        os.kill(first or 0, signal.SIGKILL)
        assert child.ask("1/2", "0.25")[0] in ("wrong", "error")
        assert child.ask("1/2", "0.5")[0] == "correct"
        assert child.pid != first


def test_the_child_is_gone_when_the_graders_are_closed() -> None:
    with Graders() as mine:
        assert mine.pool.pids == [], "none is started before it is needed"
        mine.grade(math("\\sqrt{4}"), "2.0")
        pids = mine.pool.pids
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_equal_pairs_are_computed_once(graders: Graders, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(_gold: str, answer: str, **_options: bool) -> tuple[str, str]:
        asked.append(answer)
        return "wrong", ""

    monkeypatch.setattr(graders.pool, "ask", ask)
    for _ in range(3):
        graders.grade(math("x+1"), "x+2")
    assert graders.grade_all([(math("x+1"), key, "") for key in ("x+2", "x+3", "x+3")]) == ["wrong"] * 3
    assert asked == ["x+2", "x+3"]


def test_a_long_answer_is_unparsed_without_being_read(graders: Graders) -> None:
    starts = graders.pool.starts
    assert graders.grade(math("x"), "x+" * 2000 + "x") is Verdict.UNPARSED
    assert graders.pool.starts == starts


@pytest.mark.parametrize("brackets", ["(" * 900 + "1" + ")" * 900, "{" * 1900, "\\sqrt{" * 200 + "2" + "}" * 200])
def test_brackets_without_end_are_unparsed_without_being_read(brackets: str, graders: Graders) -> None:
    start = time.monotonic()
    assert graders.grade(math("5"), brackets) is Verdict.UNPARSED
    assert time.monotonic() - start < 1.5


def test_a_child_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "worker.py"
    broken.write_text("raise SystemExit('no math_verify here')")
    monkeypatch.setattr("verifiers.child.WORKER", broken)
    with Child() as child, pytest.raises(RuntimeError, match="does not start: no math_verify here"):
        child.ask("1", "2")


def test_model_text_is_not_evaluated_as_python(graders: Graders, tmp_path: Path) -> None:
    target = tmp_path / "made"
    for text in (f"__import__('os').mkdir('{target}')", f"The answer is (1).__class__ or open('{target}','w')"):
        graders.grade(math("5"), text)
        graders.grade(math("5"), None, text)
    assert not target.exists()


def test_plain_numbers_are_read_as_math_verify_reads_them() -> None:
    """By the child's short way, and by math-verify's grammar."""
    worker = Path(__file__).parents[1] / "verifiers" / "grade_worker.py"
    code = f"""
import random, runpy, sympy
from math_verify import LatexExtractionConfig, parse
plain = runpy.run_path({str(worker)!r})["plain"]
rng = random.Random(5)
texts = ["0", "-0", "007", "0.50", "-3.0", "12345678.123456", "123456789012.123456789012", "6/4", "-8/4"]
texts += ["\\\\frac{{10}}{{5}}", "-\\\\frac{{3}}{{9}}"]
for _ in range(12):
    a, b = rng.randrange(10**rng.randrange(1, 9)), rng.randrange(1, 999)
    texts += [f"{{a}}", f"-{{a}}.{{b}}", f"{{a}}/{{b}}", f"\\\\frac{{{{{{a}}}}}}{{{{{{b}}}}}}"]
for text in texts:
    theirs = parse(f"${{text}}$", [LatexExtractionConfig()], fallback_mode="no_fallback")
    if len(text) > 20:
        assert plain(text) == []
        continue
    assert [sympy.srepr(each) for each in plain(text)] == [sympy.srepr(each) for each in theirs], (text, plain(text), theirs)
for text in ("1/0", "x", "1e5", "1.2.3", "", "1,234", "\\\\frac{{1}}{{x}}"):
    assert plain(text) == [], text
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr[-500:]


def test_the_child_imports_no_torch_and_nothing_of_ours() -> None:
    worker = Path(__file__).parents[1] / "verifiers" / "grade_worker.py"
    code = (
        f"import runpy, sys; runpy.run_path({str(worker)!r}); import math_verify;"
        "print(sorted({'torch', 'transformers', 'search', 'pipelines', 'verifiers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not PAIRS.exists(), reason="the labelled pairs are not on this machine")
@pytest.mark.parametrize("as_written", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_grader_agrees_with_at_least_98_percent_of_the_labelled_core_pairs(as_written: bool, graders: Graders) -> None:
    """Answers as they are written, or turned into voting keys first."""
    rows = [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]
    core = [row for row in rows if row["class"] == "core"]
    asked = []
    for row in core:
        text, key = row["prediction"], None
        if row["kind"] in ("answer", "real_output"):
            found = extractor_for("math")(text) if "\\boxed" in text else canonical(text)
            key = text if as_written else found.key
        asked.append((math(row["gold"]), key, text))
    verdicts = graders.grade_all(asked)
    agreed = sum((v is Verdict.CORRECT) == row["expected_equal"] for v, row in zip(verdicts, core, strict=True))
    assert len(core) == 194
    assert agreed >= 0.98 * len(core)
