"""Prefect flows over what is stored: rescore, report, retrain. Each is plain Python that the command line calls too."""

from __future__ import annotations

from flows import evaluate as evaluation  # sets Prefect's environment before it is imported

# isort: split
from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from flows import page, rescore, retrain
from flows.evaluate import DATABASE, DatabasePlace
from flows.parameters import ReportParameters, RescoreParameters, RetrainParameters
from flows.report import summary as report
from flows.report import written
from store.database import open_database
from store.runs import find_run


def _named() -> str:
    """The name of a flow run: its flow and what it was called with."""
    given = dict(flow_run.parameters)
    given.pop("database", None)
    (wanted,) = given.values()
    raw = wanted if isinstance(wanted, dict) else wanted.model_dump(exclude_defaults=True)
    told = ", ".join(f"{key} {_word(value)}" for key, value in raw.items())
    return f"{flow_run.flow_name} {told}".strip()[: page.LONGEST]


def _word(value: object) -> str:
    if isinstance(value, dict) and "name" in value:
        return str(value["name"])
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


@task(name="rescore candidates", task_run_name="{wanted.run}", cache_policy=NO_CACHE)
def rescore_candidates(wanted: RescoreParameters, database: str) -> list[str]:
    """What was added, in lines."""
    with open_database(evaluation.located(database), create=False) as opened:
        verifier = None if wanted.verifier is None else wanted.verifier.part()
        return [line for each in rescore.run(opened, wanted.run, verifier, wanted.grader) for line in each.lines()]


@flow(name="rescore", flow_run_name=_named)
def rescore_run(wanted: RescoreParameters, database: DatabasePlace = DATABASE) -> list[str]:
    """A new verifier or grader over a run's stored candidates; its scores and verdicts stand beside those of the run."""
    with open_database(evaluation.located(database), create=False) as opened:
        found = find_run(opened, wanted.run)
        page.tag_flow([found.spec])
    lines = rescore_candidates(wanted, database)
    create_markdown_artifact(markdown="\n\n".join(lines), key=f"rescore-{found.id}")
    return lines


@flow(name="report", flow_run_name=_named)
def report_runs(wanted: ReportParameters, database: DatabasePlace = DATABASE) -> str:
    """The runs' table, the plot of accuracy against tokens, and each later run in pairs with the first."""
    with open_database(evaluation.located(database), create=False) as opened:
        ids = [find_run(opened, each).id for each in wanted.runs]
        text = written.run(opened, ids, wanted.file, resamples=wanted.resamples).text if wanted.file else ""
        text = text or report.made(opened, list(dict.fromkeys(ids)), wanted.resamples).markdown("")
        page.publish(opened, list(dict.fromkeys(ids)), "")
    if wanted.file:
        create_link_artifact(link=f"file://{report.absolute(wanted.file)}", link_text=wanted.file, key=f"report-{ids[0]}")
    return text


@task(name="train and measure", task_run_name="{wanted.folder}", cache_policy=NO_CACHE)
def train_and_measure(wanted: RetrainParameters, database: str) -> list[str]:
    """What was trained, in lines."""
    with open_database(evaluation.located(database), create=False) as opened:
        return retrain.run(opened, wanted).lines()


@flow(name="retrain", flow_run_name=_named)
def retrain_model(wanted: RetrainParameters, database: DatabasePlace = DATABASE) -> list[str]:
    """A reward model that goes on learning from stored candidates, measured before and after on problems held out."""
    lines = train_and_measure(wanted, database)
    create_markdown_artifact(markdown="\n\n".join(lines), key="retrain")
    return lines


__all__ = ["report_runs", "rescore_run", "retrain_model"]
