"""What the READMEs name must be there, and what is there must be named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from pipelines.problems import FAMILIES
from search.select import SELECTORS
from search.strategies import STRATEGIES, build
from search.types import Part
from verifiers.registry import VERIFIERS

HERE = Path(__file__).parent.parent
COMMANDS = re.compile(r"^(?:\$ )?ponderosa (\S+)", re.MULTILINE)


def text(name: str) -> str:
    return (HERE / name).read_text()


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_has_a_page(name: str) -> None:
    assert f"### `{name}`" in text("search/README.md")


def test_every_parameter_of_a_strategy_is_on_its_page() -> None:
    pages = dict(re.findall(r"### `([^`]+)`\n(.*?)(?=\n##)", text("search/README.md") + "\n##", re.DOTALL))
    assert set(pages) == set(STRATEGIES)
    for name, page in pages.items():
        for parameter in vars(build(Part(name))).keys() - {"inner"}:  # a wrapper's strategy has a page of its own
            assert f"`{parameter}`" in page, (name, parameter)


@pytest.mark.parametrize("name", SELECTORS)
def test_every_selector_is_in_the_table(name: str) -> None:
    assert f"| `{name}` |" in text("search/README.md")


@pytest.mark.parametrize("name", VERIFIERS)
def test_every_verifier_is_in_the_table(name: str) -> None:
    assert f"| `{name}` |" in text("verifiers/README.md")


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_in_the_table(name: str) -> None:
    assert f"| `{name}` |" in text("pipelines/README.md")


def test_every_command_that_a_readme_shows_exists() -> None:
    shown = {
        c for readme in HERE.glob("**/README.md") if ".venv" not in readme.parts for c in COMMANDS.findall(readme.read_text())
    }
    assert len(shown) >= 5
    for command in shown:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command


def test_every_file_in_a_readmes_table_exists() -> None:
    for folder in ("search", "verifiers", "flows", "pipelines"):
        for row in re.findall(r"^\| ([^|]+) \|", text(f"{folder}/README.md"), re.MULTILINE):
            for name in re.findall(r"`([\w/]+\.py|\w+/)`", row):
                assert (HERE / folder / name).exists(), (folder, name)


def test_no_document_names_a_path_of_one_machine() -> None:
    for path in [*HERE.glob("*.md"), *HERE.glob("*/*.md"), *HERE.glob("pipelines/bundled/*/*.json")]:
        assert not re.search(r"(?<![\w.])/(tmp|home|root|work|Users)/", path.read_text()), path
