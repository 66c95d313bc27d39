"""What the shell offers for the word that is being typed. Fast: it loads no model, and opens no server."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import typer

Offers = list[tuple[str, str]]  # what to type, and what it is
MOST = 100  # runs offered


def runs(context: typer.Context, incomplete: str) -> Offers:
    """Ids and names of the newest runs; none where the database is a server's, which may be away."""
    from flows.cli.options import DATABASE

    where = context.params.get("database") or os.environ.get("PONDEROSA_DATABASE") or DATABASE
    if "://" in where or not Path(where).is_file():
        return []
    try:
        with closing(sqlite3.connect(f"file:{where}?mode=ro", uri=True, timeout=1)) as connection:
            asked = "select id, name, substr(created, 1, 16) from run order by created desc limit ?"
            found = connection.execute(asked, (MOST,)).fetchall()
    except sqlite3.Error:
        return []
    named = [(name, f"{key} {created}") for key, name, created in found if name]
    return _beginning(incomplete, [("latest", "the newest"), *((key, name) for key, name, _ in found), *named])


def strategies(incomplete: str) -> Offers:
    from search.strategies import STRATEGIES

    return _beginning(incomplete, ((name, _about(each)) for name, each in STRATEGIES.items()))


def selectors(incomplete: str) -> Offers:
    from search.select import SELECTORS

    return _beginning(incomplete, ((name, rule.about) for name, rule in SELECTORS.items()))


def verifiers(incomplete: str) -> Offers:
    from verifiers.registry import VERIFIERS

    return _beginning(incomplete, ((name, known.about) for name, known in VERIFIERS.items()))


def problems(incomplete: str) -> Offers:
    from pipelines.problems import FAMILIES

    return _beginning(incomplete, ((name, "") for name in (*FAMILIES, "jsonl")))


def _about(of: type) -> str:
    return (of.__doc__ or "").strip().splitlines()[0]


def _beginning(incomplete: str, offers: Iterable[tuple[str, str]]) -> Offers:
    return [offer for offer in offers if offer[0].startswith(incomplete)]
