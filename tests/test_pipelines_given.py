"""What training scripts are given is checked before any work: one line, exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pipelines.models import BUNDLED
from pipelines.train import generator, judge, labels, prm, samples
from pipelines.train.given import writable_file, writable_folder

INIT = ["--init", str(BUNDLED["reward"])]


def no_work(*_: object, **__: object) -> None:
    raise AssertionError("work was begun")


def said(main: object, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """The line that a script ends with."""
    monkeypatch.setattr(sys, "argv", ["script", *words])
    for name in ("train", "begun"):
        monkeypatch.setattr(prm, name, no_work)
    monkeypatch.setattr(labels, "load_generator", no_work)
    with pytest.raises(SystemExit) as caught:
        main()  # type: ignore[operator]
    assert caught.value.code == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    return line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["{tmp}/no/out.jsonl"], "out.jsonl cannot be written: {tmp}/no is no folder; make it first"),
        (["{tmp}"], "{tmp} is a folder; name a file in it"),
        (["/proc/out.jsonl"], "error: /proc/out.jsonl cannot be written: "),
        (["{tmp}/out", "--problems", "0"], "error: --problems must be at least 1, not 0"),
        (["{tmp}/out", "--problems", "-3"], "error: --problems must be at least 1, not -3"),
        (["{tmp}/out", "--rollouts", "0"], "error: --rollouts must be at least 1, not 0"),
        (["{tmp}/out", "--each", "0"], "error: --each must be at least 1, not 0"),
        (["{tmp}/out", "--annotator", "bundled"], "error: --annotator is of the method spare-text, and exact does not read it"),
        (
            ["{tmp}/out", "--searches", "2"],
            "error: --searches is of the method omega, and exact does not read it",
        ),
        (["{tmp}/out", "--grown"], "--grown is of the method omega, and exact does not read it; leave it out\n"),
        (["{tmp}/out", "--problems", "1"], "error: --problems 1 over 2 families is none of each; ask for more"),
    ],
)
def test_labels_refuses_what_will_not_do_before_any_work(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An output that could not be written was found after hours; no problems at all was a success."""
    given = ["exact", "bundled", *(each.format(tmp=tmp_path) for each in words)]
    assert line.format(tmp=tmp_path) in said(labels.main, given, monkeypatch, capsys)
    assert list(tmp_path.iterdir()) == []


def test_samples_refuses_an_output_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(samples, "load_generator", no_work)
    line = said(samples.main, ["bundled", str(tmp_path / "no" / "out.jsonl")], monkeypatch, capsys)
    assert "out.jsonl cannot be written" in line


@pytest.mark.parametrize(("main", "words"), [(labels.main, ["exact"]), (samples.main, [])], ids=["labels", "samples"])
def test_a_generator_that_is_not_there_is_refused_in_one_line(
    main: Callable[[], None],
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *words, str(tmp_path / "none"), str(tmp_path / "out.jsonl")])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["{tmp}/m", "--samples", "{tmp}/rows.jsonl"],
            "error: none of --init, --grow and --tokenizer is given; name the folder",
        ),
        (["{tmp}/m", *INIT, "--samples", "/nope.jsonl"], "error: /nope.jsonl is no file; name one that exists"),
        (["{tmp}/m", *INIT, "--samples", "{tmp}/rows.jsonl"], "error: rows.jsonl line 1 is no labelled sample: "),
        (["{tmp}/m", "--init", "{tmp}/nope"], "error: {tmp}/nope has no config.json; name the folder of a model"),
        (["{tmp}/rows.jsonl", *INIT], "{tmp}/rows.jsonl cannot be a folder: {tmp}/rows.jsonl is a file; name another"),
        (["/proc/a/m", *INIT], "error: /proc/a/m cannot be written: "),
        (["{tmp}/m", *INIT, "--minutes", "0"], "error: --minutes must be above 0, not 0"),
        (["{tmp}/m", *INIT, "--tokens", "-1"], "error: --tokens must be at least 1, not -1"),
        (["{tmp}/m", *INIT, "--own", "1.5"], "error: --own must be from 0 to 1, not 1.5"),
    ],
)
def test_prm_refuses_what_will_not_do_before_any_work(
    words: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a tokenizer's folder it asked the network, and ended in a traceback after a minute."""
    (tmp_path / "rows.jsonl").write_text("{}\n")
    given = [each.format(tmp=tmp_path) for each in words]
    assert line.format(tmp=tmp_path) in said(prm.main, given, monkeypatch, capsys)
    assert [each.name for each in tmp_path.iterdir()] == ["rows.jsonl"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["{tmp}/m", "--init", "{tmp}/nope"], "error: {tmp}/nope has no config.json; name the folder of a model"),
        (["{tmp}/m", "--init", str(BUNDLED["generator"]), "--minutes", "0"], "error: --minutes must be above 0, not 0"),
        (["/proc/a/m", "--init", str(BUNDLED["generator"])], "error: /proc/a/m cannot be written: "),
    ],
)
@pytest.mark.parametrize("script", [generator, judge], ids=["generator", "judge"])
def test_generator_and_judge_refuse_what_will_not_do_before_any_work(
    script: ModuleType,
    words: list[str],
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "commit_now", no_work)
    assert line.format(tmp=tmp_path) in said(script.main, [each.format(tmp=tmp_path) for each in words], monkeypatch, capsys)


def test_what_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    file.write_text("before")
    for path in (file, tmp_path / "new.jsonl"):
        writable_file(path)
    for path in (tmp_path, tmp_path / "a" / "b"):
        writable_folder(path)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("out.jsonl", "before")]


def test_what_will_do_is_worked_on(tmp_path: Path) -> None:
    prm.check(prm.parser().parse_args([str(tmp_path / "model"), *INIT, "--tokens", "5"]))
    prm.check(prm.parser().parse_args([str(tmp_path / "model"), "--grow", str(BUNDLED["generator"])]))
    assert len(labels.checked(labels.parser().parse_args(["exact", "bundled", str(tmp_path / "o"), "--problems", "4"]))) == 4
