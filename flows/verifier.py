"""`ponderosa verifier`: what there is to know of a verifier before a run depends on it."""

from __future__ import annotations

import json as jsonlib
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verifiers.check import Report


def run(model: str, format: str, separator: str, device: str, dtype: str, code: str, json: bool) -> int:
    """Examines a model and prints the findings; the exit code."""
    from verifiers.check import examine

    report = examine(model, format, separator, device, dtype, code)
    if json:
        sys.stdout.write(jsonlib.dumps(asdict(report), indent=1, ensure_ascii=False) + "\n")
    else:
        _show(report)
    if report.error:
        sys.stderr.write(f"ponderosa: {report.error}\n")
    return report.exit_code


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
