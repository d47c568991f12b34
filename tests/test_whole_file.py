"""A file is whole at any moment, whatever happens while it is written."""

from __future__ import annotations

import pytest

from dip4d.whole_file import written_beside


def test_a_file_takes_its_place_when_it_is_whole(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with written_beside(path) as place:
        place.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_there_stays_if_writing_fails(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def fail() -> None:
        with written_beside(path) as place:
            place.write_text("ne")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
