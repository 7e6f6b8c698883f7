"""Small files are there whole or not at all, and the end of a large one is read alone."""

import pytest

from dg_batchformer.runs import files


def test_a_small_file_is_marked_once(tmp_path):
    for text in ("first", "second"):
        files.write_once(tmp_path / "note", text)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("note", "first")]


def test_a_small_file_is_marked_once_where_files_have_no_links(tmp_path, monkeypatch):
    def refused(*paths):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refused)
    test_a_small_file_is_marked_once(tmp_path)


def test_last_lines(tmp_path):
    log = tmp_path / "log"
    assert files.last_lines(log) == []
    log.write_text("one\n\ntwo\nthree\nfour\n\n")
    assert files.last_lines(log) == ["two", "three", "four"]
    assert files.last_lines(log, 9) == ["one", "two", "three", "four"]


@pytest.mark.parametrize("length", [10, files.TAIL_BYTES - 1, files.TAIL_BYTES, 5 * files.TAIL_BYTES])
def test_the_last_lines_of_a_long_file_are_whole(tmp_path, length):
    lines = ["é" * length + str(i) for i in range(4)]
    (tmp_path / "log").write_text("\n".join(["earlier"] * 9999 + lines) + "\n", encoding="utf-8")
    assert files.last_lines(tmp_path / "log") == lines[1:]
    assert files.last_lines(tmp_path / "log", 1) == lines[3:]
