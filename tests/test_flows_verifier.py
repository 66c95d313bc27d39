"""`ponderosa verifier check`: what it says of a model, and its exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import rewards
from typer.testing import CliRunner, Result

from flows.cli import app
from pipelines.models import BUNDLED
from verifiers import check
from verifiers.formats.families import Facts
from verifiers.formats.format import FORMATS, Format, Read


def checked(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["verifier", "check", *arguments])


def test_the_bundled_model_is_read_as_its_family_is_meant() -> None:
    done = checked("bundled")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert any(line.split()[:2] == ["ponderosa", "yes:"] for line in lines)
    assert "read by ponderosa, a value is the probability of 'right'" in lines
    assert any(line.split()[:2] == ["card", "ok"] for line in lines)
    assert not any(" fail " in line for line in lines)
    assert "evidence  architecture LlamaForTokenClassification" in lines
    assert any(line.rstrip().endswith("as one string would give other tokens in 0 of 3 traces") for line in lines)
    above = next(line for line in lines if line.startswith("classes"))
    assert int(above.split("above wrong ones in ")[1].split()[0]) > 8
    assert "reversed" not in above


def test_a_model_with_its_classes_turned_round_is_told_so(tmp_path: Path) -> None:
    """The values are in [0, 1] all the same; only right beside wrong shows it."""
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    model = AutoModelForTokenClassification.from_pretrained(BUNDLED["reward"])
    model.config.id2label, model.config.label2id = {0: "right", 1: "wrong"}, {"right": 0, "wrong": 1}
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(BUNDLED["reward"]).save_pretrained(tmp_path)
    report = check.examine(str(tmp_path))
    (classes,) = [each for each in report.findings if each.name == "classes"]
    assert classes.what.endswith("; classes look reversed")


@pytest.mark.parametrize("family", ["trl", "qwen", "math-shepherd"])
def test_the_json_has_the_families_the_evidence_and_every_check(family: str, tmp_path: Path) -> None:
    rewards.build(family, tmp_path)
    wanted = rewards.wanted(family)
    done = checked(str(tmp_path), "--json", *(["--format", wanted] if wanted else []))
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["format"] == family
    assert set(told["families"]) == set(FORMATS)
    assert (told["families"][family] == "") == (not wanted)
    assert {each["name"]: each["status"] for each in told["findings"]}["card"] == "ok"
    assert any("architecture" in line for line in told["evidence"])


BROKEN: dict[str, Callable[[Format], Format]] = {
    "shifted": lambda form: replace(form, read=Read.BEFORE),
    "swapped": lambda form: replace(form, right=0),
    "joined": lambda form: replace(form, apart=False),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_reader_that_is_broken_ends_with_exit_code_1(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewards.build("trl", tmp_path)

    def broken(facts: Facts, wanted: str, separator: str) -> Format:
        return BROKEN[fault](FORMATS["trl"])

    monkeypatch.setattr(check, "detected", broken)
    done = checked(str(tmp_path))
    assert isinstance(done.exception, SystemExit)  # and no crash, which would be 1 too
    assert done.exit_code == 1, done.output
    assert any(line.split()[:2] == ["card", "fail"] for line in done.output.splitlines())


def test_a_model_that_no_family_fits_is_told_why_of_each(tmp_path: Path) -> None:
    done = checked(str(BUNDLED["generator"]))
    assert done.exit_code == 65
    for name in FORMATS:
        assert any(line.split()[:2] == [name, "no:"] for line in done.stdout.splitlines()), name
    assert "name one with format=" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_format_that_cannot_read_the_model_is_exit_code_65() -> None:
    done = checked("bundled", "--format", "skywork")
    assert done.exit_code == 65
    assert "cannot be read by format 'skywork': it has no weight v_head.summary.weight" in done.stderr


@pytest.mark.parametrize("words", [("--device", "gpu"), ("--dtype", "int3")])
def test_a_device_or_a_dtype_that_is_none_is_usage(words: tuple[str, str]) -> None:
    done = checked("bundled", *words)
    assert done.stdout == ""
    assert str(done.exception).startswith(f"unknown {words[0][2:]} '{words[1]}'")
    assert done.exception.exit_code == 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: None, "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{}"), "has no weights"),
    ],
)
def test_a_folder_without_a_model_is_one_line(tmp_path: Path, make: Callable[[Path], object], says: str) -> None:
    make(tmp_path)
    done = checked(str(tmp_path))
    assert says in str(done.exception)
    assert done.stdout == ""


def test_another_word_than_allow_runs_nothing_and_is_told() -> None:
    assert str(checked("bundled", "--code", "yes").exception) == "code must be 'never' or 'allow', not 'yes'"


def test_a_folder_that_does_not_exist_is_one_line_and_exit_code_65() -> None:
    command = [sys.executable, "-m", "flows.cli", "verifier", "check", "no/such/folder"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 65
    assert done.stderr.startswith("ponderosa: model folder 'no/such/folder' does not exist; give a folder, a hub name or")
    assert len(done.stderr.splitlines()) == 1
