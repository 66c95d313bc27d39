"""The generation core as a contender, and the models that the races are run with."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.figures.core.workloads import SLOTS, Flat, Tokens, Tree, Work
from pipelines.models import BUNDLED, TextModel, load_generator
from search.types import ROOT, Extend, Extension, Row, Sampling, Step, Until, child_of, seed_of
from search.types import Path as Address

if TYPE_CHECKING:
    from transformers import LlamaConfig

MODELS = ("bundled", "25m")
DTYPES = {"cpu": "float32", "cuda": "bfloat16"}
SAMPLING = Sampling(temperature=1.0)


class Ours:
    """Rows end by their limits alone: neither an end token nor a blank line stops one."""

    def __init__(self, model: TextModel) -> None:
        self.engine = model.engine
        special = set(model.tokenizer.all_special_ids)
        self.letters = [token for token in range(len(model.tokenizer)) if token not in special]
        self.engine.vocabulary.ends = frozenset()
        self.engine.vocabulary.newlines = {}
        self._searches = 0

    def run(self, work: Work, probe: Callable[[], None] | None = None) -> int:
        """Does the work; how many tokens came back with their log-probability and certainty. The probe is called after every
        step of the engine."""
        return self._flat(work, probe) if isinstance(work, Flat) else self._tree(work, probe)

    def close(self) -> None:
        """Nothing to stop."""

    def _flat(self, work: Flat, probe: Callable[[], None] | None) -> int:
        asked = {}
        for prompt, lengths in zip(work.prompts, work.lengths, strict=True):
            search = self._search()
            rows = [self._row(search, child_of(ROOT, i), prompt, length) for i, length in enumerate(lengths)]
            asked[search] = Extend(tuple(rows), Until.END, SAMPLING)
        return sum(map(_measured, self._ask(asked, probe, last=True).values()))

    def _tree(self, work: Tree, probe: Callable[[], None] | None) -> int:
        search, count = self._search(), 0
        nodes: list[tuple[Address, Tokens]] = [(ROOT, work.prompt)]
        dropped: tuple[Address, ...] = ()
        for step in range(work.steps):
            forks = work.forks if step else work.rows
            rows = [self._row(search, child_of(path, i), prefix, work.length) for path, prefix in nodes for i in range(forks)]
            last = step == work.steps - 1
            request = Extend(tuple(rows), Until.STEP, SAMPLING, dropped=dropped)
            steps = self._ask({search: request}, probe, last)[search]
            count += _measured(steps)
            if not last:
                chosen = work.chosen[step]
                nodes = [(rows[i].path, (*rows[i].prefix, *steps[i].tokens.tolist())) for i in chosen]
                dropped = tuple(row.path for i, row in enumerate(rows) if i not in chosen)
        return count

    def _ask(self, asked: Mapping[int, Extend], probe: Callable[[], None] | None, last: bool) -> dict[int, tuple[Step, ...]]:
        """Runs the requests to their ends; a search is forgotten as soon as it has its last."""
        steps: dict[int, tuple[Step, ...]] = {}
        for search, request in asked.items():
            self.engine.submit(search, request)
        while self.engine.busy:
            for search, reply in self.engine.advance():
                assert isinstance(reply, Extension)
                steps[search] = reply.steps
                if last:
                    self.engine.forget(search)
            if probe is not None:
                probe()
        return steps

    def _search(self) -> int:
        self._searches += 1
        return self._searches

    @staticmethod
    def _row(search: int, path: Address, prefix: Tokens, limit: int) -> Row:
        return Row(path, seed_of(0, str(search), path), prefix, limit)


def _measured(steps: tuple[Step, ...]) -> int:
    return sum(min(len(step), len(step.logprobs), len(step.certainties)) for step in steps)


def loaded(name: str, device: str = "cpu", threads: int = 1, rows: int = SLOTS) -> TextModel:
    """The model on the generation core. Torch's own threads are set too, for the peers of the same process."""
    import torch

    torch.set_num_threads(threads)
    return load_generator(name, {"device": device, "dtype": DTYPES[device], "rows": rows, "threads": threads})


@contextmanager
def named(model: str) -> Iterator[str]:
    """What load_generator calls one of MODELS; the large one is made in a temporary folder."""
    if model != "25m":
        yield model
        return
    with tempfile.TemporaryDirectory() as folder:
        save_random(Path(folder))
        yield folder


def save_random(folder: Path) -> None:
    """A Llama of 25 million random parameters with the bundled tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BUNDLED["generator"])
    _save(_config(len(tokenizer)), folder)
    tokenizer.save_pretrained(folder)


def _config(vocabulary: int) -> LlamaConfig:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=512,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=64,
        intermediate_size=1536,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )


def _save(config: LlamaConfig, folder: Path) -> None:
    import torch
    from transformers import LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
