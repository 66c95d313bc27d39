"""The runs that a spec file and the flags ask for together: flags win over the file, and a list stands for one run of each."""

from __future__ import annotations

import itertools
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from flows import parts
from flows.spec_file import Named, RunFile, checked
from search.checks import one_of
from search.types import Part, RunSpec

MOST = 10_000  # runs of one file: more are a mistake
MODELS = ("generator", "verifier", "encoder", "small")  # what `weights` are the fingerprints of


class FileError(ValueError):
    """A spec file that cannot be read, or says what cannot be."""

    exit_code = 65  # EX_DATAERR


def asked(file: str | None, given: Mapping[str, Any], settings: Sequence[str] = ()) -> tuple[list[RunSpec], list[str]]:
    """The specs and their names. `given` are the flags, whose lists are one run of each; ValueError in one line."""
    raws = [{}] if file is None else list(_checked(file))
    given = {key: value for key, value in given.items() if value is not None}
    files = [checked(each) for raw in raws for each in spread({**_loose(raw, given), **given})]
    if not files:
        raise FileError(f"spec file '{file}' has no runs")
    files = _shared_models(files)
    specs = [each.spec(settings) for each in files]
    return specs, names(files, settings)


def _loose(raw: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says; without the fingerprints where a flag names another model."""
    return {key: value for key, value in raw.items() if key != "weights" or not any(model in given for model in MODELS)}


def _shared_models(files: list[RunFile]) -> list[RunFile]:
    """Of several runs those have an encoder or a smaller sibling that use it; one must."""
    if len(files) == 1:
        return files
    for key, uses, does in (("encoder", parts.embeds, "embeds"), ("small", parts.switches, "switches to a smaller generator")):
        using = [uses(each.strategy.part() if isinstance(each.strategy, Named) else each.strategy) for each in files]
        wanted = next((getattr(each, key) for each in files if getattr(each, key) is not None), None)
        if wanted is not None and not any(using):
            raise ValueError(f"none of these strategies {does}; leave --{key} {wanted} out")
        files = [each if use else each.model_copy(update={key: None}) for each, use in zip(files, using, strict=True)]
    return files


# --------------------------------------------------------------------------------------------------------------- the file


def _checked(file: str) -> Iterator[dict[str, Any]]:
    """The runs of a file, each said to be sound before a flag changes it; FileError with the file's name."""
    try:
        for raw in of_content(content(file)):
            for each in spread(raw):
                checked(each)
            yield raw
    except ValueError as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"spec file '{file}': {error}") from None


def content(file: str) -> object:
    """What a YAML, TOML (.toml) or JSON file holds; '-' is standard input."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise FileError(f"cannot read the spec file '{file}': {what}") from None
    if file.endswith(".toml"):
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"no TOML: {error}") from None
    return _yaml(text)


def _yaml(text: str) -> object:
    import yaml

    try:
        _refuse_twice(yaml.compose(text, yaml.SafeLoader))
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ValueError(f"line {mark.line + 1 if mark else '?'}: no YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise ValueError(f"no YAML: {' '.join(str(error).split())}") from None


def _refuse_twice(node: Any) -> None:
    """A key that is given twice, of which PyYAML would keep the last."""
    seen: set[str] = set()
    for each in node.value if node is not None and isinstance(node.value, list) else ():
        key, value = each if isinstance(each, tuple) else (None, each)
        if key is not None and key.value in seen:
            raise ValueError(f"line {key.start_mark.line + 1}: '{key.value}' is given twice")
        seen |= {key.value} if key is not None else set()
        _refuse_twice(value)


def of_content(found: object) -> Iterator[dict[str, Any]]:
    """One mapping a run, or a grid of them."""
    if isinstance(found, Mapping) and "runs" in found:
        shared = {key: value for key, value in found.items() if key != "runs"}
        yield from (_plainly({**shared, **one}) for one in _mappings(found["runs"], "runs"))
    elif isinstance(found, Mapping):
        yield _plainly(found)
    else:
        yield from (_plainly(one) for one in _mappings(found, "it"))


def _mappings(found: object, what: str) -> list[Mapping[str, Any]]:
    if not isinstance(found, list) or not found or not all(isinstance(one, Mapping) for one in found):
        raise ValueError(f"{what} must be KEY: VALUE lines, or a list of runs, '- ' and KEY: VALUE lines each")
    return found


def _plainly(raw: Mapping[str, Any]) -> dict[str, Any]:
    known = {str(key).replace("-", "_"): value for key, value in raw.items()}
    for key in known:
        one_of("key", key, RunFile.model_fields)
    return known


# --------------------------------------------------------------------------------------------------------------- the grid


def spread(raw: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One run for each combination of the values of keys that have several; stop strings belong to one run together."""
    many = {key: value for key, value in raw.items() if isinstance(value, list) and key != "stop"}
    for key, values in many.items():
        if not values:
            raise ValueError(f"{key} has no values; leave it out, or give one")
    combinations = itertools.product(*many.values())
    out = [{**raw, **dict(zip(many, one, strict=True))} for one in itertools.islice(combinations, MOST + 1)]
    if len(out) > MOST:
        raise ValueError(f"this is a grid of more than {MOST:,} runs; make several of it")
    return out


def names(files: Sequence[RunFile], settings: Sequence[str] = ()) -> list[str]:
    """What tells the runs apart, in the words they were asked for with: strategy, and what else differs between them."""
    raws = [each.model_dump(mode="json") for each in files]
    differ = [
        key
        for key in RunFile.model_fields
        if key not in ("name", "strategy", "weights", *MODELS[2:]) and len({json.dumps(raw[key]) for raw in raws}) > 1
    ]
    given = [each.name for each in files]
    if all(given) and len(set(given)) == len(given):
        return given
    one = len({_said(raw["strategy"]) for raw in raws}) == 1
    out = []
    for raw, name in zip(raws, given, strict=True):
        words = ",".join([_said(raw["strategy"]), *settings])
        begun = name if name and one else f"{name} {words}".strip()
        out.append(begun + "".join(f" {key} {_said(raw[key])}" for key in differ if raw[key] is not None))
    return out


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return str(Part(value["name"], value["params"]))
    return str(value)


__all__ = ["FileError", "asked", "content", "names", "of_content", "spread"]
