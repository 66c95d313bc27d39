"""Where files and folders are written: whole or not at all, and over nothing that nobody has allowed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from flows import places


def test_two_that_write_one_file_at_once_do_not_clash(tmp_path: Path) -> None:
    """They shared FILE.part: one renamed it, the other found it gone."""
    place = tmp_path / "page.html"
    with places.making(place) as first:
        first.write_text("first")
        with places.making(place) as second:
            assert not second.exists()
            second.write_text("second")
        assert place.read_text() == "second"
    assert place.read_text() == "first"
    assert os.listdir(tmp_path) == ["page.html"]


@pytest.mark.parametrize("folder", [False, True])
def test_what_is_made_has_the_rights_of_any_other(tmp_path: Path, folder: bool) -> None:
    before = os.umask(0o022)
    try:
        with places.making(tmp_path / "made", folder) as part:
            (part / "a" if folder else part).write_text("a")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == (0o755 if folder else 0o644)


def test_a_folder_that_cannot_take_the_place_leaves_the_old_one_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the two renames there is none of them."""
    place, rename = tmp_path / "out", Path.rename
    place.mkdir()
    (place / "old").touch()

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), places.making(place, folder=True) as part:
        (part / "new").touch()
    assert [str(each.relative_to(tmp_path)) for each in sorted(tmp_path.rglob("*"))] == ["out", "out/old"]


def test_a_link_is_replaced_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for name, to in (("link", "mine"), ("dangling", "nowhere")):
        (tmp_path / name).symlink_to(to)
        with pytest.raises(ValueError, match="is there already"):
            places.checked(tmp_path / name, force=False)
        places.checked(tmp_path / name, force=True)
        with places.making(tmp_path / name) as part:
            part.write_text("new")
        assert (tmp_path / name).read_text() == "new"
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("end", ["-turn", "-wal", "-shm", "-journal"])
def test_the_files_that_stand_beside_a_database_are_refused(tmp_path: Path, end: str) -> None:
    """Writers take turns by a lock on the one, and the others hold what is not in the database yet."""
    for name in ("runs.db", "runs.db-turn", "mine"):
        (tmp_path / name).touch()
    for force in (False, True):
        with pytest.raises(ValueError, match=f"runs.db{end}' belongs to the database '.*runs.db'; name another place"):
            places.checked(tmp_path / f"runs.db{end}", force)
    places.checked(tmp_path / f"mine{end}", force=False)
