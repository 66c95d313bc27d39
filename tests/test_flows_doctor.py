"""The doctor's findings, each where all is well and where it is not; it never raises, changes anything or tells a password."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from postgres import PASSWORD, Postgres
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from flows import doctor
from flows.doctor import Finding, examine, machine
from pipelines.models import BUNDLED
from store import schema
from verifiers.sandbox import available, bubble

MB = 1 << 20
HERE = Path(__file__).parent.parent


def by_name(found: list[Finding]) -> dict[str, Finding]:
    assert len({each.name for each in found}) == len(found)
    return {each.name: each for each in found}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the checks of the machine that take seconds."""
    for name in ("prefect", "sandbox", "models", "cuda", "threads"):
        monkeypatch.setattr(doctor, name, lambda name=name: Finding(name, "ok", "not asked"))


# ------------------------------------------------------------------------------------------------------------- programs


@pytest.mark.parametrize(("version", "status"), [("3.11.0", "ok"), ("3.14.0rc1", "ok"), ("3.10.14", "fail")])
def test_python_must_be_in_its_range(version: str, status: str) -> None:
    found = doctor.python(version, ">=3.11")
    assert (found.status, version in found.what, bool(found.remedy)) == (status, True, status == "fail")


def installed(**versions: str) -> Callable[[str], str]:
    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    return version


REQUIRES = [
    "torch<2.14,>=2.9",
    "fastapi<0.151,>=0.139",
    "numpy>=2",
    "pytest>=9; extra == 'dev'",
    "win>=1; sys_platform == 'win32'",
]


def test_packages_inside_their_ranges_are_counted() -> None:
    found = doctor.packages(REQUIRES, installed(torch="2.13.0+cpu", numpy="2.4.6"))
    assert found == Finding("packages", "ok", "2 inside their ranges")


def test_packages_outside_their_ranges_are_named_with_what_to_install() -> None:
    found = doctor.packages(REQUIRES, installed(torch="2.14.1"))
    assert found.status == "fail"
    assert found.what == "torch 2.14.1 is not <2.14,>=2.9, numpy is not installed"
    assert found.remedy == "pip install 'torch<2.14,>=2.9' 'numpy>=2'"


def test_an_extra_that_is_asked_for_counts() -> None:
    found = doctor.packages(["psycopg[binary]>=3.2"], installed(psycopg="3.3.9"))
    assert (found.status, found.what) == ("fail", "psycopg-binary is not installed")


@pytest.mark.parametrize(("version", "status"), [("0.150.0", "ok"), ("0.165.0", "fail"), ("", "fail")])
def test_fastapi_must_be_one_that_prefects_server_starts_with(version: str, status: str) -> None:
    found = doctor.fastapi(REQUIRES, installed(**({"fastapi": version} if version else {})))
    assert found.status == status
    assert ("pip install 'fastapi<0.151,>=0.139'" in found.remedy) == (status == "fail")


def test_the_bundled_models_are_there_with_their_fingerprints() -> None:
    found = doctor.models()
    assert found.status == "ok"
    assert [len(part.split()[1]) for part in found.what.split(", ")] == [8] * len(BUNDLED)


def test_models_that_are_not_there_or_not_those_of_their_card_are_named(tmp_path: Path) -> None:
    assert "does not exist" in doctor.models({"generator": tmp_path / "none"}).what
    folder = tmp_path / "generator"
    shutil.copytree(BUNDLED["generator"], folder)
    assert doctor.models({"generator": folder}).status == "ok"
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    found = doctor.models({"generator": folder})
    assert (found.status, found.what) == ("fail", "the generator has other weights than its card says")
    (folder / "model.safetensors").unlink()
    assert "no weights" in doctor.models({"generator": folder}).what


def test_prefects_start_up_limit_must_be_a_long_one() -> None:
    def answer() -> tuple[str, str]:
        return "3.8.8", ""

    assert doctor.prefect({}, answer).status == "ok"
    assert doctor.prefect({doctor.LIMIT: "90"}, answer).status == "ok"
    for bad in ("20", "soon", ""):
        assert doctor.prefect({doctor.LIMIT: bad}, answer).status == "warn"


def test_a_prefect_server_that_does_not_answer_is_a_warning_without_its_password() -> None:
    found = doctor.prefect({}, lambda: ("3.8.8", "http://me:hunter22@127.0.0.1:9/api"))
    assert found.status == "warn"
    assert "//***@127.0.0.1:9/api does not answer" in found.what
    assert "hunter22" not in str(found)


def test_a_prefect_that_cannot_be_imported_or_hangs_is_said() -> None:
    def broken() -> tuple[str, str]:
        raise subprocess.CalledProcessError(1, "python", stderr="Traceback ...\nTypeError: Body() got 'min_items'\n")

    def hangs() -> tuple[str, str]:
        raise subprocess.TimeoutExpired("python", 120)

    assert doctor.prefect({}, broken).status == "fail"
    assert doctor.prefect({}, broken).what.endswith("TypeError: Body() got 'min_items'")
    assert doctor.prefect({}, hangs).status == "warn"


# -------------------------------------------------------------------------------------------------------------- machine


def test_more_threads_than_processors_are_a_warning() -> None:
    assert doctor.threads(2, 2).status == "ok"
    assert doctor.threads(2, 8).remedy == "set OMP_NUM_THREADS=2"


@pytest.mark.parametrize(("free", "status"), [(-1, "ok"), (8 << 30, "ok"), (500 * MB, "warn")])
def test_little_memory_is_a_warning(free: int, status: str) -> None:
    assert doctor.memory(free).status == status


def test_a_container_bounds_the_memory(tmp_path: Path) -> None:
    proc = tmp_path / "meminfo"
    proc.write_text("MemTotal: 8000 kB\nMemAvailable:    4000 kB\n")
    assert machine._memory(proc, tmp_path) == 4000 * 1024
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert machine._memory(proc, tmp_path) == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert machine._memory(proc, tmp_path) == 4000 * 1024
    assert machine._memory(tmp_path / "none", tmp_path / "none") == -1


class Device:
    """Stands for torch.cuda."""

    def __init__(self, there: bool, said: str = "") -> None:
        self.there, self.said = there, said

    def is_available(self) -> bool:
        if self.said:
            import warnings

            warnings.warn(self.said, stacklevel=1)
        return self.there

    def device_count(self) -> int:
        return 1

    def get_device_name(self, number: int) -> str:
        return "A GPU"

    def mem_get_info(self, number: int) -> tuple[int, int]:
        return 60 << 30, 80 << 30


def test_devices_are_named_and_a_driver_that_does_not_fit_is_a_warning() -> None:
    assert doctor.cuda(Device(there=False)) == Finding("cuda", "ok", "none")
    assert doctor.cuda(Device(there=True)).what == "A GPU, 60.0 of 80.0 GB free"
    found = doctor.cuda(Device(there=False, said="The NVIDIA driver\nis too old"))
    assert (found.status, found.what) == ("warn", "none: The NVIDIA driver is too old")


def test_a_sandbox_that_is_missing_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available, "bubblewrap", lambda: None)
    found = doctor.sandbox(available.tried.__wrapped__)
    assert (found.status, found.what.split(":")[0], found.remedy) == ("warn", "bwrap is missing", available.INSTALL)


@pytest.mark.parametrize(
    ("said", "apparmor", "what"),
    [
        ("bwrap: Unknown option --disable-userns", False, "bwrap is too old"),
        ("bwrap: No permissions to create new namespace, likely because", False, "user namespaces refused"),
        ("bwrap: setting up uid map: Permission denied", True, "AppArmor refuses user namespaces"),
        ("bwrap: setting up uid map: Permission denied", False, "user namespaces refused"),
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", False, "mounts inside a namespace are refused"),
        ("bwrap: execvp true: No such file or directory", True, "bwrap fails"),
        ("bwrap: execvp /usr/bin/python3: No such file or directory", False, "Python does not start in it"),
        ("bwrap: prctl(PR_SET_SECCOMP): Invalid argument", False, "the seccomp filter is refused"),
        ("", False, "bwrap fails"),
    ],
)
def test_what_refuses_the_sandbox_is_told(said: str, apparmor: bool, what: str) -> None:
    found, remedy = available.refusal(said, apparmor)
    assert found.startswith(what)
    assert remedy


def test_the_sandbox_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """`false` refuses whatever it is given: what counts is that the profile was run."""
    monkeypatch.setattr(bubble, "bubblewrap", lambda: shutil.which("false"))
    monkeypatch.setattr(available, "bubblewrap", lambda: shutil.which("false"))
    found = doctor.sandbox(available.tried.__wrapped__)
    assert (found.status, found.what.split(" (")[0]) == ("warn", "bwrap fails")


# ------------------------------------------------------------------------------------------------------- the database's place


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ((3, 6, 23), "ok"),
        ((3, 7, 0), "warn"),
        ((3, 40, 1), "warn"),
        ((3, 51, 2), "warn"),
        ((3, 51, 3), "ok"),
        ((3, 54, 1), "ok"),
    ],
)
def test_a_sqlite_with_the_defect_of_its_log_is_a_warning(version: tuple[int, ...], status: str) -> None:
    found = doctor.sqlite(version)
    assert (found.status, "PostgreSQL" in found.remedy) == (status, status == "warn")


def test_a_folder_is_tried_by_writing_to_it(tmp_path: Path) -> None:
    assert doctor.writable(tmp_path, tmp_path / "a.db").status == "ok"
    assert list(tmp_path.iterdir()) == []
    assert "does not exist" in doctor.writable(tmp_path / "none", tmp_path / "none" / "a.db").what
    if sys.platform == "linux":  # nobody, not even root, may write here
        assert "cannot be written to" in doctor.writable(Path("/proc"), Path("/proc/a.db")).what


MOUNTS = """\
/dev/sda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb /home/local xfs rw 0 0
share /mnt/my\\040share cifs rw 0 0
/dev/sdc /twice nfs rw 0 0
/dev/sdc /twice btrfs rw 0 0
odd
"""


@pytest.mark.parametrize(
    ("folder", "status", "what"),
    [
        ("/", "ok", "ext4"),
        ("/homework", "ok", "ext4"),
        ("/home", "fail", "nfs4"),
        ("/home/me/work", "fail", "nfs4"),
        ("/home/local/work", "ok", "xfs"),
        ("/mnt/my share/x", "fail", "cifs"),
        ("/twice", "ok", "btrfs"),
    ],
)
def test_a_network_file_system_is_refused(folder: str, status: str, what: str) -> None:
    found = doctor.file_system(Path(folder), MOUNTS)
    assert found.status == status
    assert what in found.what
    assert doctor.file_system(Path(folder), "").status == "ok"


@pytest.mark.parametrize(
    ("free", "status"), [(3 << 30, "ok"), (2 << 30, "ok"), (1 << 30, "warn"), (200 * MB, "warn"), (99 * MB, "fail")]
)
def test_a_disk_that_is_nearly_full_is_said(tmp_path: Path, free: int, status: str) -> None:
    assert doctor.disk(tmp_path, free).status == status


def test_a_slow_commit_is_a_warning(tmp_path: Path) -> None:
    assert doctor.latency(tmp_path).name == "commit"
    assert list(tmp_path.iterdir()) == []
    assert doctor.commits(lambda: None, slow=50).status == "ok"
    assert doctor.commits(lambda: None, slow=-1).status == "warn"


# --------------------------------------------------------------------------------------------------------- the database


def made(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for statement in statements:
            connection.execute(statement)
    return path


def versioned(path: Path, version: str) -> Path:
    return made(
        path, f"CREATE TABLE {schema.VERSION_TABLE} (version_num)", f"INSERT INTO {schema.VERSION_TABLE} VALUES ('{version}')"
    )


def _damaged(path: Path) -> Path:
    versioned(path, schema.HEAD)
    made(path, "CREATE TABLE t (x)", *["INSERT INTO t VALUES (zeroblob(900))"] * 40)
    data = bytearray(path.read_bytes())
    data[-8000:-4000] = b"\xff" * 4000
    path.write_bytes(data)
    return path


FILES: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "missing": (lambda path: None, "ok", "is not there yet"),
    "no bytes": (Path.touch, "ok", "is not there yet"),
    "no tables": (made, "ok", "empty"),
    "ours": (lambda path: versioned(path, schema.HEAD), "ok", f"schema version {schema.HEAD}, 0.0 MB, checked"),
    "older": (lambda path: versioned(path, schema.VERSIONS[0]), "ok", f"brought up to {schema.HEAD}"),
    "newer": (lambda path: versioned(path, "0999"), "fail", f"schema version '0999', this program knows up to '{schema.HEAD}'"),
    "another application": (lambda path: made(path, "CREATE TABLE recipes (x)"), "fail", "(it has a table 'recipes')"),
    "a directory": (Path.mkdir, "fail", "is a directory"),
    "text": (lambda path: path.write_text("id,answer\n" * 9), "fail", "is not a SQLite database"),
    "a damaged page": (_damaged, "fail", "is damaged"),
    "a damaged file": (lambda path: path.write_bytes(b"SQLite format 3\x00" + b"\xff" * 5000), "fail", "'"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_is_examined_and_left_as_it_was(tmp_path: Path, alone: None, case: str) -> None:
    make, status, what = FILES[case]
    path = tmp_path / "a b#.db"
    make(path)
    before = sorted((p.name, p.is_file() and p.read_bytes()) for p in tmp_path.iterdir())
    found = by_name(examine(str(path)))["database"]
    assert (found.status, bool(found.remedy)) == (status, status == "fail"), found
    assert what in found.what
    assert str(path) in found.what
    assert sorted((p.name, p.is_file() and p.read_bytes()) for p in tmp_path.iterdir()) == before


def test_a_file_that_is_being_written_is_read_with_its_log(tmp_path: Path) -> None:
    path = versioned(tmp_path / "a.db", schema.HEAD)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute(f"UPDATE {schema.VERSION_TABLE} SET version_num = '0999'")  # in the log only
        writer.execute("BEGIN IMMEDIATE")
        assert "'0999'" in doctor.database_file(path).what


def test_a_check_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    path = versioned(tmp_path / "a.db", schema.HEAD)
    made(path, "CREATE TABLE t (x)", "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n LIMIT 9999) "
         "INSERT INTO t SELECT i FROM n")  # fmt: skip
    found = doctor.database_file(path, seconds=-1)
    assert (found.status, "not checked to its end" in found.what) == ("warn", True)


def test_a_missing_folder_is_a_failure_and_is_not_made(tmp_path: Path, alone: None) -> None:
    found = by_name(examine(str(tmp_path / "no" / "such" / "a.db")))
    assert found["folder"].status == "fail"
    assert "does not exist" in found["folder"].what
    assert {found[name].status for name in ("disk", "file system", "database")} <= {"ok", "warn"}
    assert "commit" not in found
    assert list(tmp_path.iterdir()) == []


def test_the_default_folder_may_be_missing(tmp_path: Path, alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.cli import DATABASE

    monkeypatch.chdir(tmp_path)
    assert by_name(examine(DATABASE))["folder"].status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_new_place_of_either_kind_is_fine(where: str, alone: None) -> None:
    assert {each.name: each.what for each in examine(where) if each.status == "fail"} == {}


def test_a_server_is_examined(postgres: Postgres, alone: None) -> None:
    url = postgres.url("doctor")
    found = by_name(examine(url))
    assert (found["database"].status, found["commit"].status) == ("ok", "ok")
    assert "empty: the first run makes its tables" in found["database"].what
    assert _version(found["database"].what) >= 14
    assert {"sqlite", "disk", "folder"} & found.keys() == set()
    engine = create_engine(url)
    with engine.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")) == 0, "left as it was"
        connection.execute(text("CREATE TABLE recipes (x INTEGER)"))
    assert doctor.database_server(make_url(url)).status == "ok"  # others' tables may be beside ours
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE run (x INTEGER)"))
    assert "of another application (it has a table 'run')" in doctor.database_server(make_url(url)).what
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {schema.VERSION_TABLE} (version_num TEXT)"))
        connection.execute(text(f"INSERT INTO {schema.VERSION_TABLE} VALUES ('0999')"))
    assert "schema version '0999'" in doctor.database_server(make_url(url)).what
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {schema.VERSION_TABLE} SET version_num = '{schema.HEAD}'"))
        connection.execute(text(f"ALTER DATABASE {make_url(url).database} SET synchronous_commit = off"))
    engine.dispose()
    found = by_name(examine(url))
    assert found["database"].status == "warn"
    assert "synchronous_commit off" in found["database"].what
    postgres.drop(url)
    assert "does not exist" in doctor.database_server(make_url(url)).what


def _version(what: str) -> int:
    return int(what.split("PostgreSQL ")[1].split(".")[0])


def test_a_role_that_may_make_no_tables_is_a_failure(postgres: Postgres) -> None:
    url = make_url(postgres.url("rights")).set(username="guarded", password=PASSWORD)
    found = doctor.database_server(url)
    assert (found.status, "may make no tables" in found.what) == ("fail", True)
    postgres.drop(url.render_as_string(hide_password=False))


def test_a_wrong_password_is_said_and_none_is_told(postgres: Postgres, alone: None) -> None:
    right, wrong = postgres.url_with_password(), postgres.url_with_password("correct battery")
    for url, status in ((right, "ok"), (wrong, "fail")):
        found = examine(url)
        assert by_name(found)["database"].status == status
        assert by_name(found)["commit"].status == status
        assert "battery" not in str(found)
        assert "horse" not in str(found)
        postgres.drop(url)


def test_a_server_that_is_away_is_a_failure(postgres: Postgres, alone: None) -> None:
    url = postgres.url("away")
    postgres.stop()
    try:
        found = by_name(examine(url))
    finally:
        postgres.start()
    assert (found["database"].status, found["commit"].status) == ("fail", "fail")
    assert "check that the server runs" in found["database"].remedy
    postgres.drop(url)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@host:port/db",
        "mysql://me:secret@host/db",
        "postgresql+nodriver://me:secret@host/db",
        "sqlite://",
        "x://",
    ],
)
def test_a_url_that_cannot_be_read_is_a_failure_that_tells_no_password(alone: None, url: str) -> None:
    found = by_name(examine(url))["database"]
    assert found.status == "fail"
    assert "secret" not in str(found)


# ------------------------------------------------------------------------------------------------------------ the report


def test_a_check_that_raises_is_a_failure_and_the_others_go_on(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Finding:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(doctor, "memory", broken)
    found = by_name(examine(None))
    assert (found["memory"].status, found["memory"].what) == ("fail", "could not be examined: RuntimeError: two lines")
    assert found["python"].status == "ok"


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_only_a_failure_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: Any, code: int
) -> None:
    one = Finding("disk", status, "a\x1b[2Jb", "mend it" if status != "ok" else "")
    monkeypatch.setattr(doctor, "findings", lambda database: iter([one]))
    assert doctor.run(None) == code
    line = capsys.readouterr().out
    assert line.startswith(f"{status:<4}  disk")
    assert line.count("\n") == 1
    assert "\x1b" not in line
    assert doctor.run(None, json=True) == code
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"name": "disk", "status": status, "what": "a\x1b[2Jb", "remedy": one.remedy}
    ]


@pytest.mark.crash
def test_a_real_examination_of_this_machine(tmp_path: Path) -> None:
    script = f"import sys; from flows.doctor import run; sys.exit(run({str(tmp_path / 'a.db')!r}, json=True))"
    done = subprocess.run([sys.executable, "-c", script], cwd=HERE, capture_output=True, text=True, timeout=240, check=False)
    found = by_name([Finding(**json.loads(line)) for line in done.stdout.splitlines()])
    assert done.returncode == int(any(each.status == "fail" for each in found.values()))
    assert list(found) == [
        *("python", "packages", "fastapi", "code", "models", "threads", "memory", "cuda", "prefect", "sandbox"),
        *("sqlite", "folder", "file system", "disk", "database", "commit"),
    ]
    assert {each.status for each in found.values()} <= {"ok", "warn", "fail"}
    for each in found.values():
        assert each.what
        assert bool(each.remedy) == (each.status != "ok")
    assert {found[name].status for name in ("python", "models", "code", "folder", "database")} == {"ok"}
    assert list(tmp_path.iterdir()) == []
