"""The words of a PostgreSQL statement: which functions it may call, which relations it may mean, where its parameters are.

A small lexer that reads what PostgreSQL's reads, or refuses: where the two could differ (dollar quotes, U&"..." names, E'...'
texts, nested comments, control characters, capitals beyond ASCII) the statement is refused. It relies on
standard_conforming_strings being on and the client's encoding being UTF-8, which the connection sets.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .readonly import QueryError

_TOKEN = re.compile(
    r"""(?P<gap>[ \t\n\r\f]+|--[^\n\r]*|/\*(?:(?!/\*|\*/)[\s\S])*\*/)
      | (?P<text>'(?:[^']|'')*')
      | (?P<quoted>"(?:[^"]|"")*")
      | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
      | (?P<number>[0-9]+)
      | (?P<cast>::)
      | (?P<parameter>:[A-Za-z_][A-Za-z0-9_]*)
      | (?P<mark>[\s\S])""",
    re.VERBOSE,
)
_PREFIXES = ("e", "b", "x", "n")
_LONGEST = 63  # bytes of a name; the server cuts longer ones


@dataclass(frozen=True)
class Words:
    """What a statement names. Names are as the server folds them."""

    sql: str  # with $1, $2, ... for the parameters
    parameters: tuple[str, ...]  # in the order of their numbers
    names: frozenset[str]  # all of them
    callable: frozenset[str]  # before a parenthesis or after a dot: the only places where a name can be a function's
    qualifying: frozenset[str]  # before a dot: where a name can be a schema's


@dataclass(frozen=True)
class _Token:
    kind: str
    said: str


def words_of(sql: str, given: frozenset[str]) -> Words:
    """The statement's names. `given`: the parameters that have a value. Raises QueryError for what is not read for certain."""
    tokens = _tokens(sql)
    numbers: dict[str, int] = {}
    written, solid = [], [each for each in tokens if each.kind != "gap"]
    for token in tokens:
        if token.kind == "parameter":
            name = token.said[1:]
            if name not in given:
                raise QueryError(f"the query's parameter ':{name[:80]}' has no value")
            written.append(f"${numbers.setdefault(name, len(numbers) + 1)}")
        else:
            written.append(token.said)
    _check(tokens)
    while solid and solid[-1].said == ";":
        solid.pop()
    if any(each.said == ";" for each in solid):
        raise QueryError("a query is one statement; there is another after ';'")
    names, called, before = set(), set(), set()
    for i, token in enumerate(solid):
        if token.kind not in ("word", "quoted"):
            continue
        name = _folded(token)
        names.add(name)
        following = solid[i + 1].said if i + 1 < len(solid) else ""
        if token.said.lower() == "treat" and following == "(":  # TREAT(x AS f) is f(x), whatever function f is
            raise QueryError("TREAT(... AS ...) is not read here; write CAST(... AS ...)")
        if following == "(" or (i and solid[i - 1].said == "."):
            called.add(name)
        if following == ".":
            before.add(name)
    return Words("".join(written), tuple(numbers), frozenset(names), frozenset(called), frozenset(before))


def _tokens(sql: str) -> list[_Token]:
    return [_Token(found.lastgroup or "", found.group()) for found in _TOKEN.finditer(sql)]


def _check(tokens: list[_Token]) -> None:
    """Refuses what PostgreSQL might read in another way."""
    for i, token in enumerate(tokens):
        said, following = token.said, "".join(each.said[:1] for each in tokens[i + 1 : i + 3])
        if token.kind == "mark" and said in "'\"":
            raise QueryError(f"a quote ({said}) is not closed")
        if token.kind == "mark" and (said == "$" or said < " " or said == "\x7f"):
            raise QueryError(f"{said!r} outside of a text is not read here; write texts as 'text', parameters as :name")
        if said == "/" and following[:1] == "*":
            raise QueryError("a comment is not closed, or has another inside")
        if token.kind != "word":
            continue
        if said.lower() in _PREFIXES and following[:1] == "'":
            raise QueryError(f"{said}'...' is not read here; write the text as '...'")
        if said.lower() == "u" and following[:1] == "&" and following[1:] in ("'", '"'):
            raise QueryError(f"{said}&{following[1:]}...{following[1:]} is not read here; write the characters themselves")


def _folded(token: _Token) -> str:
    """The name as the server reads it. What it makes of a capital beyond ASCII is a matter of its encoding and locale."""
    name = token.said[1:-1].replace('""', '"') if token.kind == "quoted" else token.said.lower()
    if token.kind == "word" and any(character > "\x7f" and character != character.lower() for character in token.said):
        raise QueryError(f"the name '{token.said[:40]}' has a capital beyond ASCII; write it in quotes, or in small letters")
    if len(name.encode()) > _LONGEST:
        raise QueryError(f"the name '{name[:40]}...' is longer than {_LONGEST} bytes")
    return name


__all__ = ["Words", "words_of"]
