"""A model-free test bed: problems of dice, where the optimum is known and the verifier's noise is a dial.

A solution has as many steps as its problem says. Each is right with probability p, drawn from the row's seed and the tokens
before it; after a wrong step the final answer is wrong. There are no weights and no files: a search takes less time than one
token of a model, and what it ought to reach is a formula. A problem, and a solution of it that is right:

    Take 3 right steps from 48213.     right 2 so so | right 7 so so so | right 0 \\boxed{4}

`world.py` is the language, `generator.py` and `verifier.py` what a search asks, `play.py` runs searches;
`python -m pipelines.dice` compares strategies under verifiers of rising noise.
"""

from .generator import DiceGenerator, Refused
from .play import accuracy, is_right, passes, play, tokens
from .verifier import DiceVerifier
from .world import Dice, boxed, dice_problems, question_of

__all__ = [
    "Dice",
    "DiceGenerator",
    "DiceVerifier",
    "Refused",
    "accuracy",
    "boxed",
    "dice_problems",
    "is_right",
    "passes",
    "play",
    "question_of",
    "tokens",
]
