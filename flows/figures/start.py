"""How long the command line takes to begin: `--help` and the other verbs, and a run's first token with and without Prefect.

python -m flows.figures.start help       processes in turn with `python -c pass`; wall and CPU seconds, and the ratio
python -m flows.figures.start run        process start to first token: plain, Prefect's temporary server with an old
                                         database and with a new one, and a server that is there already
"""

from __future__ import annotations

import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from flows.tables import console, table

VERBS = (("--help",), ("run", "--help"), ("runs",), ("show",), ("strategies",))
RUN = ("run", "--problems", "word:count=4", "--strategy", "best-of-n:n=2")

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)


@app.command("help")
def help_(rounds: int = 10) -> None:
    """Verbs that read, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        where = str(Path(folder) / "runs.db")
        _spent([*_ponderosa(*RUN), "--plain", "-d", where], {})
        times: dict[str, list[tuple[float, float]]] = {}
        for _ in range(rounds):
            times.setdefault("python -c pass", []).append(_spent([sys.executable, "-c", "pass"], {}))
            for verb in VERBS:
                found = _spent(_ponderosa(*verb), {"PONDEROSA_DATABASE": where})
                times.setdefault("ponderosa " + " ".join(verb), []).append(found)
    bare = statistics.median(cpu for _, cpu in times["python -c pass"])
    made = table("command", ">wall, s", ">least", ">CPU, s", ">to python -c pass")
    for name, each in times.items():
        walls, cpus = [wall for wall, _ in each], [cpu for _, cpu in each]
        cpu = statistics.median(cpus)
        made.add_row(name, f"{statistics.median(walls):.2f}", f"{min(walls):.2f}", f"{cpu:.2f}", f"{cpu / bare:.1f}")
    console().print(made)
    console().print(f"medians of {rounds} rounds in turn; load {_load()}")


@app.command("run")
def run_(rounds: int = 3, server: bool = True) -> None:
    """Seconds from a process's start to the first token that the generator draws."""
    made = table("a run's first token", ">wall, s", ">least", ">most", ">CPU, s")
    with tempfile.TemporaryDirectory() as folder:
        kinds = ["plain", "Prefect, its database new", "Prefect, its database there"] + ["a server of Prefect's there"] * server
        for kind in kinds:
            found = list(_first_tokens(kind, rounds, Path(folder)))
            walls, cpu = [wall for wall, _ in found], statistics.median(cpu for _, cpu in found)
            made.add_row(kind, f"{statistics.median(walls):.1f}", f"{min(walls):.1f}", f"{max(walls):.1f}", f"{cpu:.1f}")
    console().print(made)
    console().print(f"medians of {rounds}; CPU seconds are the command's own until then, without the server's; load {_load()}")


@app.command("first-token", hidden=True)
def first_token(words: list[str]) -> None:
    """In a process of its own: the command with these words, with the moment of its first token written to $FIRST."""
    from pipelines.engine.engine import Engine

    advance = Engine.advance

    def first(self: Engine) -> Any:
        out = advance(self)
        if self.live:
            Engine.advance = advance  # type: ignore[method-assign]
            Path(os.environ["FIRST"]).write_text(f"{time.time()} {time.process_time()}")
        return out

    Engine.advance = first  # type: ignore[method-assign]
    sys.argv = ["ponderosa", *words]
    from flows.cli import main

    main()


def _first_tokens(kind: str, rounds: int, folder: Path) -> Iterator[tuple[float, float]]:
    home = folder / kind.replace(",", "").replace(" ", "-")
    said = folder / "first"
    with _server(home) if kind.startswith("a server") else _nothing() as environment:
        for i in range(rounds + (kind == "Prefect, its database there")):
            here = home / str(i) if "new" in kind else home
            here.mkdir(parents=True, exist_ok=True)
            words = [*RUN, "-d", str(folder / f"{home.name}-{i}.db"), *(["--plain"] * (kind == "plain"))]
            command = [sys.executable, "-m", "flows.figures.start", "first-token", "--", *words]
            said.unlink(missing_ok=True)
            began = time.time()
            ended = _spent(command, {**environment, "PREFECT_HOME": str(here), "FIRST": str(said)})
            at, cpu = map(float, said.read_text().split())
            told = f"{kind}: first token {at - began:.1f} s, {cpu:.1f} s of CPU; the whole command {ended[0]:.1f} s"
            sys.stderr.write(f"{told}, {ended[1]:.1f} s of CPU; load {_load()}\n")
            if i or kind != "Prefect, its database there":
                yield at - began, cpu


@contextmanager
def _nothing() -> Iterator[dict[str, str]]:
    yield {}


@contextmanager
def _server(home: Path) -> Iterator[dict[str, str]]:
    """A Prefect server of its own, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**_quiet(), "PREFECT_HOME": str(home)}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 240
        while time.monotonic() < until:
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.5)
        time.sleep(5)
        yield {"PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    finally:
        server.terminate()
        server.wait()


def _quiet() -> dict[str, str]:
    return {**os.environ, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}


def _load() -> str:
    """How many processes wanted a core in the last minute: other programs' too."""
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


def _ponderosa(*words: str) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *words]


def _spent(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command that must succeed; those of the children that it has waited for too."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-500:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    app()
