"""Hugging Face's ways to do the same work: `generate`, continuous batching, and a loop by hand over a kept cache.

All have our weights, precision and threads, scaled-dot-product attention, plain sampling at temperature 1 (no top-k:
transformers' own default of 50 would cost them a partial sort), and no end token. They draw from torch's global generator.

- `generate`: batches of SLOTS rows, its default (dynamic) cache, nothing returned but tokens. A batch of ragged rows runs
  until its longest is done, as it does where rows meet their end token; only what was asked for counts. A tree is a new
  batch of whole prefixes at every step.
- `continuous`: continuous batching, with log-probabilities. Its manager and thread live through all rounds, idle while others
  run (it looks for work ten times a second). Off flash attention each row is attended over the keys of all rows and masked,
  so all 64 rows at once are slower than fewer: SETTINGS has what was fastest. Pages are small, since only whole ones are shared
  and its default of 256 tokens would share nothing; there are blocks for all that runs and 20 % more, below which it would
  hold back new rows. Rows of one prompt and length are its own forks (num_return_sequences), which compute the prompt once.
  Ragged rows cannot be: its forks have one length. What has run cannot be forked either: a step of a tree is sent as whole
  prefixes, which it finds again by the hashes of their pages.
- `kept`: the prompt is computed once and its cache repeated to the rows. At a step of a tree the chosen rows are selected,
  their last tokens fed, and cache and logits repeated to the forks. It has no ragged work: there it would be `generate`.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flows.figures.core.ours import DTYPES
from flows.figures.core.workloads import SLOTS, Flat, Tokens, Tree, Work

if TYPE_CHECKING:
    from torch import Tensor


class Contender(Protocol):
    """Does a workload; ours and the peers."""

    def run(self, work: Work) -> int:
        """How many of the tokens asked for were made."""

    def close(self) -> None:
        """Stops threads and frees memory."""


PEERS = {"generate": "generate", "continuous": "continuous batching", "kept": "hand-kept cache"}


def load(source: str | Path, device: str = "cpu") -> Any:
    """The model as transformers runs it; no end token."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as chatter

    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    # it logs an error where psutil is missing, which only its own choice of memory would need; failures come as results
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)
    dtype = getattr(torch, DTYPES[device])
    model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, attn_implementation="sdpa").to(device).eval()
    model.generation_config.eos_token_id = None  # a config given to generate is filled up from this one
    return model


def _config(**options: Any) -> Any:
    from transformers import GenerationConfig

    return GenerationConfig(do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0, **options)


class Generate:
    """`model.generate`."""

    def __init__(self, model: Any, slots: int = SLOTS) -> None:
        self.model, self.slots = model, slots

    def run(self, work: Work) -> int:
        return self._flat(work) if isinstance(work, Flat) else self._tree(work)

    def close(self) -> None:
        """Nothing to stop."""

    def _flat(self, work: Flat) -> int:
        count = 0
        requests = [(p, n) for p, lengths in zip(work.prompts, work.lengths, strict=True) for n in lengths]
        for begin in range(0, len(requests), self.slots):
            batch = requests[begin : begin + self.slots]
            made = len(self._new([p for p, _ in batch], max(n for _, n in batch))[0])
            count += sum(min(made, n) for _, n in batch)
        return count

    def _tree(self, work: Tree) -> int:
        count = 0
        nodes = [work.prompt] * work.nodes
        for step in range(work.steps):
            rows = [node for node in nodes for _ in range(work.forks)]
            new = self._new(rows, work.length)
            count += sum(map(len, new))
            if step < len(work.chosen):
                nodes = [(*rows[i], *new[i]) for i in work.chosen[step]]
        return count

    def _new(self, rows: Sequence[Tokens], new: int) -> list[list[int]]:
        import torch

        ids = torch.tensor(rows, device=self.model.device)
        config = _config(max_new_tokens=new, min_new_tokens=new)
        out = self.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        made: list[list[int]] = out[:, ids.shape[1] :].tolist()
        return made


class Kept:
    """A DynamicCache that is kept, selected and repeated by hand."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def run(self, work: Work) -> int:
        import torch

        with torch.inference_mode():
            return self._flat(work) if isinstance(work, Flat) else self._tree(work)

    def close(self) -> None:
        """Nothing to stop."""

    def _flat(self, work: Flat) -> int:
        count = 0
        for prompt, lengths in zip(work.prompts, work.lengths, strict=True):
            cache, logits = self._begin(prompt, len(lengths))
            count += sum(map(len, self._decode(cache, logits, max(lengths))))
        return count

    def _tree(self, work: Tree) -> int:
        import torch

        count = 0
        cache, logits = self._begin(work.prompt, work.rows)
        for step in range(work.steps):
            new = self._decode(cache, logits, work.length)
            count += sum(map(len, new))
            if step < len(work.chosen):
                kept = torch.tensor(work.chosen[step], device=self.model.device)
                cache.batch_select_indices(kept)
                logits = self._feed(cache, torch.tensor([[new[i][-1]] for i in work.chosen[step]], device=self.model.device))
                cache.batch_repeat_interleave(work.forks)
                logits = logits.repeat_interleave(work.forks, dim=0)
        return count

    def _begin(self, prompt: Tokens, rows: int) -> tuple[Any, Tensor]:
        import torch
        from transformers import DynamicCache

        cache = DynamicCache(config=self.model.config)
        logits = self._feed(cache, torch.tensor([prompt], device=self.model.device))
        cache.batch_repeat_interleave(rows)
        return cache, logits.repeat_interleave(rows, dim=0)

    def _feed(self, cache: Any, ids: Tensor) -> Tensor:
        """The logits after each row's tokens; [rows, vocabulary]."""
        logits: Tensor = self.model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[:, -1]
        return logits

    def _decode(self, cache: Any, logits: Tensor, new: int) -> list[list[int]]:
        """Draws `new` tokens a row; the last one is not fed."""
        import torch

        drawn = [torch.multinomial(logits.float().softmax(-1), 1)]
        while len(drawn) < new:
            drawn.append(torch.multinomial(self._feed(cache, drawn[-1]).float().softmax(-1), 1))
        rows: list[list[int]] = torch.cat(drawn, 1).tolist()
        return rows


@dataclass(frozen=True, slots=True)
class Settings:
    """Of continuous batching, for one workload."""

    slots: int  # max_requests_per_batch
    page: int = 16  # page_size
    batch: int = 512  # max_batch_tokens: a step's new tokens, prompts' and rows' together


# The fastest of those tried on a CPU. In brackets tokens/s of the bundled model, and of the one of 25M where it was tried too:
# equal: 16 slots [1548, 280], 32 [1675, 315], 64 [1475, 268]; 32 without forks [1536]; 32 with eager attention [1375]
# ragged: 8 [744], 16 [1043, 184], 32 [1255, 210], 64 [912, 198]; pages of 32 as of 16
# tree: 16 and page 8 [958], 32 and 4 [1058], 32 and 8 [1226], 32 and 16 [1018], 64 and 4 [738], 64 and 16 [798]
# prefix: 4 [321], 8 [425, 69], 16 [425, 75], 32 [366, 48], 64 [-, 34]
SETTINGS: dict[str, Settings] = {
    "equal": Settings(32),
    "ragged": Settings(32),
    "tree": Settings(32, page=8),
    "prefix": Settings(16),
    "one": Settings(1),
}


class Continuous:
    """`model.init_continuous_batching`, sized for works like the given one."""

    def __init__(self, model: Any, work: Work, settings: Settings) -> None:
        from transformers import ContinuousBatchingConfig

        self.forks = _forks(work)
        config = ContinuousBatchingConfig(
            page_size=settings.page,
            num_blocks=-(-_capacity(work, settings.slots) * 6 // 5 // settings.page),
            max_batch_tokens=settings.batch,
            max_requests_per_batch=settings.slots,
            return_logprobs=True,
        )
        generation = _config(eos_token_id=-1, num_return_sequences=self.forks)
        self.manager = model.init_continuous_batching(generation_config=generation, continuous_batching_config=config)
        self.manager.start()

    def run(self, work: Work) -> int:
        return self._flat(work) if isinstance(work, Flat) else self._tree(work)

    def close(self) -> None:
        self.manager.stop(block=True)
        self.manager.destroy()
        gc.collect()  # its cache and masks are held in cycles

    def _flat(self, work: Flat) -> int:
        asked = [(p, n) for p, lengths in zip(work.prompts, work.lengths, strict=True) for n in lengths[:: self.forks]]
        return sum(len(result.generated_tokens) for result in self._ask(asked))

    def _tree(self, work: Tree) -> int:
        count = 0
        nodes = [work.prompt] * work.nodes
        for step in range(work.steps):
            rows = self._ask([(node, work.length) for node in nodes])
            count += sum(len(row.generated_tokens) for row in rows)
            if step < len(work.chosen):
                nodes = [(*rows[i].prompt_ids, *rows[i].generated_tokens) for i in work.chosen[step]]
        return count

    def _ask(self, asked: Sequence[tuple[Tokens, int]]) -> list[Any]:
        """All rows that come of the requests, in the order in which they end."""
        for prompt, new in asked:
            self.manager.add_request(list(prompt), max_new_tokens=new)
        rows: list[Any] = []
        while len(rows) < len(asked) * self.forks:
            row = self.manager.get_result(timeout=1)
            if row is None and not self.manager.is_running():
                raise RuntimeError("continuous batching stopped: its thread has ended")
            if row is not None:
                if row.error is not None or len(row.logprobs) != len(row.generated_tokens):
                    raise RuntimeError(f"continuous batching failed: {row.error or 'log-probabilities are missing'}")
                rows.append(row)
        return rows


def _forks(work: Work) -> int:
    """Rows of one request: those of one prompt where they are equally long, or a node's."""
    if isinstance(work, Tree):
        return work.forks
    same = len(set(work.lengths)) == 1 and len(set(work.lengths[0])) == 1
    return len(work.lengths[0]) if same else 1


def _capacity(work: Work, slots: int) -> int:
    """Tokens that its memory must hold: the running rows', and in a tree all of a step's, for the next to find."""
    if isinstance(work, Tree):
        return 2 * work.rows * (len(work.prompt) + work.length * work.steps)
    longest = max(n for lengths in work.lengths for n in lengths)
    return slots * (max(map(len, work.prompts)) + longest)
