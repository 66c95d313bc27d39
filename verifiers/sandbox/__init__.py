"""Model-written code and external commands, run where they can reach nothing: bubblewrap, a seccomp filter, limits.

    require()                                      # Unavailable, in one line, where no sandbox can be made
    run("def f(x): return x + 1", "call", [[1], [2]], entry="f").results[0].value   # 2

There is no weaker way to run such code: where no sandbox works, nothing is run. What the sandbox does not hold: a defect of the
kernel that the allowed system calls reach.
"""

from .available import Unavailable, refusal, require
from .bubble import launch
from .limits import Ended, Limits, Outcome
from .plain import parsed, same, same_output
from .trials import How, Ran, Result, command, run

__all__ = [
    "Ended",
    "How",
    "Limits",
    "Outcome",
    "Ran",
    "Result",
    "Unavailable",
    "command",
    "launch",
    "parsed",
    "refusal",
    "require",
    "run",
    "same",
    "same_output",
]
