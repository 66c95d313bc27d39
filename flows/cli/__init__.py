"""The command line. Data go to standard output, progress and errors to standard error.

Exit codes: 0 done, 1 some problems failed or an audit found something, 2 usage, 65 bad data (a file, a model, a database,
a journal that is another search's), 69 the sandbox that is needed cannot be made, 74 cannot be written (a full disk), 75 try
again later (a server that is away, a shard that another process has), 130 interrupted, 143 terminated.
Nothing heavy is imported before a command needs it, so that --help answers at once.

Files: `app.py` the application, `options.py` the flags that verbs share, `running.py`, `working.py`, `scheduling.py`,
from flows.cli import running, working, scheduling, reading, asking, afterwards, exporting, checking, verifying
"""

# ruff: noqa: I001  the verbs register themselves in this order, which is the order of the help

from flows.cli.app import app
from flows.cli.options import DATABASE, FOLDER

from flows.cli import running, working, scheduling, reading, asking, afterwards, exporting, checking, verifying

from flows.cli.entry import main

__all__ = [
    "DATABASE",
    "FOLDER",
    "afterwards",
    "app",
    "asking",
    "checking",
    "exporting",
    "main",
    "reading",
    "running",
    "scheduling",
    "verifying",
    "working",
]
