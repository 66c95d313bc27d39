"""`ponderosa retrain`: a reward model that goes on learning from stored candidates, measured before and after on others.

Problems, not solutions, are parted: those that it is measured on lend it none of theirs. Steps of the bundled families are
labelled exactly, by their checkers; other solutions tell only how they ended, and are learned from by TD(lambda).
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flows.places import checked, making
from pipelines.train.given import writable_folder
from search.types import Join, Part, Problem, RunSpec, Trace, Verifier
from store.database import Database
from store.rescored import Whole, wholes
from store.runs import Run, find_run
from verifiers.grade import Graders, Verdict

if TYPE_CHECKING:
    from flows.parameters import RetrainParameters
    from pipelines.problems import Instance
    from pipelines.train.labelled import Sample

LEAST_PROBLEMS = 12  # to train on; half as many to measure on
LEAST_EACH = 20  # right and wrong solutions to train on
DRAWN = 100_000  # instances of a family that are looked at for a set's own
LAMBDA = 0.9  # of TD(lambda), where only outcomes are known


@dataclass(frozen=True, slots=True)
class Solved:
    """One stored solution and whether its answer is right."""

    run: str
    problem: Problem
    path: str
    trace: Trace
    answer: str | None
    right: bool

    @property
    def steps(self) -> tuple[str, ...]:
        return tuple(self.trace.texts)


@dataclass(frozen=True, slots=True)
class Measured:
    """How well a reward model does over held-out problems. None = nothing to measure."""

    auc: float | None  # right against wrong solutions of one problem: the chance that the right one scores higher
    best: float  # accuracy of the solution that scores highest
    weighted: float  # of the answer with the largest sum of scores

    def __str__(self) -> str:
        return f"AUC {'–' if self.auc is None else f'{self.auc:.3f}'}, best {self.best:.3f}, weighted {self.weighted:.3f}"


@dataclass(frozen=True, slots=True)
class Retrained:
    """What was trained, on what, and what it is worth."""

    folder: str
    labels: str
    problems: tuple[int, int]  # trained on, held out
    solutions: tuple[int, int]
    majority: float  # accuracy of the vote without scores, over the held-out problems
    before: Measured
    after: Measured
    tokens: int  # trained on
    seconds: float
    notes: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For a person."""
        return [
            *self.notes,
            f"trained on {self.solutions[0]:,} solutions of {self.problems[0]} problems ({self.labels} labels), "
            f"{self.tokens:,} tokens, {self.seconds:.0f} s",
            f"held out   {self.solutions[1]:,} solutions of {self.problems[1]} problems; "
            f"majority without scores {self.majority:.3f}",
            f"before     {self.before}",
            f"after      {self.after}",
            f"use it     --verifier prm:model={self.folder}",
        ]


def run(opened: Database, asked: RetrainParameters) -> Retrained:
    """Trains and measures. ValueError in one line where there is not enough, or the folder is there."""
    folder = Path(asked.folder)
    if folder.exists():
        raise ValueError(f"the folder '{folder}' is there already; name one that is not")
    writable_folder(folder)
    runs = [find_run(opened, each) for each in dict.fromkeys(asked.runs)]
    solved = collected(opened, runs)
    train, apart = parted(solved, asked.held_out, asked.seed)
    known = instances_of(runs, {each.problem.prompt: each.problem for each in solved})
    labels = _labels(asked.labels, train, known)
    enough(train, apart)
    samples = labelled(train, known, labels)
    return _trained(asked, folder, train, apart, samples, labels, _notes(runs))


def collected(opened: Database, runs: Sequence[Run]) -> list[Solved]:
    """All whole solutions of the runs, graded; a sample that several runs have (the same seed, path and text) once."""
    out: list[Solved] = []
    seen: set[tuple[object, ...]] = set()
    with Graders() as graders:
        for found in runs:
            for whole in wholes(opened, found.id, "grader", ""):
                for each in _graded(found.id, whole, graders):
                    key = (found.spec.seed, each.problem.id, each.problem.prompt, each.path, each.steps)
                    if each.steps and key not in seen:
                        seen.add(key)
                        out.append(each)
    return out


def _graded(run_id: str, whole: Whole, graders: Graders) -> Iterator[Solved]:
    said = {answer for answer in whole.answers.values() if answer is not None}
    verdicts = {answer: graders.grade(whole.problem, answer) is Verdict.CORRECT for answer in said}
    for path, trace in whole.traces.items():
        if trace.question.text != whole.problem.prompt:  # a prompt of the strategy's own: which of two is better, say
            continue
        answer = whole.answers[path]
        yield Solved(run_id, whole.problem, path, trace, answer, answer is not None and verdicts[answer])


def parted(solved: Sequence[Solved], held_out: float, seed: int) -> tuple[list[Solved], list[Solved]]:
    """Those to train on and those to measure on, by problem: a share of the problems, the same for the same seed."""

    def lot(text: str) -> bytes:
        return hashlib.blake2b(f"{seed}|{text}".encode()).digest()

    prompts = sorted({each.problem.prompt for each in solved}, key=lot)
    apart = set(prompts[: math.ceil(held_out * len(prompts))])
    return [s for s in solved if s.problem.prompt not in apart], [s for s in solved if s.problem.prompt in apart]


def enough(train: Sequence[Solved], apart: Sequence[Solved]) -> None:
    """Raises ValueError where a model would learn nothing, or its measure say nothing."""
    problems, others = len({s.problem.prompt for s in train}), len({s.problem.prompt for s in apart})
    right = sum(s.right for s in train)
    wrong = len(train) - right
    mixed = sum(0 < sum(rights) < len(rights) for rights in _by_problem(apart))
    if problems < LEAST_PROBLEMS or others < LEAST_PROBLEMS // 2 or min(right, wrong) < LEAST_EACH or not mixed:
        raise ValueError(
            f"not enough to learn from: {right} right and {wrong} wrong solutions of {problems} problems, {others} problems "
            f"held out, {mixed} of them with both; needed are {LEAST_EACH} of each, {LEAST_PROBLEMS} problems, "
            f"{LEAST_PROBLEMS // 2} held out, 1 with both. Run best-of-n on more problems, or name more runs"
        )


def _by_problem(solved: Sequence[Solved]) -> list[list[bool]]:
    found: dict[str, list[bool]] = defaultdict(list)
    for each in solved:
        found[each.problem.prompt].append(each.right)
    return list(found.values())


def instances_of(runs: Sequence[Run], wanted: dict[str, Problem]) -> dict[str, Instance]:
    """The instances behind stored problems of the bundled families, by question: drawn again, as their sets were."""
    from pipelines.problems import FAMILIES, instances
    from pipelines.problems.load import levels_of

    found: dict[str, Instance] = {}
    for part in {str(run.spec.problems): run.spec.problems for run in runs if run.spec.problems.name in FAMILIES}.values():
        levels = levels_of(part.params["levels"]) if "levels" in part.params else None
        source = instances(FAMILIES[part.name], part.params.get("split", "test"), int(part.params.get("seed", 0)), levels)
        missing = {q for q, p in wanted.items() if p.meta.get("family") == part.name} - set(found)
        for _ in range(min(DRAWN, 50 * int(part.params.get("count", 100)))):
            if not missing:
                break
            instance = next(source)
            if instance.question in missing:
                found[instance.question] = instance
                missing.remove(instance.question)
    return found


def _labels(wanted: str, train: Sequence[Solved], known: dict[str, Instance]) -> str:
    """Which labels are to be had: 'exact' where all problems are of families with a checker."""
    exact = all(each.problem.prompt in known for each in train)
    if wanted == "exact" and not exact:
        lacking = next(each.problem.id for each in train if each.problem.prompt not in known)
        raise ValueError(f"problem '{lacking}' has no exact labels: its set has no checker of steps; use labels=outcome")
    return ("exact" if exact else "outcome") if wanted == "auto" else wanted


def labelled(train: Sequence[Solved], known: dict[str, Instance], labels: str) -> list[Sample]:
    """The solutions in the format of pipelines.train.labelled."""
    from pipelines.train.labelled import Sample
    from pipelines.train.samples import Solution, exactly

    if labels == "exact":
        tokens = [sum(map(len, each.trace.steps)) for each in train]
        return list(exactly([Solution(known[s.problem.prompt], s.steps, n) for s, n in zip(train, tokens, strict=True)]))
    families = [str(each.problem.meta.get("family") or each.problem.source) for each in train]
    return [
        Sample(family, s.problem.prompt, s.steps, (None,) * len(s.steps), s.right)
        for family, s in zip(families, train, strict=True)
    ]


def _trained(
    asked: RetrainParameters,
    folder: Path,
    train: Sequence[Solved],
    apart: Sequence[Solved],
    samples: Sequence[Sample],
    labels: str,
    notes: tuple[str, ...],
) -> Retrained:
    from pipelines.models import locate
    from pipelines.train import prm
    from pipelines.train.labelled import write

    began = time.monotonic()
    before = measured(Part("prm", {"model": asked.init}), apart)
    folder.parent.mkdir(parents=True, exist_ok=True)
    checked(folder, force=False, folder=True)
    with making(folder, folder=True) as part:  # what is broken off leaves nothing that looks like a model
        file = part / "samples.jsonl"
        write(samples, file)
        words = [str(part), "--init", str(locate(asked.init, "reward")), "--samples", str(file), "--tokens", str(asked.tokens)]
        words += ["--seed", str(asked.seed), "--drills", "0.1", "--pages", "0", "--own", "0.9"]
        words += ["--td", str(LAMBDA)] if labels == "outcome" else []
        with contextlib.redirect_stdout(sys.stderr):  # its lines are progress, and ours are data
            loop = prm.train(prm.parser().parse_args(words))
    after = measured(Part("prm", {"model": str(folder)}), apart)
    counts = len({s.problem.prompt for s in train}), len({s.problem.prompt for s in apart})
    vote = _accuracy(apart, [1.0] * len(apart), by_sum=True)
    seconds = time.monotonic() - began
    return Retrained(str(folder), labels, counts, (len(train), len(apart)), vote, before, after, loop.seen, seconds, notes)


def measured(verifier: Part, apart: Sequence[Solved]) -> Measured:
    """A reward model over solutions that it did not learn from."""
    from verifiers.registry import load_verifier

    loaded, join = load_verifier(verifier)
    values = _values(loaded, join, apart)
    best, weighted = (_accuracy(apart, values, by_sum) for by_sum in (False, True))
    return Measured(_auc(apart, values), best, weighted)


def _values(verifier: Verifier, join: Join, of: Sequence[Solved]) -> list[float]:
    """A value of each solution; 0 where the verifier has none."""
    out: list[float] = []
    for at in range(0, len(of), 256):
        readings = verifier.score([each.trace for each in of[at : at + 256]])
        out += [join(reading.parts) if reading.parts else 0.0 for reading in readings]
    return out


def _auc(of: Sequence[Solved], values: Sequence[float]) -> float | None:
    """The mean over problems that have both kinds of the chance that a right solution scores above a wrong one."""
    found: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for each, value in zip(of, values, strict=True):
        found[each.problem.prompt][each.right].append(value)
    chances = [
        sum((r > w) + 0.5 * (r == w) for r in right for w in wrong) / (len(right) * len(wrong))
        for wrong, right in found.values()
        if right and wrong
    ]
    return sum(chances) / len(chances) if chances else None


def _accuracy(of: Sequence[Solved], values: Sequence[float], by_sum: bool) -> float:
    """The share of problems whose chosen answer is right: of the largest sum of scores, or of the highest score."""
    sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    right: dict[tuple[str, str], bool] = {}
    for each, value in zip(of, values, strict=True):
        own = sums[each.problem.prompt]
        if each.answer is not None:
            own[each.answer] = own[each.answer] + value if by_sum else max(own[each.answer], value)
            right[each.problem.prompt, each.answer] = each.right
    chosen = [(prompt, max(own, key=lambda answer: own[answer])) for prompt, own in sums.items() if own]
    return sum(right[each] for each in chosen) / len(sums) if sums else 0.0


def _notes(runs: Sequence[Run]) -> tuple[str, ...]:
    tests = [run.id for run in runs if _of_test(run.spec)]
    said = "problems of the test split: a model that learned from them is not to be measured there"
    return (f"note: {', '.join(tests)} solved {said}",) if tests else ()


def _of_test(spec: RunSpec) -> bool:
    return spec.problems.name != "jsonl" and spec.problems.params.get("split", "test") == "test"


__all__ = ["Measured", "Retrained", "Solved", "collected", "enough", "labelled", "parted", "run"]
