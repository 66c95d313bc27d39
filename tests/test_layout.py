"""Who may import whom: the table of the architecture page, read from the source with `ast`."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# folder -> which of ours it may import
TABLE: dict[str, set[str]] = {
    "search": set(),
    "pipelines": {"search"},
    "verifiers": {"search", "pipelines"},
    "store": {"search"},
    "flows": {"search", "pipelines", "verifiers", "store"},
}
HEAVY = {"torch", "transformers", "prefect"}  # seconds to import
NOT_IN_SEARCH = {*HEAVY, "sqlalchemy", "alembic", "sympy", "math_verify"}
MAY_BE_HEAVY = (
    *("pipelines/engine/", "pipelines/train/", "pipelines/models.py", "verifiers/prm.py"),
    *("flows/evaluate.py", "flows/after.py", "flows/page.py", "flows/schedule/flow.py"),
)
FILES = sorted(path.relative_to(ROOT).as_posix() for folder in TABLE for path in (ROOT / folder).rglob("*.py"))


def statements(tree: ast.AST, at_import: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The import statements; `at_import`: only those that run when the module is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif at_import and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        elif at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (each for other in node.orelse for each in statements(ast.Module([other], []), at_import))
        else:
            yield from statements(node, at_import)


def imported(file: str, source: str, at_import: bool = False) -> set[str]:
    """The top-level packages that a file imports; a relative import is resolved by the file's place."""
    found: set[str] = set()
    for node in statements(ast.parse(source), at_import):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif node.level == 0:
            found.add((node.module or "").split(".")[0])
        else:
            base = Path(file).parts[: -node.level]
            if base:
                found.add(base[0])
            else:  # from .. import store: out of its folder
                found |= {(node.module or alias.name).split(".")[0] for alias in node.names}
    return found


def offences(file: str, source: str) -> list[str]:
    """What a file imports and may not."""
    folder = file.split("/")[0]
    packages = imported(file, source)
    found = [f"{folder} imports {name}" for name in sorted(packages & TABLE.keys() - TABLE[folder] - {folder})]
    if folder == "search":
        found += [f"search imports {name}" for name in sorted(packages & NOT_IN_SEARCH)]
    if not file.startswith(MAY_BE_HEAVY):
        heavy = imported(file, source, at_import=True) & HEAVY
        found += [f"{name} is imported at the top of a module" for name in sorted(heavy)]
    return found


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_what_its_folder_may(file: str) -> None:
    assert offences(file, (ROOT / file).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("file", "source", "says"),
    [
        ("search/a.py", "import store.runs", "search imports store"),
        ("search/a.py", "def f():\n    import torch", "search imports torch"),
        ("search/strategies/a.py", "from ...flows import work", "search imports flows"),
        ("search/strategies/a.py", "from ... import flows", "search imports flows"),
        ("store/a.py", "if TYPE_CHECKING:\n    from verifiers import prm", "store imports verifiers"),
        ("store/a.py", "try:\n    import flows\nexcept ImportError:\n    pass", "store imports flows"),
        ("pipelines/problems/a.py", "from verifiers.extract import boxed", "pipelines imports verifiers"),
        ("verifiers/a.py", "from store import queries", "verifiers imports store"),
        ("flows/cli/app.py", "import torch.cuda as c", "torch is imported at the top of a module"),
        ("flows/cli/app.py", "if True:\n    from prefect import flow", "prefect is imported at the top of a module"),
        ("verifiers/a.py", "class A:\n    from transformers import B", "transformers is imported at the top of a module"),
    ],
)
def test_the_table_would_see_an_offence(file: str, source: str, says: str) -> None:
    assert offences(file, source) == [says]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("search/strategies/a.py", "from ..types import Path\nfrom . import beam\nimport numpy"),
        ("flows/cli/app.py", "from store.runs import x\ndef f():\n    import torch"),
        ("flows/cli/app.py", "if TYPE_CHECKING:\n    import torch"),
        ("flows/evaluate.py", "import prefect"),
        ("pipelines/engine/engine.py", "import torch\nfrom search.types import Step"),
    ],
)
def test_the_table_lets_pass_what_is_allowed(file: str, source: str) -> None:
    assert offences(file, source) == []


@pytest.mark.parametrize("folder", TABLE)
def test_each_folder_is_what_python_imports_under_its_name(folder: str) -> None:
    """A published package is called `verifiers` too, and `search` and `store` are common names."""
    spec = importlib.util.find_spec(folder)
    assert spec is not None
    assert [Path(place).resolve() for place in spec.submodule_search_locations or ()] == [(ROOT / folder).resolve()]
    assert (ROOT / folder / "__init__.py").is_file()


def test_every_folder_has_files_that_were_read() -> None:
    assert {file.split("/")[0] for file in FILES} == set(TABLE)
    assert "search/types.py" in FILES


def test_tests_are_flat() -> None:
    """With a package inside, two test files of one name would hide each other, and fakes could not be imported."""
    assert not list((ROOT / "tests").rglob("__init__.py"))
