"""Figures of a generator and the verifiers on held-out problems, and whether they meet the bars.

    python -m flows.figures.models                      # the bundled pair, 200 problems a family
    python -m flows.figures.models --write              # ... and put into the models' cards
    python -m flows.figures.models --generator bundled-small --write    # the small sibling's own, into its card

pass@k is the unbiased estimate of Chen et al. (arXiv 2107.03374); majority@k and best-of-k are means over random subsets of
the pool. The AUC of a verifier is over pairs of a right and a wrong step at the same place in solutions of the same problem:
pooled AUC would reward knowing which problems are hard. A step's score is the verifier's join up to it.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.models import BUNDLED, NAMES, TextModel, load_generator
from pipelines.problems import FAMILIES, Instance, instances
from pipelines.train.card import add_figures
from pipelines.train.prm import auc
from search.select import Entry, Selector
from search.types import SEPARATOR, Extend, Extension, Part, Question, Row, Sampling, Step, Trace, Until, child_of, seed_of
from verifiers.extract import extractor_for
from verifiers.registry import VERIFIERS, load_verifier

SAMPLES = {"word": 32, "countdown": 64, "guess": 16}
JUDGED = 16  # samples of a problem that the verifiers score
SEED = 1


def pass_at(k: int, right: int, n: int) -> float:
    """1 - C(n - right, k) / C(n, k)."""
    return 1.0 if n - right < k else 1.0 - math.comb(n - right, k) / math.comb(n, k)


def sample(model: TextModel, problems: Sequence[Instance], n: int, temperature: float = 1.0) -> list[list[Step]]:
    """n whole solutions a problem."""
    engine, out = model.engine, [[] for _ in problems]  # type: ignore[var-annotated]
    for key, instance in enumerate(problems):
        prefix = model.encode(instance.question)
        rows = tuple(Row(p, seed_of(0, instance.key, p), prefix, 384) for p in (child_of("", i) for i in range(n)))
        engine.submit(key, Extend(rows, Until.END, Sampling(temperature=temperature)))
    while engine.busy:
        for key, reply in engine.advance():
            assert isinstance(reply, Extension)
            out[key] = list(reply.steps)
            engine.forget(key)
    return out


def cut(step: Step) -> tuple[Step, ...]:
    """A whole solution as its steps, with each step's own statistics."""
    texts = [text + SEPARATOR for text in step.text.split(SEPARATOR)]
    texts[-1] = texts[-1].removesuffix(SEPARATOR)
    return tuple(_slices(step, texts))


def _slices(step: Step, texts: Sequence[str]) -> list[Step]:
    """Tokens are dealt to steps by the separators among them."""
    bounds = [i + 1 for i, token in enumerate(step.tokens) if token == _SEPARATOR[0]][: len(texts) - 1]
    edges = [0, *bounds, len(step.tokens)]
    return [
        Step(step.tokens[a:b], text, step.logprobs[a:b], step.certainties[a:b], step.entropies[a:b], step.finish)
        for text, a, b in zip(texts, edges, edges[1:], strict=False)
    ]


_SEPARATOR = [-1]  # the separator's token, set by main


def generator_figures(model: TextModel, name: str, problems: Sequence[Instance], pool: list[list[Step]]) -> dict[str, float]:
    """pass@k, majority@k, greedy, and lengths of right and wrong solutions of the same problem."""
    family, extract = FAMILIES[name], extractor_for({"family": name})
    greedy = sample(model, problems, 1, temperature=0.0)
    answers = [[extract(step.text).key for step in steps] for steps in pool]
    right = [[a is not None and family.check(p.answer, a) for a in row] for p, row in zip(problems, answers, strict=True)]
    n = len(pool[0])
    found = {"greedy": float(np.mean([_right(name, p, s[0]) for p, s in zip(problems, greedy, strict=True)]))}
    for k in (1, 4, 8, 16, 32, 64):
        if k <= n:
            found[f"pass@{k}"] = float(np.mean([pass_at(k, sum(row), n) for row in right]))
    for k in (8, 16):
        found[f"majority@{k}"] = majority(answers, right, k)
    tokens = [[len(step) for step in steps] for steps in pool]
    found["tokens"] = float(np.mean(tokens))
    gaps = []
    for row, lengths in zip(right, tokens, strict=True):
        if any(row) and not all(row):
            r = np.mean([t for t, ok in zip(lengths, row, strict=True) if ok])
            w = np.mean([t for t, ok in zip(lengths, row, strict=True) if not ok])
            gaps.append(w - r)
    found["same problem, wrong minus right tokens"] = float(np.mean(gaps))
    found["share of problems where wrong is longer"] = float(np.mean([g > 0 for g in gaps]))
    return {key: round(float(value), 3) for key, value in found.items()}


def _right(name: str, problem: Instance, step: Step) -> bool:
    key = extractor_for({"family": name})(step.text).key
    return key is not None and FAMILIES[name].check(problem.answer, key)


def majority(answers: list[list[str | None]], right: list[list[bool]], k: int, rounds: int = 20) -> float:
    """Mean accuracy of the majority among k random samples."""
    rng, hits = random.Random(0), []
    for row, ok in zip(answers, right, strict=True):
        truth = dict(zip(row, ok, strict=True))
        for _ in range(rounds):
            entries = [Entry(str(i), row[i], i) for i in rng.sample(range(len(row)), k)]
            hits.append(truth.get(Selector("majority")(entries).answer, False))
    return float(np.mean(hits))


def verifier_figures(name: str, problems: Sequence[Instance], pool: list[list[Step]], part: Part) -> dict[str, float]:
    """AUC of right against wrong steps of the same problem at the same place, up to the first wrong step, and best-of-16."""
    verifier, join = load_verifier(part)
    family, extract = FAMILIES[name], extractor_for({"family": name})
    traces, owners = [], []
    for p, (problem, steps) in enumerate(zip(problems, pool, strict=True)):
        for step in steps[:JUDGED]:
            traces.append(Trace(Question(problem.key, problem.question, ()), cut(step)))
            owners.append(p)
    readings = verifier.score(traces)
    groups: dict[tuple[int, int], tuple[list[float], list[int]]] = defaultdict(lambda: ([], []))
    entries: list[list[Entry]] = [[] for _ in problems]
    for i, (trace, reading) in enumerate(zip(traces, readings, strict=True)):
        p = owners[i]
        texts = [s.text.strip() for s in trace.steps]
        for at, label in enumerate(family.label(problems[p], texts)):
            groups[p, at][0].append(join(reading.parts[: at + 1]))
            groups[p, at][1].append(int(label))
            if not label:
                break
        whole = "".join(s.text for s in trace.steps)
        tokens = sum(map(len, trace.steps))
        entries[p].append(Entry(str(i), extract(whole).key, tokens, parts=reading.parts, value=join(reading.parts)))
    scores = [s for g in groups.values() for s in g[0]]
    labels = [y for g in groups.values() for y in g[1]]
    found = {"auc": paired_auc(list(groups.values())), "pooled auc": auc(scores, labels)}
    for selector in ("best", "weighted", "majority"):
        chosen = [Selector(selector)(row).answer for row in entries]
        found[f"{selector} of {JUDGED}"] = float(
            np.mean([a is not None and family.check(p.answer, a) for p, a in zip(problems, chosen, strict=True)])
        )
    return {key: round(value, 3) for key, value in found.items()}


def paired_auc(groups: Sequence[tuple[list[float], list[int]]]) -> float:
    """Share of pairs (right, wrong) within a group that are ordered rightly, ties half, over all pairs of all groups."""
    won = total = 0.0
    for scores, labels in groups:
        right = np.array([s for s, y in zip(scores, labels, strict=True) if y])
        wrong = np.array([s for s, y in zip(scores, labels, strict=True) if not y])
        if len(right) and len(wrong):
            difference = right[:, None] - wrong[None]
            won += float((difference > 0).sum() + 0.5 * (difference == 0).sum())
            total += difference.size
    return won / total if total else float("nan")


def measure(
    generator: str, reward: str, count: int, families: Sequence[str], verifiers: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """All figures: {"generator": {family: ...}, "verifiers": {family: {verifier: ...}}}."""
    model = load_generator(generator)
    _SEPARATOR[0] = model.tokenizer.encode(SEPARATOR)[0]
    out: dict[str, dict[str, Any]] = {"generator": {}, "verifiers": {}}
    for name in families:
        source = instances(FAMILIES[name], "test", SEED)
        problems = [next(source) for _ in range(count)]
        pool = sample(model, problems, SAMPLES[name])
        out["generator"][name] = generator_figures(model, name, problems, pool)
        _say(f"{name} generator {out['generator'][name]}")
        out["verifiers"][name] = {}
        for verifier in verifiers:
            part = Part(verifier, {"model": reward} if verifier == "prm" else {})
            out["verifiers"][name][verifier] = verifier_figures(name, problems, pool, part)
            _say(f"{name} {verifier} {out['verifiers'][name][verifier]}")
    return out


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="bundled")
    parser.add_argument("--reward", default="bundled")
    parser.add_argument("--problems", type=int, default=200)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    small = options.generator == NAMES["small"]
    judges = [] if small else list(VERIFIERS)  # those in the cards are of the generator's solutions
    found = measure(options.generator, options.reward, options.problems, options.families, judges)
    if options.write:
        add_figures(BUNDLED["small" if small else "generator"], found["generator"])
    if options.write and judges:
        prm = {name: values["prm"] for name, values in found["verifiers"].items()}
        others = {f"{name}, {v}": f for name, values in found["verifiers"].items() for v, f in values.items() if v != "prm"}
        add_figures(BUNDLED["reward"], {**prm, **others})


if __name__ == "__main__":
    main()
