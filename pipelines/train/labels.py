"""Labels the steps of a generator's own solutions, by one of several methods, and counts what that costs.

    python -m pipelines.train.labels shepherd-hard GENERATOR OUT.jsonl --problems 1000 --each 4 --rollouts 8

exact            the families' own checkers; costs nothing
shepherd-hard    1 where any of N completions from the step is right (arXiv 2312.08935)
shepherd-soft    the share of them that is
omega            halving for the first step that no completion survives (arXiv 2406.06592)
spare            held against the reference solution, by program (arXiv 2506.15498); costs nothing
spare-text       the same by a language model (--annotator)
outcome          how the solution ends, and nothing else: for prm.py --td

Solutions are a function of generator, problems, seed and --each, so every method labels the same ones. Cost is in generated
tokens: completions of a beginning that several solutions share are drawn and charged once. Solutions of a problem that are the
same are kept once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.models import ModelError, load_generator
from pipelines.problems import FAMILIES, Instance
from pipelines.train import annotator, omega, spare
from pipelines.train.given import Refused, least, refusing, writable_file
from pipelines.train.labelled import Sample, write
from pipelines.train.rollouts import Drawn, Rollouts, Source, Steps, ended, shepherd
from pipelines.train.samples import SEED, SHARES, Solution, problems, sampled

Method = Callable[[Sequence[Solution], Source], list[Sample]]


@dataclass(slots=True)
class Charged:
    """A source of completions that counts, for one method, what is drawn for the first time."""

    source: Source
    seen: set[tuple[str, Steps]]

    def draw(self, wanted: Sequence[tuple[Instance, Steps]]) -> tuple[list[Drawn], list[tuple[int, int]]]:
        """(completions, (tokens, rollouts) charged) of each beginning, in order."""
        drawn, charges = self.source.draw(wanted), []
        for (instance, steps), each in zip(wanted, drawn, strict=True):
            new = (instance.key, steps) not in self.seen
            self.seen.add((instance.key, steps))
            charges.append((sum(each.tokens), len(each.right)) if new else (0, 0))
        return drawn, charges


def exact(solutions: Sequence[Solution], _: Source) -> list[Sample]:
    return [_sample(s, tuple(map(float, FAMILIES[s.instance.family].label(s.instance, s.steps)))) for s in solutions]


def outcome(solutions: Sequence[Solution], _: Source) -> list[Sample]:
    return [_sample(s, (*[None] * (len(s.steps) - 1), float(s.right))) for s in solutions]


def by_reference(solutions: Sequence[Solution], _: Source) -> list[Sample]:
    return [_sample(s, spare.by_program(s.instance.question, s.steps, s.instance.steps, s.right)) for s in solutions]


def by_annotator(ask: annotator.Ask) -> Method:
    """The single pass by the language model behind `ask`."""

    def method(solutions: Sequence[Solution], _: Source) -> list[Sample]:
        asked = [(s.instance.question, s.instance.steps, s.steps, s.right) for s in solutions]
        found = annotator.Annotator(ask).annotate(asked)
        return [_sample(s, each.labels, tokens=each.tokens) for s, each in zip(solutions, found, strict=True)]

    return method


def by_rollouts(soft: bool) -> Method:
    """Math-Shepherd, with hard or soft labels."""

    def method(solutions: Sequence[Solution], source: Source) -> list[Sample]:
        charged = Charged(source, set())
        wanted = [[s.steps[:i] for i in range(1, len(s.steps))] for s in solutions]
        # a step that gives an answer before the end is followed by more steps: nothing can be drawn after it
        asked = [(s.instance, steps) for s, rows in zip(solutions, wanted, strict=True) for steps in rows if not ended(steps)]
        drawn, charges = charged.draw(asked)
        found = {(i.key, steps): each for (i, steps), each in zip(asked, drawn, strict=True)}
        spent = iter(charges)
        out = []
        for s, rows in zip(solutions, wanted, strict=True):
            own = [next(spent) for steps in rows if not ended(steps)]
            reads = [found.get((s.instance.key, steps), Drawn(((),), (False,), (0,))) for steps in rows]
            out.append(_sample(s, shepherd(reads, s.right, soft), soft, sum(t for t, _ in own), sum(n for _, n in own)))
        return out

    return method


def by_halving(searches: int | None = None, grown: bool = False) -> Method:
    """OmegaPRM: `searches` a problem, default as many as there are wrong solutions; `grown` searches and adds completions that
    were drawn on the way."""

    def method(solutions: Sequence[Solution], source: Source) -> list[Sample]:
        charged = Charged(source, set())
        groups: dict[str, list[Solution]] = {}
        for solution in solutions:
            groups.setdefault(solution.instance.key, []).append(solution)
        running = {}
        for key, group in groups.items():
            root = Drawn(tuple(s.steps for s in group), tuple(s.right for s in group), tuple(s.tokens for s in group))
            limit = sum(not s.right for s in group) if searches is None else searches
            running[key] = omega.Tree(root, grown).search(limit)
        found, spent = _in_step(running, {key: group[0].instance for key, group in groups.items()}, charged)
        return [row for key, group in groups.items() for row in _halved(group, found[key], spent[key])]

    return method


def _in_step(
    running: dict[str, Generator[Steps, Drawn, list[omega.Found]]], of: dict[str, Instance], charged: Charged
) -> tuple[dict[str, list[omega.Found]], dict[str, tuple[int, int]]]:
    """Runs the searches of all problems side by side, so that their completions are drawn in one batch a round."""
    found: dict[str, list[omega.Found]] = {}
    spent = dict.fromkeys(running, (0, 0))
    replies: dict[str, Drawn | None] = dict.fromkeys(running)
    while replies:
        asked: dict[str, Steps] = {}
        for key, reply in replies.items():
            try:
                asked[key] = next(running[key]) if reply is None else running[key].send(reply)
            except StopIteration as stop:
                found[key] = stop.value
        drawn, charges = charged.draw([(of[key], steps) for key, steps in asked.items()])
        for key, (tokens, rollouts) in zip(asked, charges, strict=True):
            spent[key] = spent[key][0] + tokens, spent[key][1] + rollouts
        replies = dict(zip(asked, drawn, strict=True))
    return found, spent


def _halved(group: Sequence[Solution], found: Sequence[omega.Found], spent: tuple[int, int]) -> list[Sample]:
    """The group's solutions and those that were found on the way; the problem's cost is the first one's."""
    firsts = dict(found)
    rows: list[Sample] = []
    for s in [*group, *(Solution(group[0].instance, steps, 0) for steps in firsts if steps not in {g.steps for g in group})]:
        cost = spent if not rows else (0, 0)
        first = firsts.get(s.steps)
        unknown: tuple[float | None, ...] = (*[None] * (len(s.steps) - 1), 0.0)
        labels = (1.0,) * len(s.steps) if s.right else unknown if first is None else omega.labels(s.steps, first)
        rows.append(_sample(s, labels, False, *cost))
    return rows


def _sample(
    solution: Solution, labels: tuple[float | None, ...], soft: bool = False, tokens: int = 0, rollouts: int = 0
) -> Sample:
    instance = solution.instance
    return Sample(
        instance.family, instance.question, solution.steps, labels, solution.right, "", soft, tokens=tokens, rollouts=rollouts
    )


METHODS: dict[str, Method] = {
    "exact": exact,
    "shepherd-hard": by_rollouts(soft=False),
    "shepherd-soft": by_rollouts(soft=True),
    "omega": by_halving(),
    "spare": by_reference,
    "outcome": outcome,
}


def distinct(solutions: Sequence[Solution]) -> list[Solution]:
    """Solutions of a problem that are the same, once."""
    return list({(s.instance.key, s.steps): s for s in solutions}.values())


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", choices=[*METHODS, "spare-text"])
    parser.add_argument("generator")
    parser.add_argument("out", type=Path)
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=["word", "countdown"])
    parser.add_argument("--problems", type=int, default=1000)
    parser.add_argument("--each", type=int, default=4)
    parser.add_argument("--rollouts", type=int, default=8, help="completions of a beginning")
    parser.add_argument("--searches", type=int, help="omega: of a problem; default: its wrong solutions")
    parser.add_argument("--grown", action="store_true", help="omega: search and add completions drawn on the way")
    parser.add_argument("--annotator", help="spare-text: the language model that is asked; default: the generator")
    parser.add_argument("--seed", type=int, default=SEED)
    return parser


def checked(options: argparse.Namespace) -> list[Instance]:
    """The problems that are asked for. Raises Refused where what is given will not do; nothing is loaded before."""
    least(1, problems=options.problems, each=options.each, rollouts=options.rollouts, searches=options.searches)
    for option, method in (("annotator", "spare-text"), ("searches", "omega"), ("grown", "omega")):
        if getattr(options, option) and options.method != method:
            raise Refused(f"--{option} is of the method {method}, and {options.method} does not read it; leave it out")
    writable_file(options.out)
    asked = problems({name: SHARES[name] for name in options.families}, options.problems, options.seed)
    if not asked:
        raise Refused(f"--problems {options.problems} over {len(options.families)} families is none of each; ask for more")
    return asked


def main() -> None:
    options = parser().parse_args()
    with refusing(Refused):
        asked = checked(options)
    with refusing(ModelError):
        model = load_generator(options.generator)
        other = load_generator(options.annotator) if options.annotator else model
    solutions = distinct(sampled(model, asked, options.each, options.seed))
    if options.method == "spare-text":
        method = by_annotator(annotator.asking(other))
    elif options.method == "omega":
        method = by_halving(options.searches, options.grown)
    else:
        method = METHODS[options.method]
    samples = method(solutions, Rollouts(model, options.rollouts, options.seed))
    write(samples, options.out)
    tokens, rollouts = sum(s.tokens for s in samples), sum(s.rollouts for s in samples)
    sys.stdout.write(f"{len(samples)} solutions, {tokens} tokens and {rollouts} completions to label them\n")


if __name__ == "__main__":
    main()
