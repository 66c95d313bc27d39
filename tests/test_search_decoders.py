"""Methods that work inside a sample: by hand, on a small table of probabilities, and on the bundled model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from fakes import boxed, noise

from pipelines.engine.momentum import repeated, taken
from pipelines.models import TextModel, load_generator
from pipelines.routed import Routed
from search.drive import Driver, Outcome, Search
from search.rules import Ahead
from search.strategies import Strategy
from search.strategies.adadec import AdaDec, merit
from search.strategies.cntp import CNTP
from search.strategies.contrastive import Contrastive
from search.strategies.contrastive import merit as contrast
from search.strategies.decoders import Mirostat, Momentum
from search.strategies.diverse_beam import DiverseBeam
from search.strategies.greedy import Greedy
from search.strategies.stochastic_beam import StochasticBeam, lowered, weight
from search.strategies.switching import Switching
from search.tree import Tree
from search.types import (
    Candidate,
    Embedding,
    Extend,
    Extension,
    Finish,
    Question,
    Sampling,
    State,
    Step,
    TextGenerator,
    Trace,
    lineage,
)
from verifiers.extract import extractor_for

END = 9
Table = Callable[[tuple[int, ...]], dict[int, float]]  # what was written -> the probability of each next token


@dataclass
class TableGenerator:
    """Answers Extend at once from a table of probabilities. Token END ends a solution."""

    table: Table
    waiting: list[tuple[int, Extend]] = field(default_factory=list)
    rows: int = 0

    def submit(self, search: int, request: Extend) -> None:
        self.waiting.append((search, request))

    def advance(self) -> list[tuple[int, Extension]]:
        done = [(search, Extension(tuple(self.step(request, row) for row in request.rows))) for search, request in self.waiting]
        self.waiting = []
        return done

    def forget(self, search: int) -> None:
        self.waiting = []

    @property
    def busy(self) -> bool:
        return bool(self.waiting)

    def step(self, request: Extend, row: object) -> Step:
        from search.types import Row

        assert isinstance(row, Row)
        self.rows += 1
        said, logprobs, ahead, finish = list[int](), list[float](), None, Finish.LENGTH
        while len(said) < row.limit:
            odds = self.table((*row.prefix[1:], *said))
            rule = request.rules.pause
            if rule is not None and len(said) >= len(row.begin) + rule.least:
                tokens = np.array(list(odds), dtype=np.int32)
                logs = np.log(np.array(list(odds.values())))
                gumbels = [-math.log(-math.log(noise(row.seed, len(said), t) or 1e-12)) for t in odds]
                keys = logs + (gumbels if rule.gumbel else 0.0)
                order = np.argsort(-keys, kind="stable")[: rule.peek]
                found = (tokens[order], logs[order].astype(np.float32), keys[order].astype(np.float32))
                ahead, finish = Ahead(0.0, *found), Finish.PAUSE
                break
            token = row.begin[len(said)] if len(said) < len(row.begin) else max(odds, key=lambda t: odds[t])
            said.append(token)
            logprobs.append(math.log(odds[token]))
            if token == END:
                finish = Finish.END
                break
        stats = np.array(logprobs, dtype=np.float32)
        text = "".join(f"\\boxed{{{said[-1] if token == END else token}}}" if token != END else "" for token in said)
        zeros = np.zeros(len(said), dtype=np.float32)
        return Step(np.array(said, dtype=np.int32), text, stats, zeros, zeros, finish, ahead=ahead)


def played(strategy: Strategy, generator: TextGenerator, seed: int = 0, **given: object) -> Outcome:
    question = Question("q", "q", (100,))
    tree = Tree(question, boxed, seed=seed, tokens_limit=12, **given)  # type: ignore[arg-type]
    (outcome,) = Driver(generator).drive([Search(0, tree, strategy)])
    assert outcome.exception is None, outcome.exception
    return outcome


def texts(outcome: Outcome) -> list[tuple[int, ...]]:
    """The solutions that ended, in the order of their paths."""
    tree = outcome.search.tree
    ended = [c for c in tree.candidates.values() if c.finished]
    return [tree.tokens(c.path)[1:] for c in ended]


# -------------------------------------------------------------------------------------------------------- CNTP, AdaDec


def test_the_number_of_trials_is_the_cards() -> None:
    code, paper = CNTP(), CNTP(rule="paper")
    assert [code.tried(h) for h in (0.16, 0.3, 0.76, 1.4, 1.5, 9.0)] == [1, 2, 5, 9, 10, 10]
    assert [paper.tried(h) for h in (0.16, 0.3, 0.76, 1.4, 1.5, 9.0)] == [1, 1, 5, 9, 10, 10]


@pytest.mark.parametrize("rule", ["code", "paper"])
def test_the_pause_is_where_a_second_trial_begins(rule: str) -> None:
    cntp = CNTP(rule=rule)
    assert cntp.tried(cntp.careful + 2e-9) == 2
    assert cntp.tried(cntp.careful - 1e-6) == 1
    assert CNTP(trials=1, rule=rule).careful == math.inf


def test_a_lookahead_is_judged_by_the_mean_over_the_token_and_what_follows() -> None:
    def looked(p: float, rest: float) -> Candidate:
        logprobs = np.array([math.log(p), *[rest / 5] * 5], dtype=np.float32)
        zeros = np.zeros(6, dtype=np.float32)
        return Candidate("0", Step(np.zeros(6, dtype=np.int32), "", logprobs, zeros, zeros, Finish.LENGTH))

    assert merit(looked(0.6, -2.0)) == pytest.approx(-0.418, abs=5e-4)
    assert merit(looked(0.4, -0.1)) == pytest.approx(-0.169, abs=5e-4)


# ---------------------------------------------------------------------------------------------------------- the model


@pytest.fixture(scope="module")
def model() -> TextModel:
    return load_generator()


PROMPT = "Use 3, 5, 7, 2 to make 24."


def solved(strategy: Strategy, model: TextModel, seed: int = 0, generator: TextGenerator | None = None) -> Outcome:
    tree = Tree(
        Question("q", PROMPT, model.encode(PROMPT)),
        extractor_for({"kind": "countdown"}),
        seed=seed,
        tokens_limit=120,
        encode=model.plainly,
        render=model.encode,
    )
    (outcome,) = Driver(generator or model.engine).drive([Search(0, tree, strategy)])
    assert outcome.exception is None, outcome.exception
    return outcome


def said(outcome: Outcome) -> list[int]:
    """The tokens of the chosen solution."""
    tree, choice = outcome.search.tree, outcome.choice
    assert choice is not None
    path = choice.path or list(tree.candidates)[-1]
    return [int(t) for p in lineage(path) for t in tree.candidates[p].step.tokens]


def greedy(model: TextModel) -> list[int]:
    return said(solved(Greedy(), model))


def test_adadec_without_a_threshold_in_reach_is_greedy_and_with_one_looks_ahead(model: TextModel) -> None:
    never = solved(AdaDec(threshold=math.inf), model)
    assert said(never) == greedy(model)
    assert len(never.search.tree.candidates) == 1
    sometimes = solved(AdaDec(threshold=0.5), model)
    tree = sometimes.search.tree
    looked = [c for c in tree.candidates.values() if tree.states[c.path] == (State.PRUNED, "lookahead")]
    assert len(looked) >= 3
    assert len(looked) % 3 == 0
    assert all(len(c.step) <= 6 for c in looked)
    assert tree.usage.generated_tokens == sum(len(c.step) for c in tree.candidates.values())
    text = tree.text(sometimes.choice.path) if sometimes.choice and sometimes.choice.path else ""
    assert text.count("The answer is") == 1, "a lookahead has come into the text"


def test_cntp_with_one_trial_is_plain_sampling_and_with_more_keeps_the_least_perplexed(model: TextModel) -> None:
    plain = solved(CNTP(trials=1), model, seed=5)
    assert len(plain.search.tree.candidates) == 1
    tree = solved(CNTP(), model, seed=5).search.tree
    paused = [c for c in tree.candidates.values() if c.step.finish is Finish.PAUSE]
    assert paused
    for parent in paused:
        assert parent.step.ahead is not None
        assert parent.step.ahead.entropy >= CNTP().careful
        trials = [c for c in tree.candidates.values() if c.parent == parent.path]
        kept = [c for c in trials if tree.states[c.path][0] is not State.PRUNED and (c.open or c.finished)]
        assert len(trials) == CNTP().tried(parent.step.ahead.entropy) >= 2
        assert len(kept) == 1
        best = max(c.step.logprob / len(c.step) for c in trials if c.open or c.finished)
        assert kept[0].step.logprob / len(kept[0].step) == best


def test_switching_is_one_model_at_the_ends_of_the_scale_and_never_hurries(model: TextModel) -> None:
    both = Routed({"": model.engine, "small": model.engine})
    large = solved(Switching(tau=0.0), model, 3, both).search.tree
    assert large.usage.small_tokens == 0 < large.usage.generated_tokens
    small = solved(Switching(tau=math.inf), model, 3, both).search.tree
    assert small.usage.small_tokens == small.usage.generated_tokens > 0
    mixed = solved(Switching(tau=0.4, window=3, least=5), model, 3, both).search.tree
    assert 0 < mixed.usage.small_tokens < mixed.usage.generated_tokens
    parts = list(mixed.candidates.values())
    assert len(parts) >= 3
    assert all(len(c.step) >= 5 for c in parts[1:-1]), "a switch came before the least number of tokens"


def test_a_small_model_that_the_run_does_not_have_is_named(model: TextModel) -> None:
    tree = Tree(Question("q", PROMPT, model.encode(PROMPT)), boxed)
    (outcome,) = Driver(Routed({"": model.engine})).drive([Search(0, tree, Switching())])
    assert "name it with --small" in outcome.error


# ------------------------------------------------------------------------------------------------------------ momentum


def test_a_repetition_is_as_long_as_what_has_stood_there_before() -> None:
    written = np.array([1, 2, 3, 7, 1, 2], dtype=np.int32)
    assert [repeated(written, token) for token in (3, 7, 2, 8)] == [3, 1, 1, 0]
    assert repeated(np.array([], dtype=np.int32), 1) == 0
    assert repeated(np.array([4, 4, 4], dtype=np.int32), 4) == 3


def test_momentum_takes_the_likeliest_token_that_does_not_repeat_too_much() -> None:
    logits = torch.tensor([0.0, 2.0, 1.9, -3.0, -4.0, -5.0, -6.0])
    written = np.array([3, 1, 3], dtype=np.int32)
    assert taken(logits, written, 0.0) == 1
    assert taken(logits, written, 0.2) == 2  # p(1) - p(2) is 0.04, and token 1 goes on with "3 1"
    loop = np.array([1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5], dtype=np.int32)
    sure = torch.full((7,), -9.0)
    sure[6] = 9.0
    assert taken(sure, loop, 1e-9) != 6, "a sixth token of a repetition is never taken, whatever its probability"
    assert taken(sure, loop[:-1], 1e-9) == 6


def test_momentum_without_weight_is_greedy(model: TextModel) -> None:
    assert said(solved(Momentum(alpha=0.0), model)) == greedy(model)
    loops = said(solved(Momentum(alpha=0.2), model))
    for i in range(len(loops) - 6):
        piece = loops[i : i + 6]
        assert all(loops[j : j + 6] != piece for j in range(i)), "six tokens stand there twice"


def test_mirostat_draws_nearer_to_its_surprise_than_plain_sampling_does(model: TextModel) -> None:
    def surprise(strategy: Strategy) -> float:
        trees = [solved(strategy, model, seed).search.tree for seed in range(6)]
        steps = [c.step for tree in trees for c in tree.candidates.values()]
        return -sum(step.logprob for step in steps) / sum(map(len, steps)) / math.log(2)

    assert surprise(Mirostat(tau=0.05)) < surprise(Mirostat(tau=5.0))
    with pytest.raises(ValueError, match="tau must be above 0 bits"):
        Mirostat(tau=0.0)


# ------------------------------------------------------------------------------------------------- beams over tokens


def flat(tokens: dict[int, float]) -> Table:
    """One token, then the end."""
    return lambda written: tokens if not written else {END: 1.0}


def test_the_second_group_takes_the_token_that_the_first_did_not() -> None:
    exps = {0: math.exp(2.0), 1: math.exp(1.9)}
    odds = {token: value / sum(exps.values()) for token, value in exps.items()}
    apart = played(DiverseBeam(n=2, groups=2, penalty=0.5), TableGenerator(flat(odds)))
    assert {text[0] for text in texts(apart)} == {0, 1}
    together = played(DiverseBeam(n=2, groups=2, penalty=0.0), TableGenerator(flat(odds)))
    assert {text[0] for text in texts(together)} == {0}, "without a penalty the groups are copies"


def bushy(written: tuple[int, ...]) -> dict[int, float]:
    """A few texts of one to three tokens, of different probabilities."""
    if len(written) >= 3:
        return {END: 1.0}
    if not written:
        return {1: 0.5, 2: 0.3, 3: 0.2}
    first = {1: {END: 0.1, 4: 0.55, 5: 0.35}, 2: {END: 0.8, 4: 0.2}, 3: {4: 0.5, 5: 0.5}}
    return first[written[0]] if len(written) == 1 else {END: 0.6, 6: 0.4}


def every(table: Table, written: tuple[int, ...] = (), p: float = 1.0) -> dict[tuple[int, ...], float]:
    found: dict[tuple[int, ...], float] = {}
    for token, odds in table(written).items():
        found |= {(*written, END): p * odds} if token == END else every(table, (*written, token), p * odds)
    return found


def test_plain_beam_search_finds_what_enumeration_finds_where_the_beam_is_wide_enough() -> None:
    best = max(every(bushy).items(), key=lambda item: item[1])[0]
    outcome = played(DiverseBeam(n=8, groups=1, penalty=0.0), TableGenerator(bushy))
    tree = outcome.search.tree
    found = max((c for c in tree.candidates.values() if c.finished), key=lambda c: sum(s.logprob for s in tree.steps(c.path)))
    assert tree.tokens(found.path)[1:] == best


def test_a_sample_without_replacement_has_no_text_twice_and_the_right_first_ones() -> None:
    odds = {0: 0.5, 1: 0.3, 2: 0.2}
    orders = Counter[tuple[int, ...]]()
    for seed in range(1000):
        outcome = played(StochasticBeam(n=2), TableGenerator(flat(odds)), seed)
        firsts = [text[0] for text in texts(outcome)]
        assert len(set(firsts)) == len(firsts) == 2
        orders[tuple(sorted(firsts))] += 1
    # {a, b} comes as (a, b) or (b, a): .5*.3/.5 + .3*.5/.7 = .3 + .2143
    p = 0.5 * 0.3 / 0.5 + 0.3 * 0.5 / 0.7
    assert orders[0, 1] / 1000 == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 1000))


def test_the_weights_without_replacement_give_each_text_its_probability_on_average() -> None:
    sums, rounds = Counter[str](), 500
    for seed in range(rounds):
        choice = played(StochasticBeam(n=3), TableGenerator(bushy), seed).choice
        assert choice is not None
        for vote in choice.votes:
            sums[vote.answer] += vote.weight  # type: ignore[assignment]
    truth = Counter[str]()
    for text, p in every(bushy).items():
        truth[str(text[0])] += p  # type: ignore[assignment]
    for answer, p in truth.items():
        assert sums[answer] / rounds == pytest.approx(p, abs=0.05), answer


def test_one_sample_without_replacement_is_a_sample() -> None:
    counts = Counter(texts(played(StochasticBeam(n=1), TableGenerator(bushy), seed))[0] for seed in range(700))
    for text, p in every(bushy).items():
        assert counts[text] / 700 == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 700) + 1e-9)


def test_a_childs_noise_never_passes_its_parents() -> None:
    keys = np.sort(np.random.default_rng(0).gumbel(size=50))[::-1] - 3.0
    children = [lowered(0.7, float(keys[0]), float(key)) for key in keys]
    assert children[0] == 0.7
    assert children == sorted(children, reverse=True)
    for key, child in zip(keys[1:], children[1:], strict=True):
        assert child == pytest.approx(-math.log(math.exp(-0.7) - math.exp(-keys[0]) + math.exp(-key)), abs=1e-6)


def test_a_solution_that_is_surely_in_the_sample_weighs_its_probability() -> None:
    assert weight(math.log(0.3), -50.0) == pytest.approx(0.3)
    assert weight(-40.0, 2.0) == pytest.approx(math.exp(2.0), rel=1e-3)  # hardly ever drawn: p / q is about exp(kappa)


def test_beams_of_the_model_are_distinct_and_the_first_is_likelier_than_greedy(model: TextModel) -> None:
    outcome = solved(DiverseBeam(n=4, groups=1, penalty=0.0), model)
    tree = outcome.search.tree
    ended = {c.path: sum(s.logprob for s in tree.steps(c.path)) for c in tree.candidates.values() if c.finished}
    alone = solved(Greedy(), model).search.tree.candidates["0"].step.logprob
    assert len({tree.text(path) for path in ended}) == len(ended) >= 2
    assert max(ended.values()) >= alone - 1e-3
    drawn = solved(StochasticBeam(n=4), model, 1).search.tree
    paths = [c.path for c in drawn.candidates.values() if c.finished]
    assert len({drawn.text(path) for path in paths}) == len(paths) == 4


# --------------------------------------------------------------------------------------------------------- contrastive


@dataclass
class Likeness:
    """A vector for the last token of a trace, from a table."""

    vectors: Mapping[int, tuple[float, ...]]
    name: str = "table"

    def embed(self, traces: Sequence[Trace]) -> list[Embedding]:
        return [Embedding(np.array(self.vectors[int(t.steps[-1].tokens[-1])], dtype=np.float32), 1) for t in traces]


def test_contrast_is_the_cards() -> None:
    assert contrast(0.6, 0.9, 0.6) == pytest.approx(-0.30)
    assert contrast(0.4, 0.1, 0.6) == pytest.approx(0.10)


def test_a_token_like_one_before_is_passed_over() -> None:
    def table(written: tuple[int, ...]) -> dict[int, float]:
        return {1: 1.0} if not written else {2: 0.6, 3: 0.4} if len(written) == 1 else {END: 1.0}

    near = math.sqrt(1 - 0.9**2), math.sqrt(1 - 0.1**2)
    vectors = {1: (1.0, 0.0), 2: (0.9, near[0]), 3: (0.1, near[1]), END: (0.0, 1.0)}
    for alpha, wanted in ((0.6, 3), (0.0, 2)):
        tree = Tree(Question("q", "q", (100,)), boxed, tokens_limit=12)
        driver = Driver(TableGenerator(table), encoder=Likeness(vectors))
        (outcome,) = driver.drive([Search(0, tree, Contrastive(k=2, alpha=alpha))])
        assert outcome.exception is None
        assert texts(outcome) == [(1, wanted, END)]
        assert tree.usage.embedding_tokens == sum(len(c.step) for c in tree.candidates.values())


def test_wrong_parameters_are_refused_in_one_line() -> None:
    for make, says in (
        (lambda: CNTP(low=2.0), "low must be at least 0 and below high, not 2.0 with high=1.5"),
        (lambda: CNTP(rule="x"), "unknown rule 'x'"),
        (lambda: AdaDec(threshold=-1.0), "threshold must be at least 0 nats, not -1.0"),
        (lambda: Switching(tau=-1.0), "tau must be at least 0 bits, not -1.0"),
        (lambda: DiverseBeam(n=3, groups=2), "n must be a multiple of groups, not n=3 with groups=2"),
        (lambda: Contrastive(alpha=1.5), "alpha must be between 0 and 1, not 1.5"),
        (lambda: Momentum(alpha=-0.1), "momentum must be 0"),
        (lambda: Sampling(momentum=math.nan), "momentum must be 0"),
    ):
        with pytest.raises(ValueError, match=says):
            make()


def test_a_lookahead_that_the_budget_ends_before_its_first_token_is_not_the_best(model: TextModel) -> None:
    """An empty row has a merit of 0, above all others, and no token to take."""
    from search.types import Budget

    for flops in (2e8, 3e8, 4e8, 6e8):
        question = Question("q", PROMPT, model.encode(PROMPT))
        tree = Tree(question, boxed, budget=Budget(flops=flops), tokens_limit=120, encode=model.plainly, render=model.encode)
        (outcome,) = Driver(model.engine).drive([Search(0, tree, AdaDec(threshold=0.3))])
        assert outcome.exception is None, outcome.exception


def test_a_text_that_was_cut_keeps_its_place_in_the_sample_and_in_the_weights() -> None:
    """Left out, the rest voted with p alone, and the likeliest single text won against four that say another thing."""

    def table(written: tuple[int, ...]) -> dict[int, float]:
        if not written:
            return {1: 0.3, 2: 0.5, 3: 0.2}
        return {END: 1.0} if written[0] != 3 or len(written) > 20 else {4: 1.0}  # what begins with 3 is longer than allowed

    sums, rounds = Counter[str](), 400
    for seed in range(rounds):
        choice = played(StochasticBeam(n=2), TableGenerator(table), seed).choice
        assert choice is not None
        for vote in choice.votes:
            sums[vote.answer] += vote.weight  # type: ignore[assignment]
    assert sums["1"] / rounds == pytest.approx(0.3, abs=0.06)
    assert sums["2"] / rounds == pytest.approx(0.5, abs=0.06)
