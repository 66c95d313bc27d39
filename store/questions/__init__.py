"""Named questions about runs: QUESTIONS, and what answers them.

rows = ask(db, "lost", [run])          # plain rows
table = QUESTIONS["lost"].frame(db, [run])   # a pandas data frame
"""

from __future__ import annotations

from .astray import ASTRAY
from .budget import BEST
from .costs import ACCURACY, COST, FAILED, SLOW, TOKENS
from .lost import LOSSES, LOST
from .paired import PAIRS, SEEDS
from .pool import DIVERSITY, ORACLE_GAP, PASS_AT_K
from .question import Asked, Col, Question
from .selected import DISAGREEMENT, SELECT
from .trend import TREND
from .verifier import CALIBRATION, LENGTH, VERIFIER

QUESTIONS: dict[str, Question] = {
    each.name: each
    for each in (
        *(ACCURACY, BEST, PAIRS, SEEDS, PASS_AT_K, SELECT, ORACLE_GAP, LOSSES, LOST, ASTRAY, VERIFIER, CALIBRATION, LENGTH),
        *(DISAGREEMENT, DIVERSITY, COST, TOKENS, SLOW, FAILED, TREND),
    )
}

__all__ = ["QUESTIONS", "Asked", "Col", "Question"]
