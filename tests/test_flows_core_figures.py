"""The benchmark of the generation core: its works, its arithmetic, and that contenders do what is asked of them."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from flows.figures.core import __main__ as program
from flows.figures.core import peers
from flows.figures.core.ours import Ours, loaded
from flows.figures.core.race import Options, Result, pinned, race
from flows.figures.core.workloads import WORKLOADS, Flat, Tree, geometric
from pipelines.models import BUNDLED

LETTERS = range(10, 200)


@pytest.fixture
def one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    with pinned(1):
        yield
    torch.set_num_threads(before)


def test_works_are_the_ones_the_table_names() -> None:
    made = {name: known.make(random.Random(0), LETTERS, False) for name, known in WORKLOADS.items()}
    assert {name: work.tokens for name, work in made.items() if name != "ragged"} == {
        "equal": 64 * 64,
        "tree": 16 * 4 * 12 * 8,
        "prefix": 64 * 64,
        "one": 64,
    }
    ragged, tree = made["ragged"], made["tree"]
    assert isinstance(ragged, Flat)
    assert [len(lengths) for lengths in ragged.lengths] == [64] * 4
    assert 35 < ragged.tokens / 256 < 45
    assert max(map(max, ragged.lengths)) <= 256
    assert isinstance(tree, Tree)
    assert [len(set(chosen)) for chosen in tree.chosen] == [16] * 7


def test_rounds_share_lengths_and_not_prompts() -> None:
    a, b = (WORKLOADS["ragged"].make(random.Random(seed), LETTERS, False) for seed in (1, 2))
    assert isinstance(a, Flat)
    assert isinstance(b, Flat)
    assert a.lengths == b.lengths
    assert not set(a.prompts) & set(b.prompts)


def test_geometric_lengths_have_their_mean() -> None:
    rng = random.Random(0)
    drawn = [geometric(rng, 40, 10_000) for _ in range(20_000)]
    assert min(drawn) == 1
    assert sum(drawn) / len(drawn) == pytest.approx(40, rel=0.03)


def test_ratios_are_of_one_round_and_the_median_is_held_against_the_bar() -> None:
    result = Result({"ours": [1.0, 2.0, 4.0], "generate": [2.0, 6.0, 10.0]}, [100, 100, 100])
    assert result.ratios("generate") == [2.0, 3.0, 2.5]
    assert result.speed("ours") == 50
    assert program.ratio(result, "generate", 2.5) == "2.50x (2.00–3.00), bar 2.5x"
    assert program.ratio(result, "generate", 2.6) == "2.50x (2.00–3.00), bar 2.6x missed"
    assert program.ratio(result, "kept", 1.0) == "–"


@pytest.mark.usefixtures("one_thread")
@pytest.mark.crash
def test_ours_and_generate_do_all_works() -> None:
    """race() raises where a contender made fewer tokens, or some without their log-probability."""
    options = Options(rounds=1, small=True, peers=["generate"])
    ours, model = Ours(loaded("bundled")), peers.load(BUNDLED["generator"])
    for workload in WORKLOADS:
        result = race(workload, options, ours, model)
        assert result.ratios("generate")[0] > 0
        assert f"| {workload} | " in program.line(workload, result, options)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_every_part_runs(capsys: pytest.CaptureFixture[str]) -> None:
    program.main(["--quick"])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(tuple(f"| {workload} |" for workload in WORKLOADS)) for line in lines) == 2 * len(WORKLOADS)
    assert any("resident memory after 200" in line for line in lines)
