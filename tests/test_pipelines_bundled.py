"""The bundled models as they are shipped."""

from __future__ import annotations

import hashlib
import random
import re

import pytest
import torch

from pipelines.models import BUNDLED, NAMES, ModelError, card, fingerprint, load_generator, locate
from pipelines.problems import FAMILIES, instances
from pipelines.problems.instance import apply
from pipelines.train.generator import divergence


@pytest.mark.parametrize("role", BUNDLED)
def test_the_card_is_of_these_weights_and_holds_measured_figures(role: str) -> None:
    folder, known = BUNDLED[role], card(BUNDLED[role])
    (weights,) = folder.glob("*.safetensors")
    assert known["sha256"] == {weights.name: hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert weights.stat().st_size <= 12_000_000
    assert {"word", "countdown", "guess"} <= set(known["figures"])
    for stage in known["stages"]:
        assert {"command", "commit", "minutes", "tokens", "note"} <= set(stage)


def test_the_bars_that_the_pair_is_shipped_for_stand_in_the_cards() -> None:
    """Measured by `python -m flows.figures.models --write`, 200 problems a family."""
    generator, reward = card(BUNDLED["generator"])["figures"], card(BUNDLED["reward"])["figures"]
    word, countdown = generator["word"], generator["countdown"]
    assert 0.45 <= word["pass@1"] <= 0.75
    assert word["pass@32"] >= 0.95
    assert word["majority@16"] - word["pass@1"] >= 0.12
    assert 0.10 <= countdown["pass@1"] <= 0.35
    assert countdown["pass@64"] >= 3 * countdown["pass@1"]
    assert reward["word"]["auc"] >= 0.90
    assert reward["countdown"]["auc"] >= 0.85


@pytest.mark.parametrize("file", ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
def test_the_small_sibling_has_the_generators_tokens_to_the_byte(file: str) -> None:
    """A search that switches between the two hands token ids from one to the other."""
    assert (BUNDLED["small"] / file).read_bytes() == (BUNDLED["generator"] / file).read_bytes()


def test_the_small_sibling_is_asked_for_by_its_name_and_is_not_a_reward_model() -> None:
    assert NAMES["small"] == "bundled-small"
    assert locate("bundled-small", "generator") == BUNDLED["small"]
    assert locate("bundled", "generator") == BUNDLED["generator"]
    assert fingerprint("bundled-small", "generator") not in {"", fingerprint("bundled", "generator")}
    with pytest.raises(ModelError, match=r"'bundled-small' does not exist; give a folder, a hub name or 'bundled'$"):
        locate("bundled-small", "reward")
    with pytest.raises(ModelError, match=r"or one of 'bundled', 'bundled-small', 'bundled-judge'$"):
        locate("bundled-tiny", "generator")


def test_the_small_sibling_loads_on_the_fast_path_and_is_a_quarter_of_the_generator() -> None:
    small, large = load_generator("bundled-small"), load_generator("bundled")
    assert not small.engine.plain
    assert small.encode("Use 4, 2 to make 6.") == large.encode("Use 4, 2 to make 6.")
    sizes = [(BUNDLED[role] / "model.safetensors").stat().st_size for role in ("small", "generator")]
    assert 1 / 6 <= sizes[0] / sizes[1] <= 1 / 4


def random_walk(rng: random.Random, numbers: list[int], target: int) -> bool:
    """Whether a walk of legal steps, each drawn evenly from all ordered pairs and operators, ends at the target."""
    while len(numbers) > 1:
        pairs = [(a, b) for a in range(len(numbers)) for b in range(len(numbers)) if a != b]
        made = [(a, b, apply(numbers[a], op, numbers[b])) for a, b in pairs for op in "+-*/"]
        legal = [(a, b, result) for a, b, result in made if result is not None and 1 <= result <= 99]
        a, b, result = rng.choice(legal)
        numbers = [number for i, number in enumerate(numbers) if i not in (a, b)] + [result]
    return numbers == [target]


def test_the_small_sibling_beats_chance_on_word_and_guess_and_on_countdown_only_where_it_is_greedy() -> None:
    """Countdown at temperature 1 is where random legal walks are (.108, .100 of the same 200 problems): no bar is set."""
    small, large = card(BUNDLED["small"])["figures"], card(BUNDLED["generator"])["figures"]
    for family in ("word", "countdown", "guess"):
        assert small[family]["pass@1"] < large[family]["pass@1"], family
    assert small["word"]["pass@1"] >= 0.40  # answers are 1 to 99
    assert small["guess"]["pass@1"] >= 0.15  # the range is to 6, 12 or 20: an answer drawn from it is right in a tenth
    rng, source = random.Random(0), instances(FAMILIES["countdown"], "test", 1)
    walks = []
    for _ in range(200):
        *numbers, target = map(int, re.findall(r"\d+", next(source).question))
        walks += [random_walk(rng, numbers, target) for _ in range(20)]
    chance = sum(walks) / len(walks)
    assert 0.08 <= chance <= 0.12
    assert small["countdown"]["greedy"] >= 1.5 * chance


def test_a_teachers_divergence_is_nothing_for_the_same_distributions_and_their_distance_for_others() -> None:
    """Two tokens: KL((3/4, 1/4) || (1/2, 1/2)) = 3/4 log 3/2 + 1/4 log 1/2; what is added to all logits changes nothing."""
    ours, known = torch.zeros(3, 2), torch.tensor([0.75, 0.25]).log().repeat(3, 1)
    assert float(divergence(ours, known)) == pytest.approx(0.1308, abs=1e-4)
    assert float(divergence(known + 5.0, known)) == pytest.approx(0.0, abs=1e-6)
