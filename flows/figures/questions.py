"""`store/questions/README.md`: every named question with its SQL and what it answers about runs of the demo.

python -m flows.figures.questions -d .ponderosa/ponderosa.db RUN RUN RUN > store/questions/README.md
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import islice

from flows import solved
from flows.asking import runs_of, told
from flows.query import write
from store.database import Database, open_database
from store.questions import QUESTIONS, Question
from store.runs import Run, list_runs

ROWS = 4  # of an answer
WIDEST = 150  # characters of a line
HEAD = """# questions: what is asked of runs, by name

`QUESTIONS` has them all; `question.py` says what one is. Each is a verb, a function and a data frame:

```
ponderosa ask lost RUN...                 # a table; -o rows.csv, .jsonl, .parquet, .md; --json; --sql prints what is behind it
```

```python
from store.database import open_database
from store.questions import QUESTIONS
from store.runs import find_run

with open_database("ponderosa.db") as db:
    QUESTIONS["lost"].frame(db, [find_run(db, "latest")])  # pandas; what is not known is <NA>
```

`store.queries.lost(db, [run])` is the same. The SQL runs on both databases, and gives the rows that the answer is computed
from. Intervals are 95%: Wilson's where a problem has one trial; where its solutions are the trials, Wilson's with as many
independent trials as have the same variance, so that the solutions of a problem count together; a bootstrap over problems for
means; Holm's correction where several tests are asked for at once. An answer that rests on fewer than 30 problems says so.

Whole solutions are judged when their run ends; those that take running programs when `ponderosa ask` or `report` first wants
them, or by `flows.solved.ensure(db, [run.id])`. Until then `pass-at-k`, `oracle-gap` and `selectors` leave their problems out.

| file | what it asks about |
|---|---|
| `question.py` | what a question is |
| `costs.py`, `budget.py` | accuracy against cost; seconds, tokens, slow and failed problems |
| `paired.py` | runs in pairs; seeds |
| `pool.py`, `selected.py` | the solutions of a problem: pass@k, the oracle, diversity, selectors |
| `lost.py`, `astray.py` | where right answers were lost, and where the way to one was left |
| `verifier.py` | calibration and length bias |
| `trend.py` | the runs of a schedule |

The examples are of runs of the demo (`countdown`, 60 problems), that of `trend` of a schedule over `word` with two slots, made
by `python -m flows.figures.questions`; of wide answers they have the first columns.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", "--database", default=".ponderosa/ponderosa.db")
    parser.add_argument("runs", nargs="+")
    options = parser.parse_args()
    with open_database(options.database, create=False) as opened:
        runs = runs_of(opened, options.runs)
        solved.ensure(opened, [run.id for run in runs])
        sys.stdout.write(HEAD + "".join(part for each in QUESTIONS.values() for part in _told(opened, each, runs)))


def _told(opened: Database, question: Question, runs: Sequence[Run]) -> Iterator[str]:
    sql = question.sql.strip().replace("{runs}", "'RUN'")
    yield f"\n## `{question.name}`\n\n{question.asks} {question.says}\n\n```sql\n{sql}\n```\n"
    yield f"\nComputed from it: {question.computed or 'nothing, these are the rows'}.\n"
    rows = question.ask(opened, runs) or question.ask(opened, list_runs(opened))  # a schedule's runs are others
    columns, cells = told(question, rows)
    places = [i for i, name in enumerate(columns) if name not in ("run", "problem_set")]
    kept = [tuple(row[i] for i in places) for row in islice(cells, ROWS)]
    yield f"\n```\n$ ponderosa ask {question.name} RUN...\n{_table([columns[i] for i in places], kept) if rows else ''}"
    yield f"({len(rows):,} rows)\n```\n" if rows else "(no rows)\n```\n"


def _table(columns: Sequence[str], rows: Sequence[tuple[str | None, ...]]) -> str:
    """As it is on a terminal, without the last line."""
    lines: list[str] = []
    for count in range(len(columns), 0, -1):
        before, sys.stdout = sys.stdout, StringIO()
        try:
            write(columns[:count], [row[:count] for row in rows], "table")
            lines = sys.stdout.getvalue().splitlines()[:-1]
        finally:
            sys.stdout = before
        if max(map(len, lines), default=0) <= WIDEST:
            break
    return "".join(f"{line}\n" for line in lines)


if __name__ == "__main__":
    main()
