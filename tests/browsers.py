"""A browser for the tests of pages: the system's Chromium, where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Seen:
    """A page, and what it did that nobody should see."""

    page: Any
    errors: list[str] = field(default_factory=list)  # of the console, of scripts, and dialogs
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda each: each.type in ("error", "warning") and self.errors.append(each.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda each: (self.errors.append(f"dialog {each.message}"), each.dismiss()))
        self.page.on("request", lambda each: self.requests.append(each.url))

    def open(self, file: Path, hash: str = "") -> Any:
        """The page of a file, once its scripts have run."""
        self.page.goto(file.as_uri() + hash)
        return self.page

    def clean(self, file: Path) -> bool:
        """No error, and no request but for the file itself."""
        assert self.errors == []
        assert {each.split("#")[0] for each in self.requests} == {file.as_uri()}
        return True


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window; skips where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("there is no chromium on the path")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_api.sync_playwright() as played:
        browser = played.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@contextmanager
def seen(browser: Any, **given: Any) -> Iterator[Seen]:
    """A window of its own, 1280 by 900 unless told."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | given))
    context.set_default_timeout(15_000)
    yield Seen(context.new_page())
    context.close()


__all__ = ["Seen", "chromium", "seen"]
