"""`ponderosa verifier`: what there is to know of a verifier before a run depends on it."""

from __future__ import annotations

import json as jsonlib
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from verifiers.check import Report

app = typer.Typer(help="Check a reward model before a run depends on it.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def verifier() -> None:
    """Check a reward model before a run depends on it."""


@app.command()
def check(
    model: Annotated[str, typer.Argument(help="'bundled', a Hugging Face folder or a hub name.")],
    format: Annotated[str, typer.Option(help="A family by name; else the one that the files tell.", show_default=False)] = "",
    separator: Annotated[str, typer.Option(help="Of trl: newline or blank-line.", show_default=False)] = "",
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    code: Annotated[str, typer.Option(help="'allow': code that comes with the model may run.")] = "never",
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Which family a reward model is of, and whether it is read as its authors read it.

    Exit code 0: it is; 1: a check failed; 65: no family, or several, or it cannot be loaded.
    """
    from verifiers.check import examine

    report = examine(model, format, separator, device, dtype, code)
    if json:
        sys.stdout.write(jsonlib.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n")
    else:
        _show(report)
    if report.error:
        sys.stderr.write(f"ponderosa: {report.error}\n")
    raise typer.Exit(report.exit_code)


def _read_by(report: Report) -> str:
    return f"read by {report.format}" + (f", a value is the probability of '{report.right}'" if report.right else "")


def _show(report: Report) -> None:
    from flows import tables
    from flows.show import oneline
    from verifiers.formats.format import FORMATS

    out = tables.console()
    out.print(f"model     {report.model}")
    for i, line in enumerate(report.evidence):
        out.print(("evidence  " if i == 0 else "          ") + line)
    families = tables.table("family", "looks like it")
    for name, why in report.families.items():
        families.add_row(name, f"no: {oneline(why, 110)}" if why else f"yes: {oneline(FORMATS[name].about, 110)}")
    out.print()
    out.print(families)
    if report.findings:
        findings = tables.table("check", "status", "finding", title=_read_by(report))
        for each in report.findings:
            findings.add_row(each.name, each.status, oneline(each.what, 108))
        out.print()
        out.print(findings)
