"""The generation core beside Hugging Face's: speed on five workloads, then the core's own figures.

    python -m flows.figures.core                                  # two models, all workloads, three rounds
    python -m flows.figures.core --only speed --workload equal --model bundled
    python -m flows.figures.core --quick                          # one round of small works: whether all of it runs

`race.py` says how time is taken, `peers.py` what the peers are given, `resources.py` what the own figures mean. Tables are
Markdown. A ratio is a peer's time over ours: the median over rounds, with the least and the most. "missed" says that the
median is below its bar; small works have no bars.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from flows.figures.core import peers, resources
from flows.figures.core.ours import MODELS, Ours, loaded, named
from flows.figures.core.race import OURS, Options, Result, pinned, race
from flows.figures.core.workloads import WORKLOADS
from pipelines.models import locate


def speed(model: str, workloads: Sequence[str], options: Options) -> None:
    """A model's table, each line said as soon as it is known."""
    how = f"{options.threads} thread(s), {options.device}, {options.rounds} round(s){', small works' if options.small else ''}"
    _say(f"\n{model}, {how}\n")
    _say("\n".join(head(["workload", "ours, tokens/s", *(f"vs {peers.PEERS[peer]}" for peer in options.peers)])))
    with pinned(options.threads), named(model) as name:
        ours = Ours(loaded(name, options.device, options.threads))
        theirs = peers.load(locate(name, "generator"), options.device) if options.peers else None
        for workload in workloads:
            _say(line(workload, race(workload, options, ours, theirs), options))


def line(workload: str, result: Result, options: Options) -> str:
    known = WORKLOADS[workload]
    ratios = [ratio(result, peer, None if options.small else known.bars.get(peer)) for peer in options.peers]
    return row([workload if options.small else known.title, f"{result.speed(OURS):,.0f}", *ratios])


def ratio(result: Result, peer: str, bar: float | None) -> str:
    if peer not in result.seconds:
        return "–"
    found = result.ratios(peer)
    middle = median(found)
    said = f"{middle:.2f}x ({min(found):.2f}–{max(found):.2f})"
    return said if bar is None else f"{said}, bar {bar:g}x" + (" missed" if middle < bar else "")


def head(columns: Sequence[str]) -> list[str]:
    return [row(columns), "|" + "---|" * len(columns)]


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def figures(parts: Sequence[str], models: Sequence[str], options: Options) -> None:
    """The core's own figures."""
    _say("\n" + "\n".join(head(["figure", "measured", "bar"])))
    for part in parts:
        for found in resources.PARTS[part](models, options):
            _say(row([found.what, found.measured, found.bar]))


def machine() -> str:
    """What the figures were measured with."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [found.partition(":")[2].strip() for found in lines if found.startswith("model name")] or [platform.processor()]
    made = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy"))
    return f"{len(names)} x {names[0]}; Python {platform.python_version()}, {made}"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m flows.figures.core", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", choices=MODELS, help="repeat for several; all by default")
    parser.add_argument("--workload", action="append", choices=list(WORKLOADS), help="repeat for several; all by default")
    parser.add_argument("--peer", action="append", choices=list(peers.PEERS), help="repeat for several; all by default")
    parser.add_argument(
        "--only", action="append", choices=["speed", *resources.PARTS], help="repeat for several; all by default"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="one round of small works")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    asked = parsed(arguments)
    options = Options(
        rounds=1 if asked.quick else asked.rounds,
        threads=asked.threads,
        device=asked.device,
        small=asked.quick,
        peers=asked.peer or tuple(peers.PEERS),
    )
    models, parts = asked.model or MODELS, asked.only or ["speed", *resources.PARTS]
    _say(machine())
    if "speed" in parts:
        for model in models:
            speed(model, asked.workload or list(WORKLOADS), options)
    own = [part for part in resources.PARTS if part in parts]
    if own:
        figures(own, models, options)


if __name__ == "__main__":
    main()
