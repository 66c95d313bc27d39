"""The core's own figures: where its time goes, cores, memory, start-up, growth. Each part gives lines of one table.

- products: the share of CPU time that is matrix products of linear layers, at N = 64. Over the line: the profiler's own time
  of aten's products. Its clock is wall time, so it is scaled by CPU over wall time of the profiled run. Under the line: the
  CPU time of the same work without the profiler, so that what profiling costs does not dilute the share. A second number
  adds attention, whose kernel is no operator of torch and is named for the profiler here: it is products too, but for the
  softmax between them.
- cores: wall time at N = 64 with one thread over that with two, each in a process of its own, in turns. The time of a process
  is the least of REPEATS runs. It needs a machine with two idle cores: threads that wait for each other suffer most
  where others run.
- memory: `memory_used` over `memory_needed` of the engine (bytes held; bytes that the distinct tokens of the live rows need),
  after every step of the ragged work and of the tree but the first WARM_UP, in the second of two runs: in the first the
  pools may grow. "peak" is the most that was held over the most that was needed.
- startup: CPU seconds, user and system, of a process that draws one token from the bundled model; and how many more they
  are than of one that imports torch and transformers and loads the same model with `from_pretrained`. The first process of
  each fills the caches of files and kernels and does not count.
- growth: resident memory of a process after 2,000 and after 10,000 rows of the bundled model, in waves of four searches that
  are forgotten as they end.
"""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from flows.figures.core.ours import Ours, loaded, named
from flows.figures.core.race import Options, pinned
from flows.figures.core.workloads import WORKLOADS, Flat, Work, geometric

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
ATTENTION = ("attention", "aten::_scaled_dot_product_flash_attention_for_cpu")
REPEATS = 5
WARM_UP = 16  # steps
SAMPLES = (2_000, 10_000)
WAVE = 256  # rows; a quarter of them to a search
ROWS_TOKENS = 24  # mean length of a row in the growth run
BARS = {"products": 0.55, "cores": 1.7, "memory": 1.15, "startup": 6.0, "own startup": 1.0}


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table."""

    what: str
    measured: str
    bar: str = ""


def work(name: str, ours: Ours, small: bool, seed: str = "") -> Work:
    return WORKLOADS[name].make(random.Random(name + seed), ours.letters, small)


# ------------------------------------------------------------------------------------------------------------- products


def products(models: Sequence[str], options: Options) -> Iterator[Figure]:
    for model in models:
        with named(model) as name, pinned(1):
            ours = Ours(loaded(name))
            equal = work("equal", ours, options.small)
            ours.run(equal)
            rounds = [_shares(ours, equal) for _ in range(options.rounds)]
        linear, attention = (median(one[i] for one in rounds) for i in range(2))
        yield Figure(f"{model}: CPU time in linear layers' products, N = 64", f"{linear:.0%}", f">= {BARS['products']:.0%}")
        said = f"{linear + attention:.0%}" if attention else "–"
        yield Figure(f"{model}: ... and in attention", said)


def _shares(ours: Ours, equal: Work) -> tuple[float, float]:
    """Of products, and of attention."""
    from torch.profiler import ProfilerActivity, profile

    began = time.process_time()
    ours.run(equal)
    plain = time.process_time() - began
    with _named(ours), profile(activities=[ProfilerActivity.CPU]) as seen:
        wall, cpu = time.perf_counter(), time.process_time()
        ours.run(equal)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    spent = {event.key: event.self_cpu_time_total / 1e6 * cpu / wall for event in seen.key_averages()}
    return _sum(spent, PRODUCTS) / plain, _sum(spent, ATTENTION) / plain


@contextmanager
def _named(ours: Ours) -> Iterator[None]:
    """The attention kernel under a name that the profiler sees."""
    from torch.profiler import record_function

    memory = getattr(ours.engine.forward, "memory", None)
    read = getattr(memory, "read", None)
    if read is None:
        yield
        return

    def named(*args: Any) -> None:
        with record_function(ATTENTION[0]):
            read(*args)

    vars(memory)["read"] = named
    try:
        yield
    finally:
        del vars(memory)["read"]


def _sum(spent: Mapping[str, float], names: Sequence[str]) -> float:
    return sum(spent.get(name, 0.0) for name in names)


# ---------------------------------------------------------------------------------------------------------------- cores


def cores(models: Sequence[str], options: Options) -> Iterator[Figure]:
    for model in models:
        with named(model) as name:
            rounds = [[_child_wall(name, threads, options.small) for threads in (1, 2)] for _ in range(options.rounds)]
        found = [one / two for one, two in rounds]
        said = f"{median(found):.2f}x ({min(found):.2f}–{max(found):.2f})"
        yield Figure(f"{model}: wall time of one thread over that of two, N = 64", said, f">= {BARS['cores']}x")


def _child_wall(name: str, threads: int, small: bool) -> float:
    code = f"from flows.figures.core import resources; resources.say_wall({name!r}, {threads}, {small})"
    return float(json.loads(_child(code)))


def say_wall(name: str, threads: int, small: bool) -> None:
    """Run in a process of its own: wall seconds of the work, the first run left out."""
    ours = Ours(loaded(name, threads=threads))
    equal = work("equal", ours, small)

    def wall() -> float:
        began = time.perf_counter()
        ours.run(equal)
        return time.perf_counter() - began

    wall()
    _answer(min(wall() for _ in range(REPEATS)))


# --------------------------------------------------------------------------------------------------------------- memory


def memory(models: Sequence[str], options: Options) -> Iterator[Figure]:
    for model in models:
        with named(model) as name, pinned(1):
            ours = Ours(loaded(name))
            for workload in ("ragged", "tree"):
                what = f"{model}: memory held over memory needed, {workload}"
                yield Figure(what, _held(ours, workload, options.small), f"<= {BARS['memory']}x")


def _held(ours: Ours, workload: str, small: bool) -> str:
    engine = ours.engine
    seen: list[tuple[int, int]] = []
    ours.run(work(workload, ours, small, "grow"))
    ours.run(work(workload, ours, small), lambda: seen.append((engine.memory_used(), engine.memory_needed())))
    held = [(used, need) for used, need in seen[WARM_UP // 4 if small else WARM_UP :] if need]  # nothing lives between requests
    found = [used / need for used, need in held]
    peak = max(used for used, _ in held) / max(need for _, need in held)
    return f"mean {mean(found):.2f}x, worst {max(found):.2f}x, peak {peak:.2f}x"


# -------------------------------------------------------------------------------------------------------------- startup

FIRST_TOKEN = """
from pipelines.models import load_generator
from search.types import Extend, Row, Sampling, Until
model = load_generator("bundled")
model.engine.submit(0, Extend((Row("0", 1, model.encode("How many?"), 1),), Until.END, Sampling()))
while model.engine.busy:
    model.engine.advance()
"""
THEIRS = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
AutoTokenizer.from_pretrained(sys.argv[1])
AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
"""


def startup(models: Sequence[str], options: Options) -> Iterator[Figure]:
    """Of the bundled model, whatever models are asked for."""
    from pipelines.models import BUNDLED

    def seconds() -> tuple[float, float]:
        return _child_seconds(FIRST_TOKEN), _child_seconds(THEIRS, str(BUNDLED["generator"]))

    seconds()
    rounds = [seconds() for _ in range(options.rounds)]
    whole, own = median(a for a, _ in rounds), median(a - b for a, b in rounds)
    yield Figure("bundled: CPU seconds to the first token", f"{whole:.1f}", f"<= {BARS['startup']:g}")
    yield Figure(
        "bundled: ... beyond importing torch and transformers and from_pretrained", f"{own:.2f}", f"< {BARS['own startup']:g}"
    )


def _child_seconds(code: str, *arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _child(code, *arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


# --------------------------------------------------------------------------------------------------------------- growth


def growth(models: Sequence[str], options: Options) -> Iterator[Figure]:
    """Of the bundled model, whatever models are asked for."""
    first, last = (count // 10 for count in SAMPLES) if options.small else SAMPLES
    code = f"from flows.figures.core import resources; resources.say_growth({first}, {last})"
    megabytes = json.loads(_child(code))
    said = f"{megabytes[0]:.1f} MB, {megabytes[1]:.1f} MB, {megabytes[1] - megabytes[0]:+.1f} MB"
    yield Figure(f"bundled: resident memory after {first:,} and {last:,} rows", said, "no growth")


def say_growth(*counts: int) -> None:
    """Run in a process of its own: resident megabytes after so many rows."""
    ours, lengths, done, said = Ours(loaded("bundled")), random.Random(0), 0, []
    for count in counts:
        while done < count:
            rows = min(WAVE, count - done)
            done += rows
            ours.run(_wave(ours, lengths, rows))
        said.append(_resident())
    _answer(said)


def _wave(ours: Ours, rng: random.Random, rows: int) -> Flat:
    """Prompts and rows of unequal lengths."""
    lengths = [geometric(rng, ROWS_TOKENS, 4 * ROWS_TOKENS) for _ in range(rows)]
    owned = tuple(tuple(lengths[i : i + WAVE // 4]) for i in range(0, rows, WAVE // 4))
    return Flat(tuple(tuple(rng.choices(ours.letters, k=rng.randint(16, 64))) for _ in owned), owned)


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


# ------------------------------------------------------------------------------------------------------------ processes


def _child(code: str, *arguments: str) -> str:
    """What a new Python says on its standard output."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"a measured process failed: {done.stderr.strip()}")
    return done.stdout


def _answer(value: object) -> None:
    sys.stdout.write(json.dumps(value))


PARTS: dict[str, Callable[[Sequence[str], Options], Iterator[Figure]]] = {
    "products": products,
    "cores": cores,
    "memory": memory,
    "startup": startup,
    "growth": growth,
}
