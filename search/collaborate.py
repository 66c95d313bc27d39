"""Text and program answers that vote together (Math-Rev and Code-Rev, arXiv 2410.05318, check the two jointly).

A verifier that finds an answer of its own, by running the program that a solution gives, says it in the reason of its score,
in one form, so that it is stored with the score and read back from it: no search runs a program itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .select import Entry
from .types import Answer, Choice, Score, Vote, order

_BEGIN, _END = "the program's answer is: ", "; "
Ballot = tuple[Entry, str, float, bool]  # whose, for which answer, its weight, whether a program cast it


def told(answer: str, also: str = "") -> str:
    """The reason of a reading that found an answer; `also` is what else there is to say, and goes before."""
    return (also + _END if also else "") + _BEGIN + answer


def heard(score: Score | None) -> str | None:
    """The answer that a score's verifier found, or None."""
    before, found, answer = ("", "", "") if score is None else score.reason.rpartition(_BEGIN)
    return answer if found and (not before or before.endswith(_END)) else None


def ballots(
    pool: Sequence[Entry],
    scores: Sequence[Score | None],
    read: Callable[[str], Answer],
    text: float = 1.0,
    program: float = 1.0,
) -> list[Ballot]:
    """The votes of a pool: one for the answer of each text, one for that of each program, of these weights; none where there is
    no answer. A program that agrees with its text (value 1) votes for the text's answer, however it writes it; `read` is the
    extractor, which makes a key of any other."""
    cast: list[Ballot] = []
    for entry, score in zip(pool, scores, strict=True):
        if entry.answer is not None and text:
            cast.append((entry, entry.answer, text, False))
        said = heard(score)
        if said is None or not program:
            continue
        agrees = score is not None and score.value == 1.0 and entry.answer is not None
        key = entry.answer if agrees else read(f"#### {said}").key
        if key is not None:
            cast.append((entry, key, program, True))
    return cast


def elected(pool: Sequence[Entry], cast: Sequence[Ballot]) -> Choice:
    """The answer with the heaviest votes, and the candidate that stands for it: of those who voted for it, the one with the
    most weight for it, then one whose text gives it, then fewer tokens, then the earlier path. Of equally heavy answers, the
    one whose candidate comes first so. The path and the answer are None where nobody voted."""
    if not cast:
        return Choice(None, None, f"none of {len(pool)} candidates gave an answer, in text or by a program")
    weights: dict[str, dict[str, float]] = {}  # by answer and path
    own = {entry.path: entry for entry in pool}
    for entry, answer, weight, _ in cast:
        of = weights.setdefault(answer, {})
        of[entry.path] = of.get(entry.path, 0.0) + weight

    def first(answer: str) -> tuple[float, bool, int, tuple[int, ...], str]:
        merits = ((-w, own[path].answer != answer, own[path].tokens, order(path), path) for path, w in weights[answer].items())
        return min(merits)

    ranked = sorted(weights, key=lambda answer: (-sum(weights[answer].values()), first(answer)))
    votes = tuple(Vote(answer, len(weights[answer]), sum(weights[answer].values())) for answer in ranked)
    texts, programs = (sum(answer == ranked[0] and by is kind for _, answer, _, by in cast) for kind in (False, True))
    said = f"collaborative: votes {votes[0].weight:.4g} from {texts} texts and {programs} programs of {len(pool)} candidates"
    return Choice(first(ranked[0])[-1], ranked[0], said, votes)


__all__ = ["Ballot", "ballots", "elected", "heard", "told"]
