"""Where did a search that found no right solution leave the known ways to one?

A way is known where any run in the database has a right solution of the problem: the steps of its text. A candidate is on it as
long as its text, from the first step, is the same step by step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, func, select

from search.types import lineage, pieces_of

from .. import schema
from ..database import Database
from ..pools import written
from ..values import plain_text
from .costs import RUN, with_names
from .question import Asked, Col, Question, Row, own

_A, _C, _V = schema.attempt.c, schema.candidate.c, schema.solution.c
SAMPLED = 1000  # problems of a run
KNOWN = 16  # right solutions of a problem that are looked at, all of different texts
DROPPED = ("pruned", "merged")
_AT_ONCE = 50  # attempts looked at together
HOWS = (*DROPPED, "strayed", "unknown")

Way = tuple[str, ...]  # the first steps of a right solution


def _astray(asked: Asked) -> list[Row]:
    out = []
    attempts = (list(rows) for _, rows in groupby(asked.stream(), key=itemgetter("attempt")))
    while some := list(islice(attempts, _AT_ONCE)):
        ways = _ways(asked.db, sorted({rows[0]["problem_key"] for rows in some}))
        for rows in some:
            first = {name: rows[0][name] for name in ("run", "problem", "attempt")}
            out.append({**_furthest(rows, ways.get(rows[0]["problem_key"])), **first})
    return with_names(asked, sorted(out, key=lambda row: HOWS.index(row["how"])))


def _furthest(rows: Sequence[Row], known: dict[Way, int] | None) -> Row:
    """How far the attempt was on a known way, and what ended that."""
    if known is None:
        return {"how": "unknown"}
    found = {row["path"]: row for row in rows}
    best, on, whole = None, 0, False
    steps = [row for row in rows if row["state"] != "aside"]
    for path, row in ((row["path"], row) for row in steps):
        pieces = tuple(pieces_of("".join(plain_text(each["text"], each["text_zlib"]) for each in _steps(found, path))))
        k = next((k for k in range(len(pieces), 0, -1) if pieces[:k] in known), 0)
        all_of_it = k == len(pieces) and k > 0
        # where a twin was kept and went wrong later, dropping this one lost nothing
        if k > on or (k == on and whole and not (all_of_it and row["state"] in DROPPED)):
            best, on, whole = row, k, all_of_it and row["state"] in DROPPED
    if best is None or not whole:
        return {"how": "strayed", "step": on + 1, "on_the_way": on}
    depth = best["path"].count(".")
    kept = [row["value"] for row in steps if row["path"].count(".") == depth and row["state"] not in DROPPED]
    kept_scores = [value for value in kept if value is not None]
    margin = best["value"] - min(kept_scores) if kept_scores and best["value"] is not None else None
    dropped = {"path": best["path"], "score": best["value"], "kept_margin": margin, "cause": best["cause"]}
    return {"how": best["state"], "step": on, "on_the_way": on, **dropped}


class _Told:
    """A row as `written` reads it."""

    def __init__(self, row: Row) -> None:
        self.row, self.prompt = row, row["prompt"]


def _steps(found: dict[str, Row], path: str) -> list[Row]:
    if "." not in path:
        return [found[path]]
    return [found[each] for each in written({each: _Told(found[each]) for each in lineage(path)}, path)]


def _ways(db: Database, keys: Sequence[str]) -> dict[str, dict[Way, int]]:
    """By problem: the beginnings of its right solutions, of whichever runs."""
    out: dict[str, dict[Way, int]] = {}
    with db.read() as connection:
        for key, text in _right(connection, keys):
            pieces = tuple(pieces_of(text))
            out.setdefault(key, {}).update({pieces[:k]: k for k in range(1, len(pieces) + 1)})
    return out


def _right(connection: Connection, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Problem and text of up to KNOWN right solutions of each."""
    twin = func.row_number().over(partition_by=(_A.problem_key, _V.digest), order_by=(_V.attempt_id, _V.number))
    right = (
        select(_A.problem_key, _V.attempt_id, _V.path, _V.digest, twin.label("twin"))
        .join_from(schema.solution, schema.attempt, _A.id == _V.attempt_id)
        .where(_A.problem_key.in_(keys), _A.right_solutions > 0, _V.correct)
        .subquery()
    )
    place = func.row_number().over(partition_by=right.c.problem_key, order_by=right.c.digest)
    columns = right.c.problem_key, right.c.attempt_id, right.c.path, place.label("place")
    ranked = select(*columns).where(right.c.twin == 1).subquery()
    found = connection.execute(select(ranked).where(ranked.c.place <= KNOWN)).all()
    rows: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    attempts = sorted({row.attempt_id for row in found})
    for begin in range(0, len(attempts), 500):
        some = attempts[begin : begin + 500]
        steps_of = (_C.attempt_id, _C.path, _C.prompt, _C.text, _C.text_zlib)
        for row in connection.execute(select(*steps_of).where(_C.attempt_id.in_(some))):
            rows[row.attempt_id][row.path] = row
    for key, attempt, path, _ in found:
        steps = (rows[attempt][each] for each in written(rows[attempt], path))
        yield key, "".join(plain_text(step.text, step.text_zlib) for step in steps)


ASTRAY = Question(
    name="astray",
    title="Where the way to a right answer was left",
    asks="Of the problems without any right solution: at which step did the search leave the known ways to one?",
    says="They never had a right solution (those that lost one are in `lost`). A way is known where some run in the database "
    "has a right solution of the problem; a candidate is on it while its steps are the same, word by word. Steps are here what "
    "blank lines part, whether or not the text was written in one go. Pruned or merged: the search dropped the furthest "
    "candidate that was on a way. Strayed: no candidate went on along one; the generator's next step left it. Unknown: no run "
    "has a right solution. Other ways may exist. A problem without any candidate is not here.",
    sql=f"""
SELECT attempts.run, attempts.attempt, attempts.problem, attempts.problem_key, candidate.path, candidate.state, candidate.cause,
       candidate.prompt, candidate.text, candidate.text_zlib,
       (SELECT CASE WHEN count(*) = 1 THEN min(score.value) END FROM score
        WHERE score.attempt_id = candidate.attempt_id AND score.path = candidate.path
              AND {own("score", "attempts.run")}) AS value
FROM (SELECT attempt.run_id AS run, attempt.id AS attempt, problem.id AS problem, attempt.problem_key,
             row_number() OVER (PARTITION BY attempt.run_id ORDER BY attempt.problem_key) AS place
      FROM attempt JOIN problem ON problem.key = attempt.problem_key
      WHERE attempt.run_id IN ({{runs}}) AND attempt.status IN ('done', 'failed') AND attempt.right_solutions = 0) AS attempts
JOIN candidate ON candidate.attempt_id = attempts.attempt
WHERE attempts.place <= {SAMPLED}
ORDER BY attempts.run, attempts.place, candidate.number
""",
    columns={
        **RUN,
        "problem": Col("its id"),
        "attempt": Col("id of the attempt", "id"),
        "how": Col("pruned, merged, strayed, or unknown"),
        "step": Col("at which the way was left, from 1", "count"),
        "on_the_way": Col("steps that were on a known way", "count"),
        "path": Col("of the candidate that was dropped"),
        "score": Col("of the candidate that was dropped, higher is better", "share"),
        "kept_margin": Col("its score minus the lowest that was kept at that depth", "signed"),
        "cause": Col("of its state, as the search gave it"),
    },
    make=_astray,
    computed=f"the steps of each candidate compared with those of up to {KNOWN} right solutions of the problem; at most "
    f"{SAMPLED} "
    "problems of a run, those of the smallest keys, which are hashes",
)

__all__ = ["ASTRAY"]
