"""Counting the tokens of texts whose file has no counts, with a tokenizer that the user names."""

from __future__ import annotations

from pathlib import Path

from pipelines.problems.jsonl import DataError

from .convert import Count


def counter(name: str) -> Count:
    """Counts with the tokenizer.json of a folder, or of the bundled generator. An estimate: what was generated, and in which
    tokens, only the generator knows."""
    from tokenizers import Tokenizer

    folder = Path(name)
    if name == "bundled":
        from pipelines.models import BUNDLED

        folder = BUNDLED["generator"]
    file = folder / "tokenizer.json" if folder.is_dir() else folder
    if not file.is_file():
        raise DataError(f"{file}: no such file; --tokenizer takes 'bundled' or a folder with a tokenizer.json")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises a bare Exception
        raise DataError(f"{file}: is no tokenizer: {str(error)[:120]}") from None

    def count(texts: list[str]) -> list[int]:
        storable = [text.encode("utf-8", "replace").decode() for text in texts]
        return [len(each.ids) for each in tokenizer.encode_batch(storable, add_special_tokens=False)]

    return count
