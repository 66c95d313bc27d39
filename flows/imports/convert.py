"""From a record to what is stored: answers extracted, scores joined, tokens counted where a tokenizer was named."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pipelines.problems import FAMILIES
from search.tree import scored
from search.types import Answer, Finish, Join, Path, Problem, Score, State
from store.imported import ImportedAttempt, ImportedCandidate
from verifiers.extract import BOX, HASHES, boxes, canonical, extractor_for, written

from .records import Record, Written, placed, rule_of

Count = Callable[[list[str]], list[int]]


@dataclass(frozen=True)
class Converter:
    """How the records of one import are understood."""

    format: str
    join: Join  # of scores, where the file does not say
    style: str = "math"  # of answers, where the file does not say
    count: Count | None = None  # tokens of texts, where the file has no counts

    def problem(self, record: Record, position: int) -> Problem:
        """The problem, with the reference answer alone where the file has a worked solution."""
        style = record.style or self.style
        found = written(record.answer, boxes) if BOX.search(record.answer) or HASHES.search(record.answer) else Answer(None)
        meta = {"family": style} if style in FAMILIES else {"style": style}
        if found.key is not None:
            meta["solution"] = record.answer.encode("utf-8", "replace").decode()
        return Problem(
            id=record.id or str(position),
            prompt=record.prompt,
            answer=(found.key or record.answer).strip(),
            source=record.source or self.format,
            meta=meta,
        )

    def attempt(self, record: Record, position: int) -> ImportedAttempt:
        """The problem with its candidates, parents first."""
        candidates = [self._candidate(path, each, record) for path, each in placed(record)]
        known = [each.tokens for each in record.candidates if each.tokens is not None]
        counted = sum(known) if len(known) == len(record.candidates) else None
        if self.count is not None and counted is None:
            tokens = self.count([each.text for each in candidates])
            candidates = [replace(each, tokens=n) for each, n in zip(candidates, tokens, strict=True)]
        return ImportedAttempt(
            problem=self.problem(record, position),
            position=position,
            candidates=candidates,
            chosen=self._chosen(record, candidates),
            # never from a tokenizer that was named here: what it took there is not known by that
            generated=counted if record.generated is None else record.generated,
        )

    def _chosen(self, record: Record, candidates: Sequence[ImportedCandidate]) -> Path | None:
        """What the file says was chosen: itself, or the first that gives the answer which was."""
        if record.chosen is not None:
            return str(record.chosen)
        if record.elected is None or (key := canonical(record.elected, record.style or self.style).key) is None:
            return None
        return next((each.path for each in candidates if each.answer.key == key), None)

    def _candidate(self, path: Path, each: Written, record: Record) -> ImportedCandidate:
        finish = Finish.STEP if not each.whole else Finish.END if each.finished else Finish.LENGTH
        state, cause = {
            Finish.STEP: (State.LIVE, ""),
            Finish.END: (State.FINISHED, "end"),
            Finish.LENGTH: (State.FAILED, "not finished in the file"),
        }[finish]
        return ImportedCandidate(
            path=path,
            text=each.text,
            finish=finish,
            state=state,
            cause=cause,
            answer=answer_of(each, finish, record.style or self.style),
            tokens=each.tokens,
            ids=each.ids,
            logprob=each.logprob,
            certainty=each.certainty,
            scores=tuple(self._score(path, name, each) for name in (*each.scores, *(set(each.joined) - set(each.scores)))),
        )

    def _score(self, path: Path, verifier: str, each: Written) -> tuple[Score, Join]:
        parts = each.scores.get(verifier, ())
        value = each.joined.get(verifier)
        if verifier not in each.scores and value is not None:  # an aggregate alone is the value of the whole
            return scored(path, verifier, (value,), "", Join.LAST), Join.LAST
        fits = rule_of(parts, value, self.join) if value is not None and parts and all(map(math.isfinite, parts)) else None
        join = fits or self.join
        score = scored(path, verifier, parts, "" if parts else "the file has no value", join)
        # numbers out of [0, 1] are kept for who knows how to read them; without a value they choose nothing
        return (replace(score, parts=parts) if all(map(math.isfinite, parts)) else score), join


def answer_of(each: Written, finish: Finish, style: str) -> Answer:
    """The canonical answer: the file's own, else what our extractor finds. One that did not end has none, as in a search."""
    if finish is not Finish.END:
        return Answer(None, f"not finished ({finish})")
    if each.unsaid:
        return Answer(None, each.unsaid)
    if each.said is not None:
        return canonical(each.said, style)
    return extractor_for(style)(each.text if each.spoken is None else each.spoken)
