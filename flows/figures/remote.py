"""What HTTP costs: the core in this process, and the same core behind a server, in turns.

    python tests/openai_server.py --port 8000 &
    python -m flows.figures.remote --url http://127.0.0.1:8000/v1

Both write whole solutions of word problems with the bundled generator, all problems at once. Seconds are wall time, and of this
process's CPU time beside it: what the client alone takes for a token.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

from flows import work
from pipelines.problems.load import load_problems
from search.types import Extend, Part, Row, Sampling, Until, seed_of


def written(name: str, params: dict[str, object], problems: int, n: int) -> tuple[int, float, float]:
    """Tokens, seconds and CPU seconds of one round."""
    model = work.generator_of(Part(name, params))
    asked = load_problems(Part("word", {"count": problems, "seed": 11}))
    wall, cpu = time.monotonic(), time.process_time()
    for search, problem in enumerate(asked):
        prefix, text = model.encode(problem.prompt), (problem.prompt, "")
        rows = tuple(Row(str(i), seed_of(0, problem.id, str(i)), prefix, 256, text=text) for i in range(n))
        model.engine.submit(search, Extend(rows, Until.END, Sampling()))
    tokens = 0
    while model.engine.busy:
        for search, reply in model.engine.advance():
            if isinstance(reply, Exception):
                raise reply
            tokens += sum(map(len, reply.steps))
            model.engine.forget(search)
    return tokens, time.monotonic() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--problems", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    sys.stdout.write(
        "| rows | in the process, tokens/s | over HTTP, tokens/s | ratio | client CPU, ms a token |\n|---|---|---|---|---|\n"
    )
    for n in (1, 4, 8):
        far = {"tokenizer": "bundled", "concurrency": options.problems * n}
        ways: dict[str, list[tuple[int, float, float]]] = {"bundled": [], f"openai:{options.url}": []}
        for turn in range(options.rounds + 1):
            for name, found in ways.items():
                round_ = written(name, far if name.startswith("openai") else {}, options.problems, n)
                found += [round_] if turn else []  # the first warms up
        here, there = (statistics.median(tokens / wall for tokens, wall, _ in found) for found in ways.values())
        cpu = statistics.median(1000 * cpu / tokens for tokens, _, cpu in ways[f"openai:{options.url}"])
        ratio = statistics.median((far_[0] / far_[1]) / (near[0] / near[1]) for near, far_ in zip(*ways.values(), strict=True))
        sys.stdout.write(f"| {options.problems * n} | {here:,.0f} | {there:,.0f} | {ratio:.2f} | {cpu:.2f} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
