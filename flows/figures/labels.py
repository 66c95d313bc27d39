"""Ways to label steps, side by side: the same solutions, the same number of training tokens, the same start.

    python -m flows.figures.labels FOLDER --train    # samples, labels and trains into FOLDER, then measures
    python -m flows.figures.labels FOLDER            # measures what FOLDER holds

Every training starts from the bundled reward model with a new head: what lies below can calculate and look ahead, and what a
label means is learned anew. That is a warm start: it was trained on exact labels, so the table says how far the errors of
labels mislead a model that could know better, not which labels would have taught it. With --base it is another model; one
that checks arithmetic and has seen no label of any solution's step is made by

    python -m pipelines.train.prm BASE --grow GENERATOR --tokens 1000000 --drills 1 --pages 0 --lr 2.5e-3

The labels are held against exact ones, the trained models against exact labels of the generator's solutions of held-out
problems: AUC of right against wrong steps up to a solution's first wrong one, within one problem at one place and pooled;
ProcessBench's first-error F1, its threshold chosen on validation problems; and what the model's best of 16 gets above the
majority of 16, with a 95% interval over problems. A step's score is the minimum of the values up to it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flows.figures.stepwise import FAMILY, aucs, gain, judged, pool
from pipelines.models import BUNDLED, load_generator
from pipelines.train import prm
from pipelines.train.labelled import Sample, read, write
from pipelines.train.labels import METHODS, distinct
from pipelines.train.measures import best_threshold, first_below, first_error_f1
from pipelines.train.rollouts import Rollouts
from pipelines.train.samples import SEED, Solution, problems, sampled
from search.types import Part, Verifier
from verifiers.registry import load_verifier

RECIPE = "--fresh --drills 0.1 --pages 0 --own 0.9 --lr 1.5e-3 --batch-tokens 1024"  # about 60 updates
POOL = 16  # solutions of a held-out problem


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one row of the table is made."""

    labels: str  # a method of pipelines.train.labels
    seed: int = 0
    options: tuple[str, ...] = ()  # of pipelines.train.prm


TD = ("--td", "0.8", "--ramp", "30")
RECIPES = {
    "exact": Recipe("exact"),
    "shepherd-hard": Recipe("shepherd-hard"),
    "shepherd-soft": Recipe("shepherd-soft"),
    "omega": Recipe("omega"),
    "spare": Recipe("spare"),
    "td": Recipe("outcome", 0, TD),
    "td-second": Recipe("outcome", 1, TD),
}
ENSEMBLES = {"td, both": ("td", "td-second")}


# ---------------------------------------------------------------------------------------------------------------- training


def label(folder: Path, generator: str, count: int) -> None:
    """The labels of every method into FOLDER/labels; what is there is kept."""
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    missing = [name for name in METHODS if not (folder / "labels" / f"{name}.jsonl").exists()]
    if missing:
        model = load_generator(generator)
        asked = problems(dict.fromkeys(FAMILY, 0.5), count, SEED)
        solutions = distinct(sampled(model, asked, 4, SEED))
        source = Rollouts(model, 8, SEED)
        for name in missing:
            write(METHODS[name](solutions, source), folder / "labels" / f"{name}.jsonl")


def train(folder: Path, base: Path, tokens: int) -> None:
    """The models of all recipes into FOLDER; what is there is kept."""
    for name, recipe in RECIPES.items():
        if (folder / name / "card.json").exists():
            continue
        given = ["--init", base, "--samples", folder / "labels" / f"{recipe.labels}.jsonl", "--tokens", tokens]
        words = [folder / name, *given, *RECIPE.split(), "--families", *FAMILY, "--seed", recipe.seed, *recipe.options]
        _say(f"training {name}")
        prm.train(prm.parser().parse_args([*map(str, words)]))


# --------------------------------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True, slots=True)
class Agreement:
    """Labels against exact ones, counted by step up to a solution's first wrong one; soft labels say right from one half."""

    kept: int  # right steps labelled right
    lost: int  # right steps labelled wrong
    found: int  # wrong steps labelled wrong
    missed: int  # wrong steps labelled right
    silent: int  # steps without a label

    def __str__(self) -> str:
        told = self.kept + self.lost + self.found + self.missed
        if not told:
            return "nothing labelled"
        right, wrong = self.kept + self.lost, self.found + self.missed
        parts = [f"{(self.kept + self.found) / told:.3f}"]
        parts += [f"{part / of:.3f}" if of else "none" for part, of in ((self.kept, right), (self.found, wrong))]
        return ", ".join([*parts, f"{told / (told + self.silent):.2f}"])


def agreement(samples: Sequence[Sample], exact: Sequence[Sample], family: str) -> Agreement:
    """Of the solutions of a family that have exact labels."""
    known = {(sample.question, sample.steps): sample for sample in exact}
    counts = {(truth, label): 0 for truth in (True, False) for label in (True, False, None)}
    for ours in samples:
        theirs = known.get((ours.question, ours.steps))
        if ours.family != family or theirs is None:
            continue
        upto = theirs.labels.index(0) + 1 if 0 in theirs.labels else len(theirs.labels)
        for label, truth in zip(ours.labels[:upto], theirs.labels[:upto], strict=True):
            counts[truth == 1, None if label is None else label >= 0.5] += 1
    silent = counts[True, None] + counts[False, None]
    return Agreement(counts[True, True], counts[True, False], counts[False, False], counts[False, True], silent)


def figures(verifier: Verifier, dev: Sequence[Solution], test: Sequence[Solution]) -> dict[str, list[str]]:
    """By family: AUC within and pooled, F1 with its threshold, gain of the best."""
    tuned, found, out = judged(verifier, dev), judged(verifier, test), {}
    for family in FAMILY:
        a, b = tuned.of(family), found.of(family)
        threshold, _ = best_threshold(a.values, a.first_wrong())
        f1 = first_error_f1([first_below(v, threshold) for v in b.values], b.first_wrong())
        within, pooled = aucs(b)
        more, low, high = gain(b)
        said = f"{f1:.3f} (at {threshold:.2f})" if f1 is not None else "nothing to find"
        out[family] = [f"{within:.3f}", f"{pooled:.3f}", said, f"{more:+.3f} [{low:+.3f}, {high:+.3f}]"]
    return out


def verifiers(folder: Path, others: Sequence[str]) -> dict[str, Part]:
    """Those of the table by name: other models first, then what FOLDER holds."""
    parts = {Path(other).name: Part("prm", {"model": other}) for other in others}
    parts |= {name: Part("prm", {"model": str(folder / name)}) for name in RECIPES if (folder / name / "card.json").exists()}
    for name, (a, b) in ENSEMBLES.items():
        if a in parts and b in parts:
            parts[name] = Part("ensemble", {"of": f"prm:model={folder / a}+prm:model={folder / b}"})
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", action="store_true", help="make first what FOLDER lacks")
    parser.add_argument("--base", type=Path, default=BUNDLED["reward"], help="the model that every training starts from")
    parser.add_argument("--others", nargs="*", default=[], help="further reward models to measure")
    parser.add_argument("--generator", default="bundled")
    parser.add_argument("--train-problems", type=int, default=600)
    parser.add_argument("--tokens", type=int, default=60_000)
    parser.add_argument("--problems", type=int, default=60, help="held-out, of each family")
    parser.add_argument("--only", nargs="+", help="rows of the table to measure; default: all")
    options = parser.parse_args()
    if options.train:
        label(options.folder, options.generator, options.train_problems)
        train(options.folder, options.base, options.tokens)
    _labels(options.folder)
    dev = pool(options.generator, "validation", options.problems // 2, POOL // 2, SEED + 1)
    test = pool(options.generator, "test", options.problems, POOL, SEED + 2)
    _say("| trained on | family | AUC, same problem and place | AUC pooled | first-error F1 | best of 16 less majority |")
    for name, part in verifiers(options.folder, options.others).items():
        if options.only and name not in options.only:
            continue
        for family, row in figures(load_verifier(part)[0], dev, test).items():
            _say(f"| {name} | {family} | {' | '.join(row)} |")


def _labels(folder: Path) -> None:
    """Prints what each method's labels are and cost."""
    _say("agreement: all steps, right steps labelled right, wrong ones wrong, share of steps that are labelled")
    _say(f"| labels | agreement: {' | '.join(FAMILY)} | tokens a solution | completions |")
    files = {name: folder / "labels" / f"{name}.jsonl" for name in METHODS}
    rows = {name: read(file) for name, file in files.items() if file.exists()}
    for name, samples in rows.items():
        both = [str(agreement(samples, rows["exact"], family)) for family in FAMILY]
        costs = [sum(s.tokens for s in samples) / len(samples), sum(s.rollouts for s in samples) / len(samples)]
        _say(f"| {name} | {' | '.join(both)} | {costs[0]:.0f} | {costs[1]:.1f} |")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
