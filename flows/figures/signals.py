"""How well each reward-free signal tells right from wrong among the solutions of one problem: no model but the generator runs.

    python -m flows.figures.signals        # 60 problems of word and countdown, 16 samples each

The figure is a same-problem AUC: of all pairs of a right and a wrong solution of one problem, the share in which the signal
puts the right one higher (ties count half), averaged over the problems that have both, with a 95% interval by a bootstrap over
those. 0.5 is chance. `shortest` puts the shorter solution higher, which any sum over tokens does to a degree.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from flows import launch
from flows.figures.measured import ROUNDS, Span, said, whole
from flows.parts import part, spec
from flows.tables import console, table
from search.select import Entry
from search.types import RunSpec, Sampling
from store.database import Database, open_database
from store.pools import Signal, pools
from store.runs import planned
from store.stats import interval, resampled_means
from verifiers.grade import Graders, Verdict
from verifiers.registry import load_verifier

K = 20  # of DeepConf's token confidence
SIGNALS = (
    "logprob",
    "perplexity",
    "entropy",
    "self-certainty",
    "g-nll",
    "confidence:group=mean",
    "confidence:group=lowest,window=16",
    "confidence:group=bottom,window=16",
    "confidence:group=tail,window=16",
    "confidence:group=lowest,window=16,of=self-certainty",
)


def auc(right: Sequence[float], wrong: Sequence[float]) -> float:
    """The share of pairs in which the right one is higher; ties count half."""
    apart = np.subtract.outer(np.asarray(right), np.asarray(wrong))
    return float(((apart > 0) + 0.5 * (apart == 0)).mean())


def pool_of(problems: str, samples: int, database: str) -> RunSpec:
    """The run of a pool that keeps what every signal goes by, done or gone on with."""
    asked = spec(problems, f"best-of-n:n={samples},select=majority", "logprob", sampling=Sampling(confidence=K))
    if not whole([asked], database):
        launch.launch([asked], [f"signals {problems}"], database, plain=True)
    return asked


def verdicts(opened: Database, run_id: str) -> Mapping[int, Mapping[str, bool]]:
    """Of each attempt, whether each of its answers is right."""
    problems = {a.attempt_id: a.problem for a in planned(opened, run_id)}
    answers = {attempt: sorted({e.answer for e in pool if e.answer is not None}) for attempt, pool in pools(opened, run_id)}
    asked = [(attempt, answer) for attempt, own in answers.items() for answer in own]
    with Graders() as graders:
        found = graders.grade_all((problems[attempt], answer, "") for attempt, answer in asked)
    right: dict[int, dict[str, bool]] = {attempt: {} for attempt in answers}
    for (attempt, answer), verdict in zip(asked, found, strict=True):
        right[attempt][answer] = verdict is Verdict.CORRECT
    return right


def figure(
    read: Mapping[int, Sequence[Entry]], right: Mapping[int, Mapping[str, bool]], shortest: bool = False
) -> tuple[Span, int]:
    """The mean over problems with its interval, and of how many problems."""
    found = []
    for attempt, pool in read.items():
        sides: tuple[list[float], list[float]] = ([], [])
        for entry in pool:
            value = -float(entry.tokens) if shortest else entry.value
            if value is not None:
                sides[not right[attempt].get(entry.answer or "", False)].append(value)
        if all(sides):
            found.append(auc(*sides))
    values = np.array(found)[:, None]
    low, high = interval(resampled_means(values, ROUNDS)[:, 0])
    return (float(values.mean()), low, high), len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=["word", "countdown"])
    parser.add_argument("--problems", type=int, default=60)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--signals", nargs="+", default=SIGNALS)
    parser.add_argument("--database", default=".ponderosa/figures.db")
    options = parser.parse_args()
    for family in options.families:
        problems = f"{family}:split=test,count={options.problems},seed=1"
        run_id = pool_of(problems, options.samples, options.database).id
        with open_database(options.database) as opened:
            right = verdicts(opened, run_id)
            plain = figure(dict(pools(opened, run_id)), right, shortest=True)
            made = table(
                "signal", ">AUC", ">95%", title=f"\n{problems}, {options.samples} samples; {plain[1]} problems have both"
            )
            made.add_row("shortest", *said(plain[0], 3))
            for name in options.signals:
                signal = Signal(*load_verifier(part(name)))
                made.add_row(name, *said(figure(dict(pools(opened, run_id, signal=signal)), right)[0], 3))
        console().print(made)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
