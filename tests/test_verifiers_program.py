"""Programs of a solution: which block it is, what it answers, whether text and program agree, and how they vote together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import question

from flows import audit, work
from flows.parts import spec
from pipelines.problems.code import cases_of, named
from pipelines.problems.jsonl import DataError, load_jsonl
from search.collaborate import ballots, elected, heard, told
from search.select import Entry
from search.strategies import build
from search.tree import Tree, scored
from search.types import Extend, Extension, Finish, Join, Part, Problem, Reading, Readings, Score, Step, Trace, Verify
from store import queries
from store.database import open_database
from store.runs import find_run
from verifiers.code import Found, ready
from verifiers.extract import extractor_for
from verifiers.fences import program_of, prose
from verifiers.grade import Graders, Verdict, grader_for
from verifiers.program import ProgramVerifier, agree
from verifiers.registry import check_verifier, load_verifier
from verifiers.sandbox import available
from verifiers.sandbox.available import Unavailable
from verifiers.sandbox.trials import How, Ran, Result

REFUSED = available.tried()
needs_sandbox = pytest.mark.skipif(
    REFUSED is not None and os.environ.get("PONDEROSA_REQUIRE_SANDBOX") != "1", reason=f"no sandbox here: {REFUSED}"
)


def solution(program: str, text: str = "") -> str:
    return f"We compute it.\n\n```python\n{program}\n```\n\n{text}"


def step(text: str) -> Step:
    zeros = np.zeros(1, dtype=np.float32)
    return Step(np.full(1, len(text), dtype=np.int32), text, zeros, zeros, zeros, Finish.END)


def trace(text: str) -> Trace:
    return Trace(question("p"), (step(text),))


# ---------------------------------------------------------------------------------------------------------------- fences


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("```python\nx = 1\n```", "x = 1"),
        ("```python\nx = 1\n```\nbetter:\n```py\nx = 2\n```\ndone", "x = 2"),
        ("~~~Python3 title\nx = 1\n\ny = 2\n~~~", "x = 1\n\ny = 2"),
        ("````python\nprint('''\n```\n''')\n````", "print('''\n```\n''')"),
        ("```python\r\nx = 1\r\n```\r\n", "x = 1"),
        ("```python\nx = 1\n```\n```\noutput: 5\n```", "x = 1"),
        ("```python\nx = 1\n```\n```bash\nrm -r x\n```", "x = 1"),
    ],
)
def test_the_last_python_block_is_the_program(text: str, key: str) -> None:
    assert program_of(text).key == key


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *(("x = 1", "no block marked python"), ("```\nx = 1\n```", "no block marked python")),
        *(("```pythonic\nx = 1\n```", "no block marked python"), ("```python\n\n```", "the python block is empty")),
        ("```python\nx = 1\n```\nno:\n```python\nx = ", "the last python block is not closed"),
        ("```python\n" + "x" * 20_001 + "\n```", "the program has 20001 characters, more than 20000"),
    ],
)
def test_what_is_no_program_has_the_reason(text: str, why: str) -> None:
    """The block before a cut one is not what the solution ends with."""
    assert (program_of(text).key, program_of(text).reason) == (None, why)


def test_what_a_program_says_is_not_what_the_text_says() -> None:
    text = solution('print(f"The answer is {x}")', "The answer is 4.")
    assert "{x}" not in prose(text)
    assert extractor_for("math")(prose(text)).key == "4"


# -------------------------------------------------------------------------------------------------------------- verifier


@needs_sandbox
def test_each_kind_of_program_has_its_value_or_its_own_reason() -> None:
    cases = {
        solution("print(6 * 7)", "The answer is 42."): (1.0,),
        solution("answer = 6 * 7", "So \\boxed{42}."): (1.0,),
        solution("answer = 1 / 3", "So \\boxed{\\frac{1}{3}}."): (1.0,),
        solution("print('working')\nprint('The answer is: 42.')\n", "\\boxed{42}"): (1.0,),
        solution("print(5)\nanswer = 6", "\\boxed{5}"): (0.0,),
        solution("print(41)", "\\boxed{42}"): (0.0,),
        solution("print(42)", "I do not know."): "no answer in the text",
        "The answer is 42.": "no program: no block marked python",
        solution("1 / 0", "\\boxed{1}"): "the program failed: ZeroDivisionError",
        solution("x = (", "\\boxed{1}"): "the program failed: SyntaxError",
        solution("x = 1", "\\boxed{1}"): "the program gave no answer",
        solution("while True: print('x' * 9999)", "\\boxed{1}"): "the program printed more than it may",
        solution("input()", "\\boxed{1}"): "the program failed: EOFError",
        solution("print('\\x1b[31m')", "\\boxed{1}"): "the program's answer is too long, or no plain text",
    }
    for text, reading in zip(cases, ProgramVerifier().score([trace(text) for text in cases]), strict=True):
        wanted = cases[text]
        assert (reading.parts == wanted) if isinstance(wanted, tuple) else (not reading.parts), text
        assert isinstance(wanted, tuple) or reading.reason.startswith(wanted), (text, reading.reason)
        assert (reading.passes, reading.tokens) == (0, 0)
    [slow] = ProgramVerifier(seconds=0.3).score([trace(solution("while True: pass", "\\boxed{1}"))])
    assert (slow.parts, slow.reason) == ((), "the program took more than 0.3 s")


def test_equal_programs_run_once_and_no_reading_depends_on_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(program: str, *_: object, **__: object) -> Ran:
        ran.append(program)
        return Ran((Result(How.DONE, None, f"{len(program)}\n"),), 0.0)

    monkeypatch.setattr("verifiers.program.run", run)
    texts = [solution("x = 1", "\\boxed{5}"), solution("x = 12", "\\boxed{5}"), solution("x = 1", "\\boxed{6}")]
    together = ProgramVerifier().score([trace(text) for text in texts])
    assert sorted(ran) == ["x = 1", "x = 12"]
    assert [each.parts for each in together] == [(1.0,), (0.0,), (0.0,)]
    assert together == [ProgramVerifier().score([trace(text)])[0] for text in texts]


def test_a_sandbox_that_fails_once_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verifiers.program.run", lambda *_, **__: Ran((), 0.0, "Resource temporarily unavailable"))
    [reading] = ProgramVerifier().score([trace(solution("print(1)", "\\boxed{1}"))])
    assert (reading.parts, reading.reason) == ((), "no sandbox: Resource temporarily unavailable")


@pytest.mark.parametrize(
    ("text", "program", "same"),
    [
        *(
            ("42", "42", True),
            ("42", "41", False),
            ("\\frac{1}{3}", "0.3333333333333333", True),
            ("0.33", "0.3333333333", False),
        ),
        *(("2", "2.0000000001", True), ("1000000", "1000001", False), ("x+1", "x+1", True), ("x+1", "1", False)),
        *(("\\frac{22}{7}", "3.14", False), ("3", "3.1", False)),
    ],
)
def test_answers_agree_by_key_or_as_a_decimal_of_a_fraction(text: str, program: str, same: bool) -> None:
    assert agree(text, program) is same


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"style": "cats"}, "unknown answer style 'cats'"),
        ({"seconds": 0}, "seconds must be"),
        ({"secs": 1}, "no parameter 'secs'"),
    ],
)
def test_a_parameter_that_will_not_do_is_told_at_the_start(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_verifier(Part("program", params))


@pytest.fixture
def none(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sandbox can be made."""
    monkeypatch.setattr(available, "tried", lambda: ("bwrap is missing", "install bubblewrap 0.8 or newer"))


@pytest.mark.usefixtures("none")
@pytest.mark.parametrize("words", ["program", "command:run=/usr/bin/python3", "ensemble:of=equation+program"])
def test_a_run_that_needs_the_sandbox_does_not_begin_without_it(words: str) -> None:
    """Not after an hour of generation, and never unprotected."""
    asked = spec("word:count=2", "greedy", verifier=words)
    with pytest.raises(Unavailable, match=r"^no sandbox for model-written code: bwrap is missing; install bubblewrap"):
        work.check(asked)


# ---------------------------------------------------------------------------------------------------------------- grader

CALLS = {"entry": "add", "calls": [{"args": [1, 2], "expected": 3}, {"args": [2, 2], "expected": 4}]}
STDIN = {"stdin": [{"input": "1 2\n", "output": "3\n"}, {"input": "5 5\n", "output": "10\n"}]}


def problem(tests: Mapping[str, Any]) -> Problem:
    return Problem("p", "Write it.", named(tests), meta={"style": "code", "grader": "code", "tests": tests})


@needs_sandbox
@pytest.mark.parametrize(
    ("tests", "program", "verdict", "detail"),
    [
        (CALLS, "def add(a, b): return a + b", Verdict.CORRECT, ""),
        (CALLS, "def add(a, b): return a * b + 1", Verdict.WRONG, "test 2 of 2: not what is expected"),
        (CALLS, "def plus(a, b): return a + b", Verdict.WRONG, "test 1 of 2: KeyError: 'add'"),
        (CALLS, "def add(a, b: return", Verdict.UNPARSED, "the program is no Python: SyntaxError"),
        (CALLS, "def add(a, b):\n    while a < 2: pass\n    return a + b", Verdict.TIMEOUT, "test 1 of 2: more time"),
        ({**CALLS, "entry": "Solution.add"}, "class Solution:\n    def add(self, a, b): return a + b", Verdict.CORRECT, ""),
        (STDIN, "print(sum(map(int, input().split())))", Verdict.CORRECT, ""),
        (STDIN, "import sys\nprint(sum(map(int, sys.stdin.buffer.read().split())))\nsys.exit()", Verdict.CORRECT, ""),
        (STDIN, "if __name__ == '__main__':\n    print(eval(input().replace(' ', '+')))", Verdict.CORRECT, ""),
        (STDIN, "print(3)", Verdict.WRONG, "test 2 of 2: not what is expected"),
        (STDIN, "print(3)\nraise SystemExit(1)", Verdict.WRONG, "test 1 of 2: SystemExit: 1"),
    ],
)
def test_a_program_is_graded_by_its_tests(tests: dict[str, Any], program: str, verdict: Verdict, detail: str) -> None:
    with Graders() as graders:
        found = graders.grade(
            problem({**tests, "seconds": 0.5 if verdict is Verdict.TIMEOUT else 5.0}), None, solution(program)
        )
        assert found is verdict
        assert graders.detail.startswith(detail)
        assert graders.grade(problem({**tests, "seconds": 0.5 if verdict is Verdict.TIMEOUT else 5.0}), program) is verdict, (
            "the stored answer is graded as the text is"
        )


def test_a_text_without_a_program_is_unparsed_and_no_sandbox_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verifiers.graders.judge", lambda *_: pytest.fail("nothing is there to run"))
    with Graders() as graders:
        assert graders.grade(problem(CALLS), None, "I cannot.") is Verdict.UNPARSED


def test_equal_programs_on_other_tests_are_other_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def judge(tests: Mapping[str, Any], _: str) -> Found:
        seen.append(tests)
        return Found("correct")

    monkeypatch.setattr("verifiers.graders.judge", judge)
    with Graders() as graders:
        for tests in (CALLS, STDIN, CALLS):
            graders.grade(problem(tests), "print(1)")
    assert seen == [CALLS, STDIN]


@pytest.mark.usefixtures("none")
def test_problems_that_need_the_sandbox_are_refused_before_the_run() -> None:
    ready([Problem("p", "?", "4")])
    with pytest.raises(Unavailable):
        ready([Problem("p", "?", "4"), problem(CALLS)])


def test_a_row_with_tests_is_a_code_problem(tmp_path: Path) -> None:
    file = tmp_path / "code.jsonl"
    suite = {"suite": "assert add(1, 2) == 3"}
    rows = [
        {"prompt": "Add.", "tests": CALLS},
        {"question": "Sum.", "tests": json.dumps(STDIN)},
        {"prompt": "S.", "tests": suite},
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    found = load_jsonl(file)
    assert [grader_for(each) for each in found] == ["code", "code", "code-forgeable"]
    assert [each.answer.rpartition(" ")[0] for each in found] == ["2 tests", "2 tests", "a suite"]
    assert found[1].meta["tests"] == STDIN
    assert extractor_for(found[0].meta)(solution("x = 1")).key == "x = 1"


@pytest.mark.parametrize(
    ("tests", "why"),
    [
        *(("[", "is text but no JSON"), ([], "must be an object"), ({"calls": [], "entry": "f"}, "a list of 1 to 1000")),
        *(({**CALLS, **STDIN}, "one of calls, stdin and suite"), ({}, "not none"), ({**STDIN, "entry": "f"}, "has none")),
        *(({**CALLS, "entry": "f()"}, "NAME or CLASS.NAME"), ({"calls": CALLS["calls"]}, "NAME or CLASS.NAME")),
        *(({**CALLS, "second": 1}, "unknown field 'second'"), ({**CALLS, "seconds": True}, "'seconds' of tests must be")),
        *(({"stdin": [{"input": 1, "output": ""}]}, "test 1: input and output"), ({"suite": " "}, "must be code")),
        ({"suite": "x = 1\nassert ("}, r"'suite' of tests is no Python, its line 2: '\(' was never closed: assert \("),
        *(({"suite": "return 1"}, "no Python, its line 1: 'return' outside function"), ({"suite": "x\0"}, "no Python: ")),
        ({"entry": "f", "calls": [{"args": 1, "expected": 2}]}, "test 1: args must be a list"),
        ({"entry": "f", "calls": [{"args": [1]}]}, "test 1 must have args and expected"),
    ],
)
def test_tests_that_cannot_be_are_told_with_the_line(tests: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=why):
        cases_of(tests)
    file = tmp_path / "code.jsonl"
    file.write_text(json.dumps({"prompt": "Add.", "tests": tests}))
    with pytest.raises(DataError, match=r"code\.jsonl:1: .*" + why):
        load_jsonl(file)


# ------------------------------------------------------------------------------------------------------- voting together


def entry(path: str, answer: str | None, tokens: int = 5) -> Entry:
    return Entry(path, answer, tokens)


def score(path: str, value: float | None, found: str | None, also: str = "") -> Score:
    return Score(path, "program", value, () if value is None else (value,), told(found, also) if found is not None else also)


def read(text: str) -> Any:
    return extractor_for("math")(text)


def test_what_a_verifier_found_is_read_back_and_nothing_else_is() -> None:
    assert heard(score("0", 1.0, "42")) == "42"
    assert heard(score("0", None, "4; 5", "no answer in the text (none; at all)")) == "4; 5"
    for reason in ("", "the program failed: the program's answer is: 42", "no program: x"):
        assert heard(Score("0", "program", None, reason=reason)) is None, reason
    assert heard(None) is None


def test_text_and_programs_vote_together_by_their_weights() -> None:
    pool = [entry("0", "4"), entry("1", "4"), entry("2", "7"), entry("3", None), entry("4", "8")]
    scores = [score("0", 0.0, "7"), None, score("2", 1.0, "7"), score("3", None, "7"), score("4", None, None, "no program: x")]
    both = elected(pool, ballots(pool, scores, read))
    assert (both.path, both.answer) == ("2", "7")  # of 7's voters, the one whose text and program say it
    assert [(v.answer, v.count, v.weight) for v in both.votes] == [("7", 3, 4.0), ("4", 2, 2.0), ("8", 1, 1.0)]
    assert both.reason == "collaborative: votes 4 from 1 texts and 3 programs of 5 candidates"
    assert elected(pool, ballots(pool, scores, read, program=0.0)).answer == "4"
    assert elected(pool, ballots(pool, scores, read, text=0.0)).votes[0].weight == 3.0
    assert elected(pool, ballots(pool, scores, read, text=2.0, program=0.6)).votes[0].answer == "4"  # 4.0 against 2.0 + 1.8


def test_a_program_that_agrees_votes_for_its_texts_answer() -> None:
    """0.333333333 and 1/3 are two keys: counted apart, a right pair would lose to one wrong text."""
    pool = [entry("0", "\\frac{1}{3}")]
    [choice] = [elected(pool, ballots(pool, [score("0", 1.0, "0.333333333")], read))]
    assert [(vote.answer, vote.weight) for vote in choice.votes] == [("\\frac{1}{3}", 2.0)]


def test_ties_go_to_the_more_certain_then_the_shorter_then_the_earlier() -> None:
    pool = [entry("0", "1", 9), entry("1", "2", 5), entry("2", "3", 5)]
    assert elected(pool, ballots(pool, [None] * 3, read)).path == "1"
    assert elected(pool, []).path is None
    together = ballots(pool, [score("0", 1.0, "1"), None, None], read)
    assert elected(pool, together).path == "0"


@dataclass
class Runs:
    """A verifier by its text: what each program "computes" is a function of the trace."""

    says: Callable[[str], Reading]

    def score(self, traces: Sequence[Trace]) -> list[Reading]:
        return [self.says("".join(each.text for each in one.steps)) for one in traces]


def searched(texts: Sequence[str], verifier: Any, words: Mapping[str, Any] | None = None) -> tuple[Any, Tree]:
    """The strategy over solutions that are given."""
    tree = Tree(question("p"), extractor_for("math"), verifier="program", join=Join.LAST)
    search = build(Part("collaborative", {"n": len(texts), **(words or {})})).search(tree)
    request = next(search)
    try:
        while True:
            if isinstance(request, Extend):
                reply: Any = Extension(tuple(step(text) for text in texts))
            else:
                assert isinstance(request, Verify)
                reply = Readings(tuple(verifier.score(request.traces)))
            request = search.send(reply)
    except StopIteration as stop:
        return stop.value, tree


def test_an_answer_that_only_programs_gave_becomes_the_chosen_candidates() -> None:
    """The choice must be a candidate with that answer, in the store too."""
    runs = Runs(lambda text: Reading((0.0,), told("9")))
    choice, tree = searched(["a \\boxed{1}", "bb \\boxed{2}", "c no answer"], runs)
    assert (choice.answer, choice.votes[0].weight) == ("9", 3.0)
    assert tree.answer(choice.path).key == "9"
    others = {path for path in tree.candidates if path != choice.path}
    assert "9" not in {tree.answer(path).key for path in others}


def test_without_programs_it_is_majority() -> None:
    choice, _ = searched(["\\boxed{1}", "\\boxed{2}", "\\boxed{2} x"], Runs(lambda _: Reading((1.0,))))
    assert (choice.answer, [(v.answer, v.count) for v in choice.votes]) == ("2", [("2", 2), ("1", 1)])


@pytest.mark.parametrize("words", [{"text": -1.0}, {"program": float("nan")}, {"text": 0.0, "program": 0.0}, {"n": 0}])
def test_weights_that_cannot_be_are_refused(words: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"text|program|n must"):
        build(Part("collaborative", words))


@needs_sandbox
def test_programs_that_were_really_run_outvote_texts_that_slipped() -> None:
    """Three texts err in three ways; their programs agree with the one that is right."""
    texts = [solution("print(17 * 24)", f"The answer is {said}.") for said in (408, 398, 418)]
    texts += [solution("print(undefined)", "The answer is 398."), "The answer is 398."]
    verifier, join = load_verifier(Part("program", {"seconds": 2}))
    assert join is Join.LAST
    choice, tree = searched(texts, verifier)
    assert choice.answer == "408"
    assert [(v.answer, v.weight) for v in choice.votes] == [("408", 4.0), ("398", 3.0), ("418", 1.0)]
    assert elected([entry(str(i), tree.answer(str(i)).key) for i in range(5)], []).path is None
    majority = build(Part("collaborative", {"n": 5, "program": 0.0}))
    assert majority.program == 0.0  # type: ignore[attr-defined]
    assert searched(texts, verifier, {"program": 0.0})[0].answer == "398"


@needs_sandbox
@pytest.mark.slow
def test_a_run_with_programs_is_stored_graded_and_replayed(tmp_path: Path) -> None:
    """The bundled model writes no programs: all of the way but the programs' own votes."""
    rows = [{"prompt": "2 + 2 = ?", "tests": CALLS}, {"prompt": "3 + 2 = ?", "tests": STDIN}]
    (tmp_path / "code.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with open_database(tmp_path / "runs.db") as database:
        for problems in ("word:count=3,levels=2-3,seed=3", f"jsonl:file={tmp_path / 'code.jsonl'}"):
            asked = spec(problems, "collaborative:n=3", verifier="program")
            run = work.evaluate(database, asked)
            again = audit.Replays()
            audit.replay(database, find_run(database, run), None, again)
            assert (again.done, again.faults) == (3 if problems[0] == "w" else 2, [])
            scores = list(queries.pools(database, run))
            assert all(entry.value is None for _, pool in scores for entry in pool)
        assert {row.grader for row in queries.attempts(database, run)} == {"code"}


def test_a_reason_beside_a_value_is_kept_with_the_score() -> None:
    found = scored("0", "program", (1.0,), told("42"), Join.LAST)
    assert (found.value, heard(found)) == (1.0, "42")
