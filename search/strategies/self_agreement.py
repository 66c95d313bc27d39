"""Self-agreement: sample solutions, then ask the model which answer they agree on most (arXiv 2311.08154)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from search.checks import positive
from search.select import Selector, entries
from search.tree import Tree
from search.types import GREEDY, ROOT, Ask, Candidate, Choice, Until

from .asking import ANSWER, filled, numbered

AGREE = """{problem}

Here are {count} attempts to solve this:

{shown}

Which answer do most of these attempts agree on? {answer}"""


@dataclass(frozen=True)
class SelfAgreement:
    """n solutions side by side, then one greedy answer to the question what they agree on. That answer is the choice, where it
    can be extracted; else their majority.

    room: tokens that the solutions may have in that prompt, in equal shares: of a longer one its end is shown.
    Cost: n + 1 solutions, sequential two.
    """

    n: int = 8
    room: int = 512
    answer: str = ANSWER  # how the prompt asks for the answer

    def __post_init__(self) -> None:
        positive(n=self.n, room=self.room)

    def search(self, tree: Tree) -> Ask[Choice]:
        pool = yield from tree.extend([ROOT], n=self.n, until=Until.END)
        majority = Selector("majority")(entries(tree, pool))
        ended = [c for c in pool if c.finished]
        if len(ended) < 2:
            return replace(majority, reason=f"{majority.reason}; {len(ended)} of {len(pool)} ended: nothing to agree on")
        said = yield from self._asked(tree, ended)
        if said is None:
            return replace(majority, reason=f"{majority.reason}; the budget did not allow to ask what they agree on")
        agreed = tree.answer(said.path)
        if agreed.key is None:
            reason = f"{majority.reason}; asked what they agree on, the model gave no answer: {agreed.reason}"
            return replace(majority, reason=reason)
        choice = Selector("majority")(entries(tree, [said]))
        beside = (
            "and it is their majority" if agreed.key == majority.answer else f"their majority is {majority.answer or 'none'}"
        )
        return replace(choice, reason=f"what {len(ended)} solutions agree on, as the model says; {beside}")

    def _asked(self, tree: Tree, ended: list[Candidate]) -> Ask[Candidate | None]:
        shown = numbered(tree, [c.path for c in ended], self.room)
        prompt = filled(AGREE, problem=tree.question.text, count=str(len(ended)), shown=shown, answer=self.answer)
        made = yield from tree.extend([ROOT], until=Until.END, sampling=GREEDY, prompt=prompt)
        return made[0] if made else None
