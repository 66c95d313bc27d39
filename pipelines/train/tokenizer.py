"""The bundled tokenizer: byte-level BPE in which every number 0 to 99, every word and the step separator is one token.

    python -m pipelines.train.tokenizer FOLDER

Digits are grouped in twos from the left; a space before a number is a token of its own, so that a number is the same token
in a sentence and in an equation. Two newlines are always one token, whatever follows them.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.problems import FAMILIES, instances
from search.types import SEPARATOR

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PATTERN = r"\n+| ?[A-Za-z]+|[0-9]{1,2}|\\boxed\{| ?[^\sA-Za-z0-9]|\s"
SPECIAL = ("<|pad|>", "<|end|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
CONTEXT = 1024  # positions


def build(samples: int = 3000, seed: int = 0) -> PreTrainedTokenizerFast:
    """Trains the tokenizer on problem texts and proves the properties the models rely on."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random(seed)
    texts = [f"{n} " for n in range(100) for _ in range(20)]
    for family in FAMILIES.values():
        source = instances(family, "train", seed)
        for _ in range(samples):
            instance = next(source)
            texts.append(instance.question + SEPARATOR + SEPARATOR.join(family.demonstrate(rng, instance)))
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(PATTERN), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=768,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        eos_token=SPECIAL[1],
        additional_special_tokens=list(SPECIAL[2:]),
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )
    for piece in (SEPARATOR, *map(str, range(100))):
        if len(fast.encode(piece)) != 1:
            raise AssertionError(f"{piece!r} is not one token")
    if any(fast.decode(fast.encode(text)) != text for text in texts[-500:]):
        raise AssertionError("decode(encode(text)) differs from text")
    return fast


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    built = build()
    built.save_pretrained(folder)
    print(f"{folder}: {len(built)} tokens")
