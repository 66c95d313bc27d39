"""The encoders by name: the generator's own states by default, and the adapter to a package that need not be there."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fakes import question, step_of

from flows import work
from flows.parts import embeds, spec, weights
from pipelines import encoders
from pipelines.encoder import HiddenStates
from pipelines.encoders import check_encoder, load_named
from pipelines.models import ModelError
from search.types import Encoder, Part, Question, RunSpec, Trace

GENERATOR = Part("bundled")


def traces(*texts: str) -> list[Trace]:
    steps = [step_of([100 + i]) for i in range(len(texts))]
    said = [type(s)(s.tokens, t, s.logprobs, s.certainties, s.entropies, s.finish) for s, t in zip(steps, texts, strict=True)]
    return [Trace(question("p"), (said[0], each)) for each in said]


class FakeModel:
    """Has what the adapter needs of a SentenceTransformer, and remembers how it was made."""

    max_seq_length = 4

    def __init__(self, name: str, **options: Any) -> None:
        if name == "gone":
            raise OSError("gone is not a model\nand more lines")
        self.made = name, options

    def encode(self, texts: list[str], **options: Any) -> Any:
        assert options["normalize_embeddings"]
        assert options["convert_to_numpy"]
        return np.array([[len(text), 1] for text in texts], dtype=np.float64)

    def tokenizer(self, texts: list[str], truncation: bool, max_length: int) -> dict[str, list[list[int]]]:
        assert truncation
        return {"input_ids": [list(range(min(len(text.split()), max_length))) for text in texts]}

    def parameters(self) -> list[Any]:
        return [SimpleNamespace(numel=lambda: 10)]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("sentence_transformers")
    module.SentenceTransformer = FakeModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    monkeypatch.setattr(encoders, "find_spec", lambda name: object())


@pytest.mark.usefixtures("package")
def test_a_sentence_model_reads_the_last_step_alone_and_charges_what_it_read() -> None:
    """With the steps before it, siblings would be nearly one text; and what is cut off was not computed."""
    encoder = load_named(Part("sentence-transformers", {"model": "a/b", "device": "cpu"}), GENERATOR)
    one, two = encoder.embed(traces("a b c\n\n", "one two three four five"))
    assert one.vector.tolist() == [5, 1]
    assert one.vector.dtype == np.float32
    assert (one.tokens, two.tokens) == (3, 4)
    assert one.flops == 60.0
    assert encoder.model.made == ("a/b", {"device": "cpu", "model_kwargs": {"use_safetensors": True}})  # type: ignore[attr-defined]


@pytest.mark.usefixtures("package")
def test_a_sentence_model_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ModelError, match=r"encoder 'gone' cannot be loaded: gone is not a model$"):
        load_named(Part("sentence-transformers", {"model": "gone"}), GENERATOR)


def test_without_the_package_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the run is written, and not as a traceback at the first step."""
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"run `pip install sentence-transformers`, or use --encoder hidden"):
        check_encoder(Part("sentence-transformers", {"model": "a/b"}))


@pytest.mark.parametrize(
    ("part", "says"),
    [
        (Part("hiden"), "unknown encoder 'hiden'; did you mean 'hidden'?"),
        (Part("hidden", {"layer": 3}), "encoder 'hidden' has no parameter 'layer'"),
        (Part("sentence-transformers"), "needs a model"),
    ],
)
def test_words_that_cannot_be_are_refused_in_one_line(part: Part, says: str) -> None:
    with pytest.raises(ValueError, match=says.replace("?", r"\?")):
        check_encoder(part)


def test_hidden_is_of_the_generator_and_of_nothing_but_the_new_step() -> None:
    """Pooled over the whole text, siblings would differ in a few of their tokens only."""
    encoder: Encoder = load_named(Part("hidden"), Part("bundled", {"dtype": "float32", "rows": 4}))
    assert isinstance(encoder, HiddenStates)
    prompt = Question("p", "", (5, 6, 7))
    alone = encoder.embed([Trace(prompt, (step_of([20, 21]),)), Trace(prompt, (step_of([20, 21]), step_of([30])))])
    longer = encoder.embed([Trace(prompt, (step_of([20, 21]), step_of([30]), step_of([30])))])
    assert alone[1].tokens == len(prompt.tokens) + 3
    assert not np.allclose(alone[0].vector, alone[1].vector)
    assert not np.allclose(alone[1].vector, longer[0].vector)


def test_a_run_has_an_encoder_where_its_strategy_embeds_and_no_other() -> None:
    """An option that a strategy would ignore cannot be passed to it; runs without one keep their ids."""
    assert spec("word", "fetch").encoder == Part("hidden")
    assert spec("word", "fetch", encoder="hidden:dtype=bfloat16").encoder == Part("hidden", {"dtype": "bfloat16"})
    assert spec("word", "fetch:how=equation").encoder is None
    assert spec("word", "beam").encoder is None
    with pytest.raises(ValueError, match="strategy 'beam' as it is set embeds nothing; leave --encoder hidden out"):
        spec("word", "beam", encoder="hidden")
    assert embeds("fetch:of=astar,distance=0.2")
    assert not embeds("fetch:of=astar,distance=0")


def test_an_encoders_own_weights_are_in_the_fingerprint() -> None:
    plain = weights(GENERATOR, Part("prm"))
    assert weights(GENERATOR, Part("prm"), Part("hidden")) == plain
    assert weights(GENERATOR, Part("prm"), Part("hidden", {"model": "bundled-small"})) != plain
    assert weights(GENERATOR, Part("prm"), Part("sentence-transformers", {"model": "a/b"})) == plain


def test_the_encoder_is_checked_with_the_run() -> None:
    made = spec("word:count=2", "fetch")
    wrong = RunSpec(**{f: getattr(made, f) for f in RunSpec.__dataclass_fields__} | {"encoder": Part("hiden")})
    with pytest.raises(ValueError, match="unknown encoder"):
        work.check(wrong)
