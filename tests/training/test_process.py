"""What a run prints is kept, and shown where that is wanted."""

import sys

import pytest

from dg_batchformer.runs.folder import RunFolder
from dg_batchformer.training.process import captured


@pytest.mark.parametrize("echo", [True, False])
def test_output_is_captured_and_echoed(tmp_path, capsys, echo):
    with captured(RunFolder(tmp_path), echo=echo):
        print("to out")
        print("to err", file=sys.stderr)
    assert (tmp_path / "out.txt").read_text() == "to out\n"
    assert (tmp_path / "err.txt").read_text() == "to err\n"
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (("to out\n", "to err\n") if echo else ("", ""))
    print("after")  # goes where it went before
    assert (tmp_path / "out.txt").read_text() == "to out\n"


def test_a_reader_that_leaves_does_not_end_the_run(tmp_path, monkeypatch):
    class Gone:
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", Gone())
    with captured(RunFolder(tmp_path), echo=True):
        print("one")
        print("two")
    assert (tmp_path / "out.txt").read_text() == "one\ntwo\n"
