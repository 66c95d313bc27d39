"""Makes the asserts of the shared laws tell what they compared, and keeps torch to one thread: the tests' models are tiny, and
threads that wait for each other make them ten times as slow where the machine is busy. Tests of threads ask for them.

Fixtures: `postgres`, a server, started when the first test asks for it; `where`, a new empty database of each
kind; `command`, the command line in this process."""

import os
from collections.abc import Iterator
from pathlib import Path

import building
import hypothesis
import pytest
from command import command, ponderosa  # noqa: F401  fixtures
from postgres import NoServer, Postgres

import store.database

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; the processes that tests start inherit it

pytest.register_assert_rewrite("laws")

store.database._upgrade = building.upgrade

# a busy machine is no fault of what is tested; what many examples find, fewer find in a few runs
hypothesis.settings.register_profile("here", deadline=None, max_examples=50)
hypothesis.settings.load_profile("here")


@pytest.fixture(scope="module")
def migrations() -> Iterator[None]:
    """New databases are made by alembic, and not from memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.database, "_upgrade", building.MIGRATIONS)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The session's PostgreSQL server. A test may stop it: whoever asks for a database next finds it running."""
    try:
        server = Postgres()
    except NoServer as error:
        pytest.skip(f"no PostgreSQL server: {error}")
    with server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where `open_database` makes a new database: a path, then a URL. Not there yet, or empty."""
    if request.param == "sqlite":
        yield str(tmp_path / "where.db")
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.url(request.node.name)
    yield url
    server.drop(url)
