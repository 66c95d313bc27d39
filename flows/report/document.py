"""What a report says, before it is a page: tables with the SQL behind them, findings, problems, and search trees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Value = str | float | int | bool | None  # None = not known; never NaN

Kind = Literal["text", "count", "share", "number", "signed", "seconds"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str  # as in the data frame: a word of letters and underscores
    title: str  # as it is shown
    kind: Kind = "text"  # how it is shown: count 1,234; share and signed three digits after the point; number and seconds one
    means: str = ""  # one line, shown as a tip
    low: str = ""  # names of the columns that hold the 95% interval of this one; they are shown with it, not beside it
    high: str = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table of the page: the answer to a question."""

    id: str  # the question's name, unique in its group, such as pass-at-k
    title: str
    says: str  # a sentence or two: how to read it, what it rests on
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Value], ...]
    sql: str = ""  # gives the rows, or what they are computed from
    computed: str = ""  # what is computed from the SQL's rows, in words; "" = nothing: they are the table
    command: str = ""  # prints the same
    svg: str = ""  # a chart of it: one <svg> element without style attributes, coloured by classes
    few: bool = False  # rests on fewer than 30 problems: said beside it
    partly: bool = False  # not all of its rows do


@dataclass(frozen=True, slots=True)
class Finding:
    """A question that a reader has, and the answer in a sentence, with the number that it rests on."""

    asks: str
    answer: str
    sheet: str = ""  # id of the sheet that it is read from
    problem: str = ""  # id of the problem to look at
    attempt: int = 0  # whose search to look at; 0 = none
    path: str = ""  # of the branch in it
    command: str = ""  # prints what it says, where no sheet has it


@dataclass(frozen=True, slots=True)
class RunLine:
    """One run of a group."""

    id: str
    label: str  # its name, or its strategy with its parameters
    facts: Mapping[str, Value]  # generator, verifier, seed, commit, ...: shown on demand
    status: str = "done"


@dataclass(frozen=True, slots=True)
class Cell:
    """What one run made of one problem."""

    run: str
    attempt: int
    correct: bool | None  # None = not decided
    verdict: str
    answer: str | None
    tokens: int | None
    candidates: int | None
    right: int | None  # solutions with the right answer; None = not known
    solutions: int | None
    lost: int | None  # the step at which the right answer was lost; None = it was not


@dataclass(frozen=True, slots=True)
class ProblemLine:
    """One problem of a group, with a cell for each run that has tried it."""

    id: str
    prompt: str
    reference: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The runs over one set of problems: only these can be compared."""

    id: str  # unique in the page: letters, digits, -
    title: str
    runs: tuple[RunLine, ...]
    findings: tuple[Finding, ...]
    sheets: tuple[Sheet, ...]
    problems: tuple[ProblemLine, ...]
    problems_in_all: int  # more than len(problems) where they were sampled


@dataclass(frozen=True, slots=True)
class Branch:
    """One candidate of a tree. Its own step only."""

    path: str  # "2.0.1"
    parent: str  # "" = the root
    text: str
    tokens: int
    state: str  # live, pruned, merged, finished, cancelled, failed, aside
    cause: str  # of the state
    finish: str  # step, end, length, budget, cancelled
    answer: str | None = None
    correct: bool | None = None  # of its answer; None = no answer, or not decided
    score: float | None = None  # by the run's verifier, in [0, 1], higher = better
    why: str = ""  # there is no score
    logprob: float | None = None  # sum over the step, nats
    certainty: float | None = None  # mean over the step's tokens, nats, higher = surer
    lengths: tuple[int, ...] = ()  # characters of each token; () = the tokens' places in the text are not known
    chances: tuple[float, ...] = ()  # probability of each token, temperature 1; as many as lengths


@dataclass(frozen=True, slots=True)
class Votes:
    """One answer in an attempt's choice."""

    answer: str
    count: int  # solutions that gave it
    weight: float | None  # as the choice counted it; its unit is the reason's; None = they were not weighed
    correct: bool | None = None  # None = not decided


@dataclass(frozen=True, slots=True)
class TreeOf:
    """The search of one attempt."""

    attempt: int
    chosen: str | None  # path
    lost: str | None  # path of the right solution that was lost last
    branches: tuple[Branch, ...]  # parents before children, in order of path
    in_all: int  # more than len(branches) where they were sampled
    reason: str = ""  # of the choice, such as "weighted: summed score 5.774 from 6 of 8 candidates"
    votes: tuple[Votes, ...] = ()  # heaviest first


@dataclass(frozen=True, slots=True)
class Document:
    """The whole page."""

    title: str
    made: str  # UTC, ISO 8601
    version: str  # of the program, with its commit
    command: str  # that made it
    groups: tuple[Group, ...]
    trees: Mapping[int, TreeOf] = field(default_factory=dict)  # by attempt
    notes: tuple[str, ...] = ()  # what was sampled and by which rule; what to be careful about


__all__ = [
    "Branch",
    "Cell",
    "Column",
    "Document",
    "Finding",
    "Group",
    "Kind",
    "ProblemLine",
    "RunLine",
    "Sheet",
    "TreeOf",
    "Value",
    "Votes",
]
