"""One question from the command line: the answer, what it cost, why it won, and the tree that was searched."""

from __future__ import annotations

import json as jsonlib
import sys
import time

from flows import work
from flows.show import escaped, outline
from search.drive import Outcome
from search.types import Problem, RunSpec


def run(question: str, spec: RunSpec, tree: bool, json: bool) -> None:
    """Solves and prints. Raises what ended the search, if anything did."""
    if not question.strip():
        raise ValueError("the question is empty; write it in quotes")
    work.check(spec)
    began = time.monotonic()
    problem = Problem("question", question, answer="", source="command line")
    (outcome,) = work.solve([(0, problem)], spec)
    if outcome.exception:
        raise outcome.exception
    (_print_json if json else _print)(outcome, spec, tree, time.monotonic() - began)


def _print(outcome: Outcome, spec: RunSpec, tree: bool, seconds: float) -> None:
    from flows.tables import console as plain

    console = plain()
    choice, searched = outcome.choice, outcome.search.tree
    assert choice is not None
    if choice.path is not None:
        console.print(escaped(searched.text(choice.path).strip()))
        console.print()
    console.print(f"answer    {escaped(choice.answer) if choice.answer else 'none'}")
    console.print(f"because   {choice.reason}")
    for vote in choice.votes[:5]:
        console.print(f"          {escaped(vote.answer)}: {vote.weight:.4g} ({vote.count} candidates)")
    used = searched.usage
    console.print(f"strategy  {spec.strategy}, verifier {spec.verifier}, seed {spec.seed}")
    console.print(
        f"cost      {used.generated_tokens} generated tokens ({used.sequential_tokens} one after another), "
        f"{used.candidates} candidates, {used.verifier_passes} verifier passes ({used.verifier_tokens} tokens), "
        f"{used.prompt_tokens} prompt tokens ({used.cached_tokens} reused)"
        + (f", {used.embedding_tokens} embedding tokens" if used.embedding_tokens else "")
    )
    console.print(
        f"time      {seconds:.2f} s with loading: {used.generate_seconds:.2f} generating, {used.verify_seconds:.2f} verifying"
    )
    if tree:
        console.print()
        console.print(outline(searched, choice.path))


def _print_json(outcome: Outcome, spec: RunSpec, tree: bool, seconds: float) -> None:
    choice, searched = outcome.choice, outcome.search.tree
    assert choice is not None
    answer = {
        "answer": choice.answer,
        "path": choice.path,
        "reason": choice.reason,
        "votes": [{"answer": v.answer, "count": v.count, "weight": v.weight} for v in choice.votes],
        "text": searched.text(choice.path) if choice.path is not None else None,
        "usage": searched.usage.asdict(),
        "seconds": seconds,
        "spec": jsonlib.loads(spec.json()),
    }
    if tree:
        answer["tree"] = [
            {
                "path": path,
                "text": candidate.step.text,
                "score": searched.scores[path].value if path in searched.scores else None,
                "state": searched.states[path][0],
                "cause": searched.states[path][1],
            }
            for path, candidate in searched.candidates.items()
        ]
    sys.stdout.write(jsonlib.dumps(answer) + "\n")
