"""What a reader wants to know first, as sentences: each from the rows of a named question, with the numbers it rests on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from flows.report.document import Finding, Kind
from flows.report.shown import number
from search.select import SELECTORS, Selector
from store.compare import side
from store.database import Database
from store.questions.paired import compared
from store.questions.question import Row
from store.runs import Run, named
from store.solutions import INDEPENDENT

Answers = Mapping[str, Sequence[Row]]  # rows by the question's name
BUDGET = 1_000  # generated tokens a problem
LEVEL = 0.05
# several whole solutions, none of them guided; some stop early
SAMPLING = (
    *("best-of-n", "imported", "adaptive-consistency", "allocated", "collaborative", "deepconf", "early-stopping"),
    *("first-finish", "last-finish"),
)


def findings(db: Database, runs: Sequence[Run], answers: Answers) -> list[Finding]:
    """Those that can be answered, of runs over one set of problems."""
    found = (
        *(_best(answers), _saved(db, runs, answers), _half(runs, answers), _lost(answers), _losses(answers), _astray(answers)),
        *(_confident(runs, answers), _oracle(answers), _seeds(answers)),
    )
    return [each for each in found if each is not None]


def share(value: float, kind: Kind = "share") -> str:
    """As the tables write it."""
    return number(value, kind)


def within(low: float, high: float, kind: Kind = "share") -> str:
    return f"[{number(low, kind)}, {number(high, kind)}]"


def _best(answers: Answers) -> Finding | None:
    asks = f"Which strategy is best at {BUDGET:,} tokens a problem?"
    rows = [row for row in answers["best"] if row["budget"] == BUDGET]
    if not rows:
        return None
    row = rows[0]
    told = f"{row['name']}: {share(row['accuracy'])} {within(row['low'], row['high'])} for {row['tokens']:,.0f} tokens"
    if row["problems"] < row["of"]:
        told += f", by the {row['problems']:,} of its {row['of']:,} problems that it has finished"
    return Finding(asks, f"{told}; {_apart(row)}.", "best")


def _apart(best: Row) -> str:
    """Of the other runs within the budget: how many are worse, and which may be as good."""
    others, tied = best["within"] - 1, best["tied"]
    if not others:
        return "no other run is within the budget"
    if not tied:
        return f"better than every other run within the budget ({others})"
    if tied == others:
        return f"but none of the other runs within the budget ({others}) can be told apart from it: {best['alike']}"
    return f"better than {others - tied} of the {others} others within the budget; not told apart from it: {best['alike']}"


def _saved(db: Database, runs: Sequence[Run], answers: Answers) -> Finding | None:
    """A* (else the cheapest search that is as accurate) against the most accurate of the runs of its seed that sample several
    whole solutions, of equals the cheapest; and against greedy."""
    known = {row["run"]: row for row in answers["accuracy"] if row["accuracy"] is not None and row["tokens"]}
    ranked = sorted((run for run in runs if run.id in known), key=lambda run: _rank(known[run.id]))
    best: dict[int, Run] = {}  # by seed
    for run in ranked:
        if run.spec.strategy.name in SAMPLING:
            best.setdefault(run.spec.seed, run)
    of = [run for run in ranked if run.spec.seed in best and run.spec.strategy.name not in (*SAMPLING, *INDEPENDENT)]
    search = next((run for run in runs if run in of and run.spec.strategy.name == "astar"), None)
    search = search or _cheapest([run for run in of if _dominates(known[run.id], known[best[run.spec.seed].id])], known)
    if search is None:
        return None
    rival, same = best[search.spec.seed], [run for run in ranked if run.spec.seed == search.spec.seed]
    told, command = _against(db, rival, search)
    if not told:
        return None
    whole = f"{named(search)} against {named(rival)}, the most accurate of the runs that sample whole solutions: {told}."
    commands = [command]
    for greedy in [run for run in same if run.spec.strategy.name == "greedy"][:1]:
        told, command = _against(db, greedy, search)
        whole, commands = (f"{whole} Against greedy: {told}.", [*commands, command]) if told else (whole, commands)
    for run in [run for run in same if run in of and run is not search][:1]:
        row = known[run.id]
        got = f"{share(row['accuracy'])} for {row['tokens']:,.0f} tokens"
        whole += f" Of the other searches {named(run)} is the most accurate: {got}."
    word = "A*" if search.spec.strategy.name == "astar" else search.spec.strategy.name
    return Finding(f"What did {word} save?", whole, command="; ".join(commands))


def _rank(row: Row) -> tuple[float, float]:
    """The most accurate first, of equals the cheapest."""
    return -row["accuracy"], row["tokens"]


def _dominates(row: Row, other: Row) -> bool:
    return bool(row["accuracy"] >= other["accuracy"] and row["tokens"] < other["tokens"])


def _cheapest(runs: Sequence[Run], known: Mapping[str, Row]) -> Run | None:
    return min(runs, key=lambda run: known[run.id]["tokens"], default=None)


def _against(db: Database, rival: Run, search: Run) -> tuple[str, str]:
    """Tokens saved, tokens in sequence, and what became of the accuracy, with the command that prints it; "" where the two
    cannot be compared."""
    first, second = (side(db, [run]) for run in (rival, search))
    found = compared(first, second)
    if found is None:
        return "", ""
    tokens, chain = found.ratios["tokens"], found.ratios["sequential"]
    if tokens is None or chain is None:
        return "", ""
    if tokens[0] < 1:
        change = f"{1 - tokens[0]:.0%} fewer tokens [{1 - tokens[2]:.0%}, {1 - tokens[1]:.0%}]"
    else:
        change = f"{tokens[0]:.1f} times the tokens [{tokens[1]:.1f}, {tokens[2]:.1f}]"
    difference, low, high = found.difference
    verdict = "cannot be told apart" if found.decisive > LEVEL else "better" if difference > 0 else "worse"
    told = (
        f"{change}, {chain[0]:.1f} times as many one after another (latency); accuracy {verdict}: "
        f"{share(difference, 'signed')} {within(low, high, 'signed')}, p {share(found.decisive)}"
    )
    part = "" if first.right.keys() == second.right.keys() else " --intersect"
    return told, f"ponderosa compare {rival.id} {search.id}{part}"


def _half(runs: Sequence[Run], answers: Answers) -> Finding | None:
    """Of the first of the largest runs that draw their solutions regardless of each other, under its own selector."""
    rows = [row for row in answers["selectors"] if row["independent"]]
    most = max((row["k"] for row in rows), default=0)
    run = next((run for run in runs if any(row["run"] == run.id and row["k"] == most for row in rows)), None)
    if run is None or most < 2:
        return None
    selector, own = _selector(run, {row["selector"] for row in rows if row["run"] == run.id})
    found = {row["k"]: row for row in rows if row["run"] == run.id and row["selector"] == selector}
    if most // 2 not in found:
        return None
    why = "it has none of its own" if run.spec.strategy.name == "imported" else "its own selector cannot be replayed"
    by = f"by '{selector}', its own selector" if own else f"by '{selector}', as {why}"
    told = f"{named(run)}, {by}: {_bought(found[most // 2])}, {_bought(found[most])}"
    row = found[most]
    told += "." if row["problems"] == row["of"] else f", over a sample of {row['problems']:,} of its {row['of']:,} problems."
    return Finding("What would half the budget have bought?", told, "selectors")


def _selector(run: Run, replayed: Collection[str]) -> tuple[str, bool]:
    """The selector to look at, of those that were replayed with their defaults, and whether it is the run's own."""
    params = run.spec.strategy.params
    name = params.get("select")
    if not isinstance(name, str) or name not in replayed or name not in SELECTORS or "join" in params:
        return "majority", False
    default = Selector(name)
    own = all(params.get(key, getattr(default, key)) == getattr(default, key) for key in SELECTORS[name].takes)
    return (name, True) if own else ("majority", False)


def _bought(row: Row) -> str:
    tokens = "" if row["tokens"] is None else f" ({row['tokens']:,.0f} tokens)"
    solutions = f"{row['k']} {'solution' if row['k'] == 1 else 'solutions'}"
    return f"{share(row['accuracy'])} {within(row['low'], row['high'])} with {solutions}{tokens}"


def _lost(answers: Answers) -> Finding | None:
    asks = "Which problem lost its right answer latest?"
    rows = answers["lost"]
    if not rows:
        known = any(row["lost"] is not None for row in answers["oracle-gap"])
        return Finding(asks, "None: whatever had a right solution chose one.") if known else None
    last = max(rows, key=lambda row: row["step"])
    ties = sum(row["step"] == last["step"] for row in rows)
    which = f"one of {ties} at step {last['step']}" if ties > 1 else f"at step {last['step']}"
    whole = ", which is its whole solution, written in one go" if last["step"] == 1 else ""
    told = f"{last['problem']} in {last['name']}: {last['how']}, {which}{whole}{row_margin(last)}."
    told += " Right is said of the final answer, whatever its steps say."
    return Finding(asks, told, "lost", last["problem"], last["attempt"], last["path"] or "")


def row_margin(row: Row) -> str:
    """By how much, in words; "" where there are no scores."""
    for name, rival in (("margin", "what was chosen"), ("kept_margin", "the lowest that was kept beside it")):
        if row.get(name) is not None:
            size = share(abs(row[name]))
            same = float(size.lstrip("<")) == 0
            return f", scored as {rival}" if same else f", scored {size} {'above' if row[name] > 0 else 'below'} {rival}"
    return ""


def dropped(answers: Answers) -> dict[int, Row]:
    """By attempt: the right solution that was lost, or the step that was dropped on a known way to one (astray)."""
    on_the_way = [row for row in answers["astray"] if row["how"] in ("pruned", "merged")]
    return {row["attempt"]: row for row in (*on_the_way, *answers["lost"])}


def _losses(answers: Answers) -> Finding | None:
    rows = [row for row in answers["losses"] if row["lost"]]
    if not rows:
        return None
    total = sum(row["lost"] for row in rows)
    hows = ("outvoted", "pruned", "merged", "cancelled")
    counts = {how: sum(row["lost"] for row in rows if row["how"] == how) for how in hows}
    told = ", ".join(f"{count} {how}" for how, count in counts.items() if count)
    preferred = sum(row["preferred"] or 0 for row in rows)
    scored = sum(row["scored"] or 0 for row in rows)
    because = f"; of the {scored} with scores the verifier gave the wrong one more in {preferred}" if scored else ""
    return Finding("How were right answers lost?", f"{total} in all runs: {told}{because}.", "losses")


def _astray(answers: Answers) -> Finding | None:
    """Of the attempts that never had a right solution."""
    ways = Counter(row["how"] for row in answers["astray"])
    dropped, strayed = ways["pruned"] + ways["merged"], ways["strayed"]
    if not dropped:
        return None
    told = (
        f"In {dropped} of the attempts without a right solution the search dropped a step from which other runs came to one; "
        f"in {strayed} the generator itself left the known ways."
    )
    return Finding("How many attempts went astray?", told, "astray")


def _confident(runs: Sequence[Run], answers: Answers) -> Finding | None:
    """Of the run with the most scored solutions that no search has picked out, and of how many that a search has; where no run
    is of the first kind, of the one with the most."""
    rows = [row for row in answers["verifier"] if row["low"] is not None]
    if not rows:
        return None
    fair = {row["run"] for row in answers["selectors"] if row["independent"]}
    row = max(rows, key=lambda row: (row["run"] in fair, row["solutions"]))
    low, high = row["low"], row["high"]
    word = "Yes" if low > 0 else "No, it is under-confident" if high < 0 else "Not as far as this tells"
    over = f"{share(row['score'])} on average where {share(row['right'])} are right, {_confidence(row)}"
    rest = f"over {row['solutions']:,} scored solutions of {row['problems']:,} problems of {row['name']}"
    if row["run"] not in fair:
        told = f"{word}, of solutions that the search chose by these very scores: it gives {over}, {rest}."
        return Finding("Is the verifier over-confident?", told, "verifier")
    searched = {run.id for run in runs if run.spec.strategy.name not in (*SAMPLING, *INDEPENDENT)}
    told = f"{word}, of independent samples: it gives {over}, {rest}."
    return Finding("Is the verifier over-confident?", told + _of_searched(rows, searched), "verifier")


def _confidence(row: Row) -> str:
    return f"{share(row['confidence'], 'signed')} {within(row['low'], row['high'], 'signed')}"


def _of_searched(rows: Sequence[Row], searched: Collection[str]) -> str:
    """In how many runs the solutions that a search has kept for their scores have too high ones."""
    kept = [row for row in rows if row["run"] in searched]
    over = [row for row in kept if row["low"] > 0]
    if not kept:
        return ""
    worst = max(kept, key=lambda row: row["confidence"])
    most = f", most in {worst['name']}: {_confidence(worst)}" if over else ""
    return (
        f" Of solutions that a search kept for these very scores it is over-confident in {len(over)} of {len(kept)} runs{most}."
    )


def _oracle(answers: Answers) -> Finding | None:
    rows = [row for row in answers["oracle-gap"] if row["lost"] is not None]
    if not rows:
        return None
    row = max(rows, key=lambda row: row["lost"])
    told = (
        f"Most in {row['name']}: {share(row['oracle'])} of the problems have a right solution and "
        f"{share(row['chosen'])} chose one, a gap of {share(row['lost'])} {within(row['lost_low'], row['lost_high'])}."
    )
    return Finding("What would a perfect choice have bought?", told, "oracle-gap")


def _seeds(answers: Answers) -> Finding | None:
    asks = "Did the seed matter?"
    tests = list({row["configuration"]: row for row in answers["seeds"][::-1] if row["p"] is not None}.values())[::-1]
    if not answers["seeds"]:
        return None
    if not tests:
        return Finding(asks, "Not known: every configuration was run with one seed. Run it again with --seed 1.", "seeds")
    differ = [row for row in tests if row["p_holm"] < LEVEL]
    widest = max(tests, key=lambda row: row["spread"])
    told = (
        f"{len(differ)} of {len(tests)} configurations differ between seeds by more than chance"
        if differ
        else f"Not beyond chance, in any of the {len(tests)} configurations that have several seeds"
    )
    spread = f"the widest spread is {share(widest['spread'])} ({widest['name']}, p {share(widest['p'])})"
    return Finding(asks, f"{told}; {spread}.", "seeds")


__all__ = ["Answers", "dropped", "findings"]
