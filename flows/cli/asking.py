"""The verbs that ask the database: query in SQL, ask by name."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli import completing
from flows.cli.app import App, app
from flows.cli.opened import stored
from flows.cli.options import DATABASE, DatabaseOption, JsonOption


@app.command()
def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT; '-' reads it. Left out: what there is to ask.")] = "",
    file: Annotated[str, typer.Option("--file", "-f", help="A file with the SQL.")] = "",
    format: Annotated[str, typer.Option(help="table, csv, jsonl, parquet or markdown. On a terminal table, else csv.")] = "",
    output: Annotated[str, typer.Option("--output", "-o", help="A file; its ending is its format.")] = "",
    param: Annotated[list[str], typer.Option(help="NAME=VALUE, of a :NAME in the SQL; repeat.")] = [],  # noqa: B006
    limit: Annotated[int | None, typer.Option(help="Rows at most; a table has 100, in a file all.", min=1)] = None,
    seconds: Annotated[float, typer.Option(help="The database may work on it.")] = 30.0,
    spreadsheet: Annotated[bool, typer.Option("--spreadsheet", help="CSV for a spreadsheet: no text is a formula.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over the file.")] = False,
    json: JsonOption = False,
    database: DatabaseOption = DATABASE,
) -> None:
    """Ask the stored runs in SQL, which cannot change them: views runs, results, solutions, steps, scores, and the tables."""
    from flows import query as asking

    statement = asking.statement_of(sql, file)
    if not (sql or file):
        if output or param:
            raise ValueError("there is no SQL; write it behind `ponderosa query`, or name a file with -f")
        asking.describe(database, json)
        return
    chosen = asking.format_of(format, output, json)
    parameters = asking.parameters_of(param)
    asking.run(database, statement, parameters, seconds, chosen, output, limit, spreadsheet, force)


QUESTIONS = {
    "accuracy": "What did each run get right, and for how much?",
    "best": "Which run is best at so many tokens a problem?",
    "pairs": "Is each run better than the first one, over the same problems?",
    "seeds": "Did the seed matter?",
    "pass-at-k": "How many problems have a right answer among k solutions?",
    "selectors": "What would another selector, or half the budget, have bought?",
    "oracle-gap": "What would a perfect choice among the solutions have bought?",
    "losses": "How often was a right answer pruned, merged, cancelled or outvoted?",
    "lost": "Of the problems that a run got wrong although it had a right solution: where was that lost?",
    "astray": "Of the problems without any right solution: at which step did the search leave the known ways to one?",
    "verifier": "Is the verifier over-confident, and does it tell right from wrong?",
    "calibration": "Of the solutions that the verifier gives a score, how many are right?",
    "length": "Are long solutions right less often, and does the verifier know?",
    "disagreement": "On how many problems do two selectors choose different answers, and who is right?",
    "diversity": "How many of the solutions are different?",
    "cost": "Where did the seconds go?",
    "tokens": "What became of the generated tokens?",
    "slow": "Which 20 problems of each run took the longest?",
    "failed": "Which problems failed, or could not be graded, and why?",
    "trend": "Is each run of a schedule better than the one before?",
}  # here too, since the help imports no question; a test compares the two

asked = App(help="Named questions about runs, with intervals; --sql prints what is behind one.", no_args_is_help=True)
app.add_typer(asked, name="ask")


RunsArgument = Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, or all.", autocompletion=completing.runs)]
FormatOption = Annotated[str, typer.Option(help="table (a terminal's), csv (a pipe's), jsonl, parquet, markdown.")]


def _verb(name: str, about: str) -> None:
    def verb(
        wanted: RunsArgument = ["latest"],  # noqa: B006
        format: FormatOption = "",
        output: Annotated[str, typer.Option("--output", "-o", help="A file; its ending is its format.")] = "",
        limit: Annotated[int | None, typer.Option(help="Rows at most; a table has 100, in a file all.", min=1)] = None,
        force: Annotated[bool, typer.Option("--force", help="Write over the file.")] = False,
        sql: Annotated[bool, typer.Option("--sql", help="Print the SQL that the answer is computed from.")] = False,
        json: JsonOption = False,
        database: DatabaseOption = DATABASE,
    ) -> None:
        from flows import asking, records
        from flows.query import format_of

        if sql and output:
            raise ValueError("--sql prints the SQL, and --output is for the answer; give one of them")
        chosen = format_of(format, output, json)
        with stored(database) as opened:
            if not sql:
                asking.ask(opened, name, wanted, chosen, output, limit, force)
            elif json:
                records.tell({"question": name, "sql": asking.sql_of(opened, name, wanted)})
            else:
                typer.echo(asking.sql_of(opened, name, wanted))

    verb.__doc__ = about
    asked.command(name)(verb)


for _name, _about in QUESTIONS.items():
    _verb(_name, _about)
