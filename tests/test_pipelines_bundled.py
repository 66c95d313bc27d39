"""The bundled models as they are shipped."""

from __future__ import annotations

import hashlib

import pytest

from pipelines.models import BUNDLED, card


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
