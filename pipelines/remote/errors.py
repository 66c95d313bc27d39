"""What may go wrong with a server, by what is to be done about it.

Broken    the request failed, and may be sent again      (429, 5xx, a cut connection, silence, malformed JSON)
Rejected  the server does not take this one request      (400, 413, 422): its search fails, the others go on
Away      it stays away however often it is asked        exit code 75: the run is resumed later
BadSetup  what was asked of it cannot work               exit code 65: a wrong key, model or address
"""

from __future__ import annotations

from pipelines.models import ModelError


class Broken(Exception):
    """A request that may be sent again. `after`: seconds that the server wants to be left alone; `away`: whether that is no
    matter of this request, since the server is not there, still loads its model, or has too much to do."""

    def __init__(self, said: str, after: float | None = None, away: bool = False) -> None:
        super().__init__(said)
        self.after, self.away = after, away or after is not None


class Rejected(Exception):
    """A request that the server does not take, and would not take again."""


class Away(Exception):
    """A server that cannot be reached, or does not recover."""

    exit_code = 75


class BadSetup(ModelError):
    """A server that cannot serve what is asked of it."""


class WrongKey(BadSetup):
    """A server that refuses the key, or wants one."""


__all__ = ["Away", "BadSetup", "Broken", "Rejected", "WrongKey"]
