"""Samples and results as the lm-evaluation-harness writes them with --log_samples: a folder with samples_TASK_TIME.jsonl and
results_TIME.json for each run.

The fields are those of EleutherAI/lm-evaluation-harness 0.4.13.dev0 at 4e7e0d4 (`lm_eval/result_schema.py`, `evaluator.py`,
`loggers/evaluation_tracker.py`). A problem is a document with one request, and the texts of its whole solutions are the
repeats of that request. The one filter, `chosen`, is the search's choice: its answer is what stands in `filtered_resps`, and
`exact_match` is the run's own verdict on it (0 where it has none; null, of mean "N/A", where the whole run has no verdict).
`[invalid]`: nothing was chosen. A problem without a whole solution has one response, the empty one: the mean is over all
problems, as the run's accuracy is. TIME is when the run was begun, so the same run is written alike. What a run does not know
of the harness (its version, the machine) is left out.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from store.imported import is_imported
from store.runs import Run

from .attempts import Attempt, Source
from .told import Exported, Options

FILTER, METRIC, INVALID = "chosen", "exact_match", "[invalid]"
Json = dict[str, Any]


def write(source: Source, place: Path, options: Options, made: Exported) -> None:
    """Fills the folder `place`."""
    for run, task, time in _named(source):
        hashes = hashlib.sha256()
        values: list[float | None] = []
        graded = source.graded(run)
        if not graded:
            made.note(f"run {run.id} has no verdicts: its {METRIC} is null")
        name = f"samples_{task}_{time}.jsonl"
        with (place / name).open("x", encoding="utf-8", newline="\n") as file:
            for attempt in source.attempts(run):
                sample = _sample(attempt, graded, made)
                hashes.update((sample["doc_hash"] + sample["prompt_hash"] + sample["target_hash"]).encode())
                values.append(sample[METRIC])
                file.write(json.dumps(sample, ensure_ascii=False, allow_nan=False) + "\n")
        made.files[name] = len(values)
        results = _results(run, task, values, hashes.hexdigest(), source.begun(run))
        made.files[f"results_{time}.json"] = 1
        text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
        (place / f"results_{time}.json").write_text(text, encoding="utf-8")


def _named(source: Source) -> Iterator[tuple[Run, str, str]]:
    """Each run with its task and time; what pairs results with samples there is the time, so each has its own."""
    times: set[str] = set()
    for run in source.runs:
        name = re.sub(r"\W", "_", run.spec.problems.name)
        began = datetime.fromisoformat(run.created).replace(tzinfo=None)
        while (time := began.isoformat(timespec="microseconds").replace(":", "-")) in times:
            began += timedelta(microseconds=1)
        times.add(time)
        yield run, f"{name}_{run.id}" if source.several else name, time


def _sample(attempt: Attempt, graded: bool, made: Exported) -> Json:
    problem = attempt.problem
    doc: Json = {"id": problem.id, "question": problem.prompt, "answer": problem.answer, "source": problem.source}
    return {
        "doc_id": attempt.row["position"],
        "doc": doc,
        "target": problem.answer,
        "arguments": {"gen_args_0": {"arg_0": problem.prompt, "arg_1": _sampling(attempt.run)}},
        "resps": [[made.text(attempt.text(path)) for path in attempt.wholes] or [""]],
        "filtered_resps": [INVALID if attempt.row["answer"] is None else attempt.row["answer"]],
        "filter": FILTER,
        "metrics": [METRIC],
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(problem.prompt),
        "target_hash": _hash(problem.answer),
        METRIC: (1.0 if attempt.row["correct"] else 0.0) if graded else None,
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _sampling(run: Run) -> Json:
    """The run's sampling under the harness' names; nothing of one that was imported, whose sampling is not known."""
    if is_imported(run.spec):
        return {}
    spec, sampling = run.spec, run.spec.sampling
    found: Json = {
        "until": list(spec.stops),
        "max_gen_toks": spec.tokens,
        "do_sample": sampling.temperature > 0,
        "temperature": sampling.temperature,
    }
    return found | {name: getattr(sampling, name) for name in ("top_k", "top_p", "min_p")}


def _mean_of(values: Sequence[float]) -> tuple[float, float | str]:
    """Their mean and its standard error; of one there is none."""
    n, mean = len(values), sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1) / n) if n > 1 else "N/A"


def _results(run: Run, task: str, values: list[float | None], hashes: str, planned: int) -> Json:
    spec = run.spec
    model = spec.generator.name
    n, known = len(values), [value for value in values if value is not None]
    mean, spread = _mean_of(known) if known else ("N/A", "N/A")
    score: Json = {"name": task, "alias": task, "sample_len": n}
    score |= {f"{METRIC},{FILTER}": mean, f"{METRIC}_stderr,{FILTER}": spread}
    config: Json = {
        "task": task,
        "dataset_path": str(spec.problems),
        "output_type": "generate_until",
        "generation_kwargs": _sampling(run),
        "repeats": int(spec.strategy.params.get("n", 1)),
        "metric_list": [{"metric": METRIC, "aggregation": "mean", "higher_is_better": True}],
        "filter_list": [{"name": FILTER, "filter": [{"function": str(spec.strategy)}]}],
        "metadata": {"run": run.id, "spec": json.loads(spec.json())},
    }
    return {
        "results": {task: score},
        "group_subtasks": {task: []},
        "configs": {task: config},
        "versions": {task: None},
        "n-shot": {task: 0},
        "higher_is_better": {task: {METRIC: True}},
        "n-samples": {task: {"original": planned, "effective": n}},
        "config": {
            "model": "ponderosa",
            "model_args": {"model": model, "strategy": str(spec.strategy), "verifier": str(spec.verifier)},
            "limit": None,
            "gen_kwargs": _sampling(run),
            "random_seed": None if is_imported(spec) else spec.seed,
        },
        "git_hash": run.environment.get("commit", ""),
        "date": datetime.fromisoformat(run.created).timestamp(),
        "transformers_version": run.environment.get("transformers", ""),
        "task_hashes": {task: hashes},
        "model_source": "ponderosa",
        "model_name": model,
        "model_name_sanitized": re.sub(r"[\"<>:/|\\?*\[\]]+", "__", model),
        "system_instruction": None,
        "system_instruction_sha": None,
        "fewshot_as_multiturn": None,
        "chat_template": None,
        "chat_template_sha": None,
        "total_evaluation_time_seconds": str(_seconds(run)),
    }


def _seconds(run: Run) -> float:
    if run.ended is None:
        return 0.0
    return (datetime.fromisoformat(run.ended) - datetime.fromisoformat(run.created)).total_seconds()


__all__ = ["write"]
