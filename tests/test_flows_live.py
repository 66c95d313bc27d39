"""A report that follows its runs: what its server answers to whom, and that a reader's place is kept while the page grows."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from asked import samples, spec, write
from browsers import chromium, seen
from documents import document, tree

from flows.report.document import Document, TreeOf
from flows.report.live import answering, application, serve
from flows.report.viewed import version
from store.database import open_database
from store.solved import derive


@dataclass
class Runs:
    """Runs at work: what a server asks of a database."""

    document: Document = field(default_factory=lambda: document(problems=3, branches=6, status="running"))
    stamp: str = "v1"
    made: int = 0
    wait: float = 0.0
    at_once: int = 0
    most: int = 0

    def make(self) -> Document:
        self.made += 1
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        time.sleep(self.wait)
        self.at_once -= 1
        return self.document

    def tree(self, attempt: int) -> TreeOf | None:
        return self.document.trees.get(attempt)

    def version(self) -> str:
        return self.stamp


@contextmanager
def served(runs: Runs) -> Iterator[str]:
    """The address of a server in a thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        server = answering(application(runs.make, runs.tree, runs.version, port))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture
def runs() -> Runs:
    return Runs()


@pytest.fixture
def address(runs: Runs) -> Iterator[str]:
    with served(runs) as made:
        yield made


def test_the_page_its_version_and_its_trees_are_answered_with_closed_doors(runs: Runs, address: str) -> None:
    page, version, branches = (httpx.get(address + path) for path in ("", "version", "tree/1"))
    assert [each.status_code for each in (page, version, branches)] == [200, 200, 200]
    assert 'data-version="v1"' in page.text
    assert version.json() == {"version": "v1"}
    assert branches.json()["text"] == [branch.text for branch in runs.document.trees[1].branches]
    for each in (page, version, branches):
        assert each.headers["cache-control"] == "no-store"
        assert each.headers["x-content-type-options"] == "nosniff"
        assert each.headers["content-security-policy"].startswith("default-src 'none'")
        assert "access-control-allow-origin" not in each.headers
    assert f'content="{page.headers["content-security-policy"]}"'.replace("'", "&#39;") in page.text


@pytest.mark.parametrize("path", ["tree/999999", "tree/x", "tree/-1", "tree/1.0", "tree/" + "9" * 40, "tree/%D9%A1"])
def test_a_tree_that_is_not_there_is_not_found(address: str, path: str) -> None:
    assert httpx.get(address + path).status_code == 404


@pytest.mark.parametrize("path", ["docs", "openapi.json", "redoc", "../etc/passwd", "static/x"])
def test_nothing_else_is_there(address: str, path: str) -> None:
    assert httpx.get(address + path).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
def test_nothing_but_get_is_answered(runs: Runs, address: str, method: str) -> None:
    answer = httpx.request(method, address)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    assert runs.made == 0


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:{port}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.test:{port}", ""]
)
def test_a_name_of_somebody_elses_that_leads_here_reads_nothing(runs: Runs, address: str, host: str) -> None:
    port = httpx.URL(address).port
    for path in ("", "version", "tree/1"):
        assert httpx.get(address + path, headers={"Host": host.format(port=port)}).status_code == 421
    assert runs.made == 0
    for name in ("localhost", "127.0.0.1", "[::1]"):
        assert httpx.get(address + "version", headers={"Host": f"{name}:{port}"}).status_code == 200


def test_a_page_is_made_again_only_when_the_version_has_changed(runs: Runs, address: str) -> None:
    first = httpx.get(address).text
    assert httpx.get(address).text == first
    assert runs.made == 1
    runs.stamp = "v2"
    assert 'data-version="v2"' in httpx.get(address).text
    assert runs.made == 2


def test_many_readers_at_once_wait_for_one_page_and_versions_are_told_meanwhile(runs: Runs, address: str) -> None:
    runs.wait = 1.5
    with ThreadPoolExecutor(6) as pool:
        pages = [pool.submit(httpx.get, address) for _ in range(5)]
        time.sleep(0.1)
        assert httpx.get(address + "version").status_code == 200
        assert not any(page.done() for page in pages)
        assert len({each.result().text for each in pages}) == 1
    assert (runs.made, runs.most) == (1, 1)


def test_what_cannot_be_read_is_said_and_the_next_question_is_answered(runs: Runs, address: str) -> None:
    whole, runs.document = runs.document, None  # type: ignore[assignment]
    answer = httpx.get(address)
    assert answer.status_code == 500
    assert answer.text.startswith("AttributeError: ")
    assert answer.headers["content-type"].startswith("text/plain")
    runs.document = whole
    assert httpx.get(address).status_code == 200


def test_a_port_in_use_a_port_that_is_none_and_a_foreign_host_are_refused_in_a_line(runs: Runs) -> None:
    def refused(port: int, host: str = "127.0.0.1") -> str:
        with pytest.raises(ValueError, match=r"\S") as caught:
            serve(runs.make, runs.tree, runs.version, port, lambda _: pytest.fail("it has begun"), host)
        return str(caught.value)

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = refused(port)
    assert told == f"cannot listen on 127.0.0.1, port {port}: Address already in use; give another port, or 0 for a free one"
    assert "port 70000" in refused(70000)
    assert "'0.0.0.0'" in refused(0, "0.0.0.0")


PROGRAM = """
from flows.report.live import serve
from documents import document
made = document(problems=1, branches=2)
serve(lambda: made, made.trees.get, lambda: "v1", 0, lambda address: print(address, flush=True))
print("ended", flush=True)
"""


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_server_quietly_though_a_reader_is_there(told: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((".", str(Path(__file__).parent)))},
    )
    assert child.stdout is not None
    address = child.stdout.readline().strip()
    with httpx.Client() as reader:
        assert reader.get(address).status_code == 200
        child.send_signal(told)
        out, err = child.communicate(timeout=10)
    assert (child.returncode, out, err) == (0, "ended\n", "")


def test_a_page_follows_its_runs_and_keeps_the_readers_place(runs: Runs) -> None:
    later = document(problems=5, branches=6, status="running")
    grown = {**later.trees, 2: tree(2, 40)}
    with chromium() as browser, served(runs) as address, seen(browser) as window:
        page = window.page
        page.add_init_script("const plain = setTimeout; window.setTimeout = (does, ms) => plain(does, ms > 2000 ? 200 : ms);")
        page.goto(address)
        page.get_by_role("searchbox").fill("boxes")
        page.locator("#g0-p2 button.id").click()
        page.locator("td[data-attempt='2'] a").click()
        page.wait_for_selector("#panel[open] .row.at")
        branch = page.inner_text("#panel .detail .path")
        runs.document, runs.stamp = replace(later, trees=grown), "v2"
        page.locator("#panel .size", has_text="40 branches").wait_for()
        assert page.inner_text("#panel .detail .path") == branch
        assert page.locator("section.problems tbody tr").count() == 5
        page.keyboard.press("Escape")
        page.wait_for_selector("#panel:not([open])", state="attached")
        assert page.evaluate("document.activeElement.getAttribute('href')") == "#tree=2"
        assert page.get_by_role("searchbox").input_value() == "boxes"
        assert page.locator("#g0-p2.open").count() == 1
        assert page.locator(".shown").inner_text() == "5 of 5 problems shown"
        assert page.locator("#live").inner_text() == "live"
        runs.document, runs.stamp = document(problems=5, branches=6), "v3"
        page.locator("#live", has_text="up to date").wait_for()
        assert window.errors == []
        assert {httpx.URL(each).host for each in window.requests} == {"127.0.0.1"}


def test_an_open_tree_says_what_has_come_of_it_and_a_page_looks_once_more_soon_when_work_has_ended(runs: Runs) -> None:
    """Between its last row and its end a run looks abandoned, and the page said so for half a minute."""
    later = runs.document
    group = later.groups[0]
    line = group.problems[0]
    cells = (line.cells[0], replace(line.cells[1], correct=None, answer=None, verdict="running"), *line.cells[2:])
    begun = replace(group, problems=(replace(line, cells=cells), *group.problems[1:]))
    runs.document = replace(later, groups=(begun,))
    with chromium() as browser, served(runs) as address, seen(browser) as window:
        page = window.page
        page.add_init_script("""const plain = setTimeout; window.waits = []; window.setTimeout = (does, ms) => {
          if (ms > 2000) waits.push([ms, document.querySelector("#live").textContent]);
          return plain(does, ms > 2000 ? 200 : ms);
        };""")
        page.goto(address + "#tree=2")
        page.wait_for_selector("#panel[open] .row.at")
        told = page.locator(".others option[value='2']")
        assert told.inner_text().startswith("? ")
        runs.document, runs.stamp = replace(later, trees={**later.trees, 2: tree(2, 40)}), "v2"
        page.locator("#panel .size", has_text="40 branches").wait_for()
        assert told.inner_text()[0] in "✓✗○"
        runs.document, runs.stamp = document(problems=3, branches=6, status="abandoned"), "v3"
        page.wait_for_function("() => waits.some(([ms]) => ms === 30000)")
        assert [3000, "up to date"] in page.evaluate("waits")
        assert window.errors == []


def test_the_verb_serves_a_database_and_ends_quietly(tmp_path: Path) -> None:
    with open_database(tmp_path / "runs.db") as db:
        run = write(db, spec(n=2), {"p0": samples(("right", 0.9), ("b", 0.1), chosen=0)}, "mine")
    words = [sys.executable, "-m", "flows.cli", "view", "mine", "--port", "0", "-d", str(tmp_path / "runs.db")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[0]
            assert url.startswith("http://127.0.0.1:")
            page = httpx.get(url, timeout=60).text
            assert "mine" in page
            assert run.id in page
            assert httpx.get(f"{url}tree/1", timeout=30).json()["text"] == ["it is right", "it is b"]
            process.send_signal(2)
            out, err = process.communicate(timeout=20)
            assert (process.returncode, out, err) == (0, "", "")
        finally:
            process.kill()


def test_the_version_changes_with_what_is_stored(tmp_path: Path) -> None:
    with open_database(tmp_path / "v.db") as db:
        run = write(db, spec(n=1), {"p0": samples(("right", 0.9), chosen=0)}, derived=False)
        before = version(db, [run.id])
        assert version(db, [run.id]) == before
        derive(db, run.id, lambda asked: [True] * len(asked))
        assert version(db, [run.id]) != before
