"""Documents of any size for tests of the report's page: made, not measured, and always the same."""

from __future__ import annotations

import random
from collections.abc import Iterator

from flows.report.document import (
    Branch,
    Cell,
    Column,
    Document,
    Finding,
    Group,
    ProblemLine,
    RunLine,
    Sheet,
    TreeOf,
    Value,
    Votes,
)

STRATEGIES = (
    "greedy",
    "best-of-n:n=8,select=majority",
    "best-of-n:n=8,select=weighted",
    "beam:n=8,keep=4",
    "dvts:n=8,width=4",
    "mcts:k=4,simulations=16",
    "astar:k=1,reopen=0.1,root=0.9",
    "rebase:n=8",
)
OPENINGS = ("We add", "Then subtract", "Now take", "So multiply", "Check:", "Therefore", "Let us write", "Divide")
CHART = (
    '<svg viewBox="0 0 480 260" role="img"><rect class="paper" width="480" height="260"/>'
    '<path class="grid" d="M50 40H460M50 100H460M50 160H460"/><path class="ink" d="M50 20V220H460" fill="none"/>'
    '<path class="band s0" d="M60 150L200 90L440 60L440 100L200 130L60 190Z"/>'
    '<polyline class="line s0" points="60,170 200,110 440,80"/><polyline class="line s1" points="60,190 200,150 440,120"/>'
    '<polyline class="line s2" points="60,180 200,140 440,140"/><polyline class="front" points="60,170 200,110 440,80"/>'
    '<circle class="mark s0" cx="200" cy="110" r="5"/><rect class="mark s1" x="195" y="145" width="10" height="10"/>'
    '<circle class="mark s2" cx="440" cy="140" r="5"/><text class="ink" x="60" y="240">100</text>'
    '<text class="ink" x="400" y="240">1,000 tokens</text><text class="faint" x="8" y="44">.800</text></svg>'
)


def sheet(name: str, runs: tuple[RunLine, ...], seed: int = 0, few: bool = False) -> Sheet:
    """A table with a row a run: a share with its interval, a count, a signed difference, seconds, and what is not known."""
    made = random.Random(f"{name} {seed}")
    rows: list[dict[str, Value]] = []
    for index, run in enumerate(runs):
        accuracy = made.random() * 0.6 + 0.2
        rows.append(
            {
                "run": run.label,
                "accuracy": accuracy,
                "low": accuracy - made.random() * 0.1,
                "high": accuracy + made.random() * 0.1,
                "tokens": made.randrange(60, 200_000),
                "difference": None if index == 0 else made.uniform(-0.2, 0.2),
                "seconds": made.random() * 3000,
            }
        )
    columns = (
        Column("run", "run", "text", "the run's name, or its strategy"),
        Column("accuracy", "accuracy", "share", "share of the problems solved, with Wilson's 95% interval", "low", "high"),
        Column("low", "low", "share"),
        Column("high", "high", "share"),
        Column("tokens", "tokens", "count", "generated tokens a problem"),
        Column("difference", "difference", "signed", "to the first run, on the same problems"),
        Column("seconds", "seconds", "seconds", "generating, verifying and storing"),
    )
    return Sheet(
        id=name,
        title=name.replace("-", " ").capitalize(),
        says="Accuracy against what it cost. Read down the column: the interval rests on the problems alone.",
        columns=columns,
        rows=tuple(rows),
        sql=f"SELECT run_id, avg(correct)\n  FROM attempt\n WHERE question = '{name}'\n GROUP BY run_id;",
        computed="Wilson's interval of the share.",
        command=f"ponderosa stats {name} --json",
        svg=CHART if name == "accuracy" else "",
        few=few,
    )


def tree(attempt: int = 1, branches: int = 60, seed: int = 0, certain: bool = True) -> TreeOf:
    """A search in waves of four: some pruned, some finished, of which the best is chosen. Parents before children."""
    made = random.Random(f"{attempt} {seed}")
    found: list[Branch] = []
    below: dict[str, int] = {}
    open_paths = [""]
    while len(found) < branches:
        parent = made.choice(open_paths[-6:])
        path = f"{parent}.{below.get(parent, 0)}" if parent else str(below.get(parent, 0))
        below[parent] = below.get(parent, 0) + 1
        found.append(_branch(made, path, parent, certain))
        if found[-1].state == "live":
            open_paths.append(path)
    done = [branch for branch in found if branch.state == "finished"]
    chosen = max(done, key=lambda branch: branch.score or 0.0).path if done else None
    right = [branch.path for branch in done if branch.correct and branch.path != chosen]
    found.sort(key=lambda branch: [*map(int, branch.path.split("."))])
    answers = {branch.answer: branch.correct for branch in done if branch.answer is not None}
    votes = tuple(
        Votes(answer, sum(branch.answer == answer for branch in done), made.random(), correct)
        for answer, correct in answers.items()
    )
    reason = "weighted: summed score 0.934 from 1 candidate"
    return TreeOf(attempt, chosen, right[-1] if right else None, tuple(found), len(found), reason, votes)


def _branch(made: random.Random, path: str, parent: str, certain: bool) -> Branch:
    depth = path.count(".")
    state = made.choice(("live", "live", "live", "pruned", "merged", "cancelled", "failed", "finished", "finished"))
    state = "finished" if depth > 8 else "live" if depth == 0 else state
    left, other = made.randrange(2, 99), made.randrange(2, 99)
    words = [
        f"{made.choice(OPENINGS)} ",
        f"{left}",
        " and",
        f" {other}",
        ":",
        f" {left}",
        " +",
        f" {other}",
        " =",
        f" {left + other}",
    ]
    sure = tuple(round(made.gauss(9, 3), 3) for _ in words) if certain else ()
    finished = state == "finished"
    scored = state != "failed"
    return Branch(
        path=path,
        parent=parent,
        text="".join(words),
        tokens=len(words),
        state=state,
        cause="" if state == "live" else f"{state} by the wave's rule",
        finish="end" if finished else "step",
        answer=str(left + other) if finished else None,
        correct=made.random() < 0.4 if finished else None,
        score=made.random() if scored else None,
        why="" if scored else "the verifier ran out of time",
        logprob=-made.random() * 12,
        certainty=sum(sure) / len(sure) if certain else None,
        lengths=tuple(map(len, words)) if certain else (),
        chances=tuple(min(abs(each) / 15, 1.0) for each in sure),
    )


def document(
    groups: int = 1, runs: int = 6, problems: int = 12, branches: int = 30, trees: int | None = None, status: str = "done"
) -> Document:
    """A report. `trees`: how many attempts have one in it; None = all."""
    held: dict[int, TreeOf] = {}
    made = []
    for number in range(groups):
        lines = tuple(
            RunLine(
                f"r{number}-{index}",
                STRATEGIES[index % len(STRATEGIES)] + (f" seed {index // len(STRATEGIES)}" if index >= len(STRATEGIES) else ""),
                {"generator": "bundled", "verifier": "prm:join=min", "seed": index // len(STRATEGIES), "temperature": 1.0},
                status,
            )
            for index in range(runs)
        )
        rows = tuple(_problems(number, lines, problems, branches, trees, held))
        sheets = (sheet("accuracy", lines, number, problems < 30), sheet("pass-at-k", lines, number, problems < 30))
        made.append(
            Group(f"g{number}", f"word:count={problems}", lines, _findings(rows), sheets, rows, problems_in_all=problems)
        )
    return Document(
        title="8 strategies on word problems",
        made="2026-11-21T09:12:44Z",
        version="0.1.0 (0b1628b)",
        command="ponderosa report latest -o report.html",
        groups=tuple(made),
        trees=held,
        notes=("Trees of more than 10,000 branches were sampled: all finished ones, and those that lead to them.",),
    )


def _findings(rows: tuple[ProblemLine, ...]) -> tuple[Finding, ...]:
    first = rows[0].id if rows else ""
    return (
        Finding("Which strategy is best at 1,000 tokens?", "astar:k=1 solves 0.817 [0.694, 0.900] at 168 tokens.", "accuracy"),
        Finding("Where did the search lose the right answer?", "In 7 of 60 problems, most often at step 3.", "", first),
        Finding("Is the verifier calibrated?", "It is too sure: scores of .9 are right in .71 of the cases.", "pass-at-k"),
        Finding("Did the seed matter?", "Less than the strategy: .011 against .094 of the variance.", "pass-at-k"),
    )


def _problems(
    number: int, lines: tuple[RunLine, ...], problems: int, branches: int, trees: int | None, held: dict[int, TreeOf]
) -> Iterator[ProblemLine]:
    for index in range(problems):
        made = random.Random(f"{number} {index}")
        cells = []
        for place, line in enumerate(lines):
            attempt = 1 + place + len(lines) * (index + problems * number)
            right, solutions = made.randrange(0, 5), 8
            correct = made.random() < 0.55
            answer = None if not correct and made.random() < 0.15 else str(made.randrange(100))
            lost = made.randrange(1, 7) if not correct and right and made.random() < 0.5 else None
            wanted = trees is None or len(held) < trees
            verdict = "correct" if correct else "wrong" if answer else "none"
            cells.append(Cell(line.id, attempt, correct, verdict, answer, made.randrange(60, 2400), 30, right, solutions, lost))
            if wanted:
                held[attempt] = tree(attempt, branches)
        yield ProblemLine(
            f"p{index}",
            f"Ada has {index + 3} boxes of {index + 5} pears and eats {index % 7}. How many are left?",
            str(index),
            tuple(cells),
        )


__all__ = ["STRATEGIES", "document", "sheet", "tree"]
