"""The tables. One definition for SQLite and PostgreSQL; the migrations build the same, and a test compares the two.

Times are UTC, ISO 8601 text. JSON is text (canonical, ASCII, no NaN). NULL means "not known (yet)", never zero.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from search.ledger import Usage

VERSIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")  # oldest first; the last is what this code reads and writes
HEAD = VERSIONS[-1]
VERSION_TABLE = "ponderosa_version"

RUN_STATUSES = ("queued", "running", "done", "failed", "interrupted", "cancelled")
ATTEMPT_STATUSES = ("pending", "running", "done", "failed")
CLOSED = ("done", "failed")  # attempts that are not run again
TRIES = 3  # of one attempt, after which it has failed
KINDS = ("extend", "verify", "embed")
SCHEDULE_STATUSES = ("active", "paused")
SLOT_STATUSES = ("queued", "running", "done", "failed", "missed", "skipped")
OPEN_SLOTS = ("queued", "running")  # slots that have still to be run
VERDICTS = ("correct", "wrong", "unparsed", "timeout", "error", "none")
UNDECIDED = ("timeout", "error")  # verdicts that say nothing of the answer; such an answer does not count as right
RESCORES = ("verifier", "grader")
LEDGER = tuple(f.name for f in fields(Usage))

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)


def _ledger() -> list[Column[Any]]:
    """A column for each entry of the cost ledger; NULL until the attempt is closed."""
    kinds = {"int": BigInteger, "float": Double}
    return [Column(f.name, kinds[str(f.type)](), nullable=True) for f in fields(Usage)]


run = Table(
    "run",
    metadata,
    Column("id", Text, primary_key=True),  # RunSpec.id
    Column("name", Text, nullable=False),
    Column("spec", Text, nullable=False),  # RunSpec.json()
    Column("status", Text, nullable=False),  # RUN_STATUSES
    Column("created", Text, nullable=False),
    Column("ended", Text),
    Column("environment", Text, nullable=False),  # JSON: versions, commit, device
    Column("problems", Integer),  # how many it was begun with; NULL in runs of version 0002
)

problem = Table(
    "problem",
    metadata,
    Column("key", Text, primary_key=True),  # hash of source, id, prompt and answer: the same in every run
    Column("id", Text, nullable=False),
    Column("prompt", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("meta", Text, nullable=False),  # JSON
)

attempt = Table(
    "attempt",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Text, ForeignKey("run.id"), nullable=False),
    Column("problem_key", Text, ForeignKey("problem.key"), nullable=False),
    Column("position", Integer, nullable=False),  # of the problem in the run, from 0
    Column("seed", BigInteger, nullable=False),
    Column("status", Text, nullable=False),  # ATTEMPT_STATUSES
    Column("shard", Integer, nullable=False, server_default="0"),  # of the run, from 0: what a worker takes on
    Column("tries", Integer, nullable=False, server_default="0"),  # that ended in an error or with their worker; 3 = failed
    Column("error", Text),  # of the last such try
    Column("replies", Integer),  # in the journal when it was closed; NULL before
    Column("prompt_ids", LargeBinary),  # the prompt's tokens, int32, little endian; NULL until the attempt is closed
    Column("wasted_tokens", BigInteger, nullable=False, server_default="0"),  # generated, stored and given up by a fresh start
    Column("path", Text),  # of the chosen candidate
    Column("answer", Text),  # chosen
    Column("reason", Text),  # of the choice
    Column("votes", Text),  # JSON: [[answer, count, weight], ...], heaviest first
    Column("verdict", Text),  # VERDICTS; NULL = not graded yet, 'none' = there was no answer to grade
    Column("correct", Boolean),
    Column("grader", Text),
    Column("seconds", Double),  # from the search's start to its end
    *_ledger(),
    Column("solutions", Integer),  # rows of `solution`; NULL = these have not been derived yet
    Column("right_solutions", Integer),  # of them: with a right answer
    UniqueConstraint("run_id", "problem_key", "seed"),
    Index(None, "problem_key"),
)

candidate = Table(
    "candidate",
    metadata,
    Column("attempt_id", Integer, ForeignKey("attempt.id"), primary_key=True, autoincrement=False),
    Column("path", Text, primary_key=True),
    Column("parent", Text, nullable=False),  # '' = the root, which has no row
    Column("depth", Integer, nullable=False),  # 1 = a first step
    Column("number", Integer, nullable=False),  # order of minting in the attempt, from 0
    Column("tokens", Integer, nullable=False),  # of this step
    Column("reply", Integer, nullable=False),  # reply.number: what made it
    Column("packed", LargeBinary, nullable=False),  # ids, log-probabilities, certainties: search.packing, 6 bytes a token
    Column("extra", LargeBinary, nullable=False),  # the other statistics: search.packing
    Column("prompt", Text),  # the question it answers, where that is one of the strategy's own; NULL = it continues its parent
    Column("text", Text),  # of this step: a view of the tokens; NULL = see text_zlib
    Column("text_zlib", LargeBinary),  # the exact text, UTF-8, compressed: of a long one, or one that `text` cannot hold
    Column("text_lossy", Boolean, nullable=False),
    Column("text_truncated", Boolean, nullable=False),
    Column("finish", Text, nullable=False),  # search.types.Finish
    Column("state", Text, nullable=False),  # search.types.State; final once the attempt is closed
    Column("cause", Text, nullable=False),
    Column("answer", Text),  # canonical key of a finished candidate
    Column("answer_reason", Text, nullable=False),  # why there is no answer; '' where there is one
    Column("logprob", Double),  # sum of ln p over the step, nats, <= 0; NULL = not finite
    Column("certainty", Double),  # mean over the step's tokens, nats, >= 0, higher = surer; NULL = not finite
)

score = Table(
    "score",
    metadata,
    Column("attempt_id", Integer, primary_key=True, autoincrement=False),
    Column("path", Text, primary_key=True),
    Column("verifier", Text, primary_key=True),
    Column("value", Double),  # in [0, 1], higher = better; NULL = none, see reason
    Column("parts", Text, nullable=False),  # JSON: a value for each step of the path
    Column("reason", Text, nullable=False),
    Column("join_rule", Text, nullable=False),  # how parts became value: search.types.Join
    Column("reply", Integer),  # reply.number: what gave it; NULL = no search asked: a bound refused it, or it was given later
    Column("number", Integer, nullable=False),  # order of scoring in the attempt, from 0
    ForeignKeyConstraint(["attempt_id", "path"], ["candidate.attempt_id", "candidate.path"]),
)

verdict = Table(
    "verdict",
    metadata,
    Column("attempt_id", Integer, primary_key=True, autoincrement=False),
    Column("path", Text, primary_key=True),
    Column("grader", Text, primary_key=True),
    Column("verdict", Text, nullable=False),  # VERDICTS
    Column("correct", Boolean),  # whether the verdict is correct
    ForeignKeyConstraint(["attempt_id", "path"], ["candidate.attempt_id", "candidate.path"]),
)

solution = Table(
    "solution",
    metadata,
    Column("attempt_id", Integer, primary_key=True, autoincrement=False),
    Column("path", Text, primary_key=True),
    Column("number", Integer, nullable=False),  # order of minting of its last step, from 0
    Column("steps", Integer, nullable=False),
    Column("tokens", Integer, nullable=False),  # of all its steps
    Column("finish", Text, nullable=False),  # of its last step; end = finished, the others = cut
    Column("state", Text, nullable=False),  # of its last step
    Column("chosen", Boolean, nullable=False),
    Column("answer", Text),  # canonical key; NULL = none
    Column("correct", Boolean),  # NULL = not decided; without an answer: false
    Column("value", Double),  # by the run's own verifier, in [0, 1], higher = better; NULL = none
    Column("logprob", Double),  # sum of ln p over all its steps, nats; NULL = not finite
    Column("certainty", Double),  # mean over the tokens of all its steps, nats, higher = surer; NULL = not finite
    Column("digest", BigInteger, nullable=False),  # of its text: equal texts have equal ones
    ForeignKeyConstraint(["attempt_id", "path"], ["candidate.attempt_id", "candidate.path"]),
    sqlite_with_rowid=False,
)

rescore = Table(
    "rescore",
    metadata,
    Column("run_id", Text, ForeignKey("run.id"), primary_key=True),
    Column("kind", Text, primary_key=True),  # RESCORES
    Column("name", Text, primary_key=True),  # as in score.verifier or verdict.grader
    Column("weights", Text, nullable=False),  # fingerprints of the verifier's models; '' = it has none
    Column("created", Text, nullable=False),
    Column("environment", Text, nullable=False),  # JSON: as the run's
)

embedding = Table(
    "embedding",
    metadata,
    Column("attempt_id", Integer, primary_key=True, autoincrement=False),
    Column("path", Text, primary_key=True),
    Column("encoder", Text, primary_key=True),
    Column("vector", LargeBinary, nullable=False),  # float16, little endian
    Column("reply", Integer, nullable=False),  # reply.number
    Column("number", Integer, nullable=False),  # order of embedding in the attempt, from 0
    ForeignKeyConstraint(["attempt_id", "path"], ["candidate.attempt_id", "candidate.path"]),
)

reply = Table(
    "reply",
    metadata,
    Column("attempt_id", Integer, ForeignKey("attempt.id"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),  # order in the attempt, from 0: its natural key
    Column("kind", Text, nullable=False),  # KINDS
    Column("asked", Text),  # digest of the request; NULL in the journals of version 0002: not to be replayed
    Column("count", Integer, nullable=False),  # candidates, scores or vectors that it brought
    Column("cost", Text, nullable=False),  # JSON: the reply's cost fields that are not 0
)

lease = Table(
    "lease",
    metadata,
    Column("shard", Text, primary_key=True),  # RUN/SHARD; of a slot: slot SCHEDULE@UTC/0
    Column("owner", Text, nullable=False),  # '' = nobody
    Column("epoch", Integer, nullable=False),  # rises with each owner; a write of an old epoch is refused
    Column("heartbeat", Double, nullable=False),  # seconds since 1970 by the database's clock
    Column("progress", BigInteger, nullable=False),  # replies and ends written by this owner
)

session = Table(
    "session",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Text, ForeignKey("run.id"), nullable=False),
    Column("owner", Text, nullable=False),  # the process
    Column("started", Text, nullable=False),
    Column("environment", Text, nullable=False),  # JSON: as the run's, but of this process
    Index(None, "run_id"),
)

schedule = Table(
    "schedule",
    metadata,
    Column("name", Text, primary_key=True),
    Column("cron", Text),  # five fields; NULL = an interval
    Column("every", Integer),  # seconds; NULL = cron
    Column("anchor", Text, nullable=False),  # what intervals are counted from
    Column("zone", Text, nullable=False),  # IANA name: what cron's hours are of
    Column("spec", Text, nullable=False),  # RunSpec.json() without weights and slot
    Column("seeds", Text, nullable=False),  # same = each slot samples with the spec's seed; slot = with one of its own
    Column("catch_up", Text, nullable=False),  # of slots that came while nothing ran: latest, all, none
    Column("overlap", Text, nullable=False),  # of a slot that comes while the one before is open: skip, queue
    Column("bar", Double),  # accuracy below which an alarm is raised; NULL = none
    Column("bar_by", Text, nullable=False),  # what must be below it: point = the accuracy; upper = its interval's upper end
    Column("hook", Text, nullable=False),  # command that is run on an alarm; '' = none
    Column("status", Text, nullable=False),  # SCHEDULE_STATUSES
    Column("created", Text, nullable=False),
    Column("since", Text, nullable=False),  # slots up to this time are not its own: when it was made, or last resumed
)

slot = Table(
    "slot",
    metadata,
    Column("schedule", Text, ForeignKey("schedule.name"), primary_key=True),
    Column("slot_utc", Text, primary_key=True),  # 2026-11-21T02:00:00Z: sorts as time does
    Column("status", Text, nullable=False),  # SLOT_STATUSES
    Column("reason", Text, nullable=False),  # why it was missed or skipped, has failed, or was begun again; '' = none
    Column("run_id", Text),  # run.id, which the run has when it begins; NULL = not known yet, or none
    Column("noticed", Text, nullable=False),  # when it was recorded
    Column("begun", Text),  # when it was last begun
    Column("ended", Text),
    Column("tries", Integer, nullable=False, server_default="0"),  # begun so often; a stop by a signal does not count
    Column("alarm", Text),  # what was told of its run, and what became of the hook; NULL = no alarm
    Index(None, "run_id"),
)
