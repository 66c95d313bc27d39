"""The files of an import: which they are, what they hold, row by row, and where a fault in them is.

Lines are streamed; a file that is one JSON or YAML document (a problem each) is read whole. Every fault is a DataError
with FILE:LINE and the reason.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pipelines.problems.jsonl import DataError

LONGEST_LINE = 256 * 2**20  # bytes; of a document too
Row = tuple[int, dict[str, Any]]  # line, object
Rows = Callable[[Path], Iterator[Row]]


def found(names: Sequence[str], patterns: Sequence[str]) -> list[Path]:
    """The files that were named; of a folder those of the format's patterns, 2 before 10."""
    files: list[Path] = []
    for name in names:
        if "://" in name:
            raise DataError(f"{name}: is a URL; download the file and name it by its path")
        path = Path(name)
        try:
            if path.is_dir():
                inside = [each for each in path.iterdir() if any(fnmatch(each.name, p) for p in patterns) and each.is_file()]
                if not inside:
                    raise DataError(f"{path}: no file in this folder is named {' or '.join(patterns)}")
                files += sorted(inside, key=_natural)
            else:
                files.append(_plain(path))
        except (OSError, ValueError) as error:
            raise DataError(f"{name[:200]!r}: {getattr(error, 'strerror', None) or error}") from None
    twice = next((file for i, file in enumerate(files) if file in files[:i]), None)
    if twice is not None:
        raise DataError(f"{twice}: is named twice; name each file once")
    return files


def _plain(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if not path.is_file():
        raise DataError(f"{path}: is not a plain file, and is read twice; write it to a file first")
    with path.open("rb") as stream:
        if stream.read(2) == b"\x1f\x8b":
            raise DataError(f"{path}:1: is compressed with gzip; decompress it first (gunzip)")
    return path


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", path.name)]


def digest(files: Sequence[Path], named: bool) -> str:
    """16 hexadecimal digits of what the files hold; `named`: of their names too, for what takes ids from them."""
    total = hashlib.blake2b(digest_size=8)
    for file in files:
        own = hashlib.blake2b(file.name.encode("utf-8", "surrogateescape") if named else b"")
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                own.update(block)
        total.update(own.digest())
    return total.hexdigest()


def json_lines(file: Path) -> Iterator[Row]:
    """An object a line. A byte order mark, CRLF and blank lines are no faults."""
    with file.open("rb") as stream:
        line = 0
        while raw := stream.readline(LONGEST_LINE + 1):
            line += 1
            ended = raw.endswith(b"\n")
            if len(raw) > LONGEST_LINE:
                raise DataError(f"{file}:{line}: the line has more than {LONGEST_LINE} bytes")
            if line == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if raw.strip():
                try:
                    yield line, _object(_json(raw))
                except json.JSONDecodeError as error:
                    cut = "" if ended else "; the last line looks cut off"
                    raise DataError(f"{file}:{line}: not JSON, column {error.colno}: {error.msg}{cut}") from None
                except ValueError as error:
                    raise DataError(f"{file}:{line}: {error}") from None


def json_document(file: Path) -> Iterator[Row]:
    """One object, or a list of them."""
    try:
        whole = _json(_all(file))
        for each in whole if isinstance(whole, list) else [whole]:
            yield 1, _object(each)
    except json.JSONDecodeError as error:
        raise DataError(f"{file}:{error.lineno}: not JSON, column {error.colno}: {error.msg}") from None
    except ValueError as error:
        raise DataError(f"{file}:1: {error}") from None


def yaml_document(file: Path) -> Iterator[Row]:
    """One object; only plain data, no tags."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        yield 1, _object(yaml.load(_utf8(_all(file)), Loader=loader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or str(error)
        raise DataError(f"{file}:{mark.line + 1 if mark else 1}: not YAML: {said}") from None
    except RecursionError:
        raise DataError(f"{file}:1: nested too deeply") from None
    except ValueError as error:
        raise DataError(f"{file}:1: {error}") from None


def _all(file: Path) -> bytes:
    size = file.stat().st_size
    if size > LONGEST_LINE:
        raise ValueError(f"the file has {size} bytes, more than {LONGEST_LINE}; it is one document, and is read whole")
    return file.read_bytes().removeprefix(b"\xef\xbb\xbf")


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start + 1}") from None


def _json(raw: bytes) -> Any:
    """NaN and the infinities, which Python writes, are read: as a score they are no value, and elsewhere refused."""
    try:
        return json.loads(_utf8(raw))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"not an object but {str(value)[:60]!r}")
    return value
