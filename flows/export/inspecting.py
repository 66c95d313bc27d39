"""Evaluation logs of inspect_ai: FILE.eval or FILE.json for one run, or a folder with a RUN.eval for each of several.

A problem is a sample, and each of its whole solutions an epoch of it (with --chosen: the search's choice alone, or a sample
without an answer where there is none, which is I). A solution's score is C or I with the answer; one that was cut has no
answer, and is I; one that nothing has decided has no score, and counts in no metric. `accuracy` and `stderr` are inspect's own,
over the means of the samples' epochs: the accuracy of a solution, and with --chosen the run's. A log is built whole in memory
before it is written, as inspect's writer wants it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.progress import said
from search.types import Finish
from search.types import Path as Place
from store import schema
from store.imported import is_imported
from store.runs import Run

from .attempts import Attempt, Source
from .judging import Judge, judging
from .told import Exported, Options

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample, EvalSpec

SCORER = "ponderosa"
MANY = 4000  # solutions from which the time of inspect's .eval writer, which grows with their square, is told beforehand
REMEDY = "inspect_ai is not installed; install it with: pip install 'ponderosa[inspect]'"
_STATUSES: dict[str, Any] = {"done": "success", "queued": "started", "running": "started", "failed": "error"}
_STOPPED = {Finish.END: "stop", Finish.LENGTH: "max_tokens", Finish.BUDGET: "max_tokens"}


def available() -> None:
    """Raises ValueError with the remedy where inspect_ai is not installed."""
    try:
        import inspect_ai.log  # noqa: F401
    except ImportError:
        raise ValueError(REMEDY) from None


def is_file(output: str) -> bool:
    return output.endswith((".eval", ".json"))


def write(source: Source, place: Path, options: Options, made: Exported) -> None:
    """Writes the file `place`, or fills it with a file a run where it is a folder."""
    from inspect_ai.log import write_eval_log

    if source.several and not place.is_dir():
        raise ValueError(f"--output '{made.output}' is one log, and {len(source.runs)} runs have one each; name a folder")
    with judging() as judge:
        for run in source.runs:
            log = _log(source, run, options.chosen, judge, made)
            as_json = made.output.endswith(".json")
            count = len(log.samples or ())
            if not as_json and count > MANY:
                said(f"{count:,} solutions: inspect's .eval writer takes minutes for them; a .json, or --chosen, is quicker")
            name = f"{run.id}.eval" if place.is_dir() else made.output
            to = place / name if place.is_dir() else place
            write_eval_log(log, str(to), format="json" if as_json else "eval")
            made.files[name] = count


def _log(source: Source, run: Run, chosen: bool, judge: Judge, made: Exported) -> EvalLog:
    from inspect_ai.log import EvalLog, EvalResults, EvalStats
    from inspect_ai.log import recompute_metrics as computed

    samples, ids = [], []
    graded = source.graded(run)
    if chosen and not graded:
        made.note(f"run {run.id} has no verdicts: samples without a choice have no score, and no accuracy counts them")
    for attempt in source.attempts(run):
        paths = [path for path in attempt.wholes if not chosen or path == attempt.chosen]
        if not (paths or chosen):
            made.left_out["problems without a whole solution"] += 1
            continue
        ids.append(attempt.problem.id)
        samples += list(_samples(attempt, paths, judge, made)) if paths else [_nothing(attempt, graded)]
    most = max((sample.epoch for sample in samples), default=1)
    log = EvalLog(
        status=_STATUSES.get(run.status, "cancelled"),
        eval=_spec(run, ids, most, chosen),
        stats=EvalStats(started_at=run.created, completed_at=run.ended or ""),
        samples=samples,
        results=EvalResults(total_samples=len(samples), completed_samples=len(samples)),
    )
    if any(sample.scores for sample in samples):
        computed(log)
    return log


def _spec(run: Run, ids: list[str], epochs: int, chosen: bool) -> EvalSpec:
    from inspect_ai.log import EvalConfig, EvalDataset, EvalRevision, EvalSpec
    from inspect_ai.model import GenerateConfig

    spec, sampling = run.spec, run.spec.sampling
    commit = str(run.environment.get("commit", ""))
    packages = {name: str(run.environment[name]) for name in ("torch", "transformers") if name in run.environment}
    metrics = [{"name": "inspect_ai/accuracy"}, {"name": "inspect_ai/stderr"}]
    return EvalSpec(
        eval_id=run.id,
        run_id=run.id,
        created=run.created,
        task=run.name or str(spec.problems),
        task_id=run.id,
        task_args=dict(spec.problems.params),
        solver=spec.strategy.name,
        solver_args=dict(spec.strategy.params),
        dataset=EvalDataset(name=spec.problems.name, samples=len(ids), sample_ids=list(ids), shuffled=False),
        model=_model(run),
        model_args=dict(spec.generator.params),
        model_generate_config=GenerateConfig()
        if is_imported(spec)
        else GenerateConfig(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k or None,
            max_tokens=spec.tokens,
            stop_seqs=list(spec.stops) or None,
            seed=spec.seed,
        ),
        config=EvalConfig(epochs=epochs, epochs_reducer=["mean"]),
        revision=EvalRevision(type="git", origin="", commit=commit.rstrip("+"), dirty=commit.endswith("+")) if commit else None,
        packages=packages,
        scorers=[{"name": SCORER, "metrics": metrics}],
        metadata={"spec": json.loads(spec.json()), "solutions": "chosen" if chosen else "all"},
    )


def _model(run: Run) -> str:
    return f"ponderosa/{run.spec.generator.name}"


def _samples(attempt: Attempt, paths: list[Place], judge: Judge, made: Exported) -> Iterator[EvalSample]:
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatCompletionChoice, ChatMessageAssistant, ChatMessageUser, ModelOutput
    from inspect_ai.scorer import Score

    right = judge(attempt)
    for epoch, path in enumerate(paths, start=1):
        node, correct = attempt.nodes[path], right.get(path)
        if path == attempt.chosen and attempt.row["verdict"] is not None:
            correct = attempt.row["correct"]
        text, own = made.text(attempt.text(path)), attempt.own_prompt(path)
        question = attempt.problem.prompt if own is None else own
        answer = ChatMessageAssistant(content=text, source="generate", model=_model(attempt.run))
        usage = _usage(attempt, path)
        stopped: Any = _STOPPED.get(node.finish, "unknown")
        choice = ChatCompletionChoice(message=answer, stop_reason=stopped)
        score = Score(
            value="C" if correct else "I",
            answer=node.answer,
            explanation=node.answer_reason or (attempt.row["reason"] if path == attempt.chosen else None),
        )
        yield EvalSample(
            id=attempt.problem.id,
            epoch=epoch,
            input=attempt.problem.prompt,
            target=attempt.problem.answer,
            messages=[ChatMessageUser(content=question, source="input"), answer],
            output=ModelOutput(model=_model(attempt.run), choices=[choice], usage=usage),
            model_usage={_model(attempt.run): usage} if usage else {},
            scores=None if correct is None else {SCORER: score},
            metadata=_metadata(attempt, path),
            total_time=attempt.row["seconds"] if epoch == 1 else None,
            uuid=f"{attempt.run.id}-{attempt.id}-{path}",
        )


def _nothing(attempt: Attempt, graded: bool) -> EvalSample:
    """Of a search that chose nothing: wrong, unless nothing is known of the whole run's choices."""
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessageUser, ModelOutput
    from inspect_ai.scorer import Score

    return EvalSample(
        id=attempt.problem.id,
        epoch=1,
        input=attempt.problem.prompt,
        target=attempt.problem.answer,
        messages=[ChatMessageUser(content=attempt.problem.prompt, source="input")],
        output=ModelOutput(model=_model(attempt.run)),
        scores={SCORER: Score(value="I", explanation=attempt.row["reason"] or attempt.row["error"])} if graded else None,
        metadata={"run": attempt.run.id, "attempt": attempt.id, "cost": _cost(attempt)},
        total_time=attempt.row["seconds"],
        uuid=f"{attempt.run.id}-{attempt.id}",
    )


def _cost(attempt: Attempt) -> dict[str, Any]:
    """Of the whole search, the same with each of its epochs."""
    return {name: attempt.row[name] for name in schema.LEDGER}


def _usage(attempt: Attempt, path: Place) -> Any:
    """The tokens of one solution; None = not known. What its search has cost in all is in the metadata."""
    from inspect_ai.model import ModelUsage

    tokens, prompt = attempt.tokens(path), len(attempt.row["prompt_ids"] or b"") // 4
    return None if tokens is None else ModelUsage(input_tokens=prompt, output_tokens=tokens, total_tokens=prompt + tokens)


def _metadata(attempt: Attempt, path: Place) -> dict[str, Any]:
    node = attempt.nodes[path]
    return {
        "run": attempt.run.id,
        "attempt": attempt.id,
        "path": path,
        "steps": len(attempt.steps(path)),
        "state": node.state,
        "cause": node.cause,
        "finish": node.finish.value,
        "chosen": path == attempt.chosen,
        "source": attempt.problem.source,
        "verifier_score": attempt.value(path),
        "scores": {row.verifier: row.value for row in attempt.scores.get(path, ())},
        "logprob": attempt.logprob(path),
        "certainty": attempt.certainty(path),
        "cost": _cost(attempt),
    }


__all__ = ["available", "is_file", "write"]
