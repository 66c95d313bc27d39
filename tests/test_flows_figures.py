"""The formulas behind the figures, against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from flows.figures.models import paired_auc, pass_at
from pipelines.train.prm import auc


def test_pass_at_k_is_the_share_of_subsets_with_a_right_one() -> None:
    assert pass_at(2, 1, 4) == pytest.approx(0.5)  # 3 of the 6 pairs hold the one right
    assert pass_at(4, 1, 4) == 1.0
    assert pass_at(3, 0, 8) == 0.0
    assert pass_at(1, 3, 8) == pytest.approx(3 / 8)


def test_auc_counts_ties_half() -> None:
    assert auc([0.9, 0.1, 0.5, 0.5], [1, 0, 1, 0]) == pytest.approx(3.5 / 4)
    assert auc([1.0, 1.0], [1, 0]) == 0.5
    assert np.isnan(auc([1.0], [1]))


def test_paired_auc_compares_within_a_group_only() -> None:
    easy = ([0.9, 0.8], [1, 0])  # ordered rightly
    hard = ([0.1, 0.2], [1, 0])  # wrongly; pooled, the easy wrong one would also beat the hard right one
    alone = ([0.99], [1])  # no pair
    assert paired_auc([easy, hard, alone]) == 0.5
    assert paired_auc([easy, easy, hard]) == pytest.approx(2 / 3)
