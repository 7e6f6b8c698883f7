"""The index never shows a folder as it was: with it, `collect` finds what it finds without it."""

import inspect
import json
import multiprocessing
import os
import resource
import shutil
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from factories import args

from dg_batchformer.data import benchmarks
from dg_batchformer.selection import columns, index, parallel, reading, runs
from dg_batchformer.selection.collect import collect

from .sweeps import nobody, planned, run_of, same_run, texts


@pytest.fixture(autouse=True)
def everything_is_settled(monkeypatch):
    """As after some seconds; what is different within them is tested by name."""
    monkeypatch.setattr(index, "SETTLED_NS", -(10**9))


@pytest.fixture
def sweep(tmp_path):
    """Finished runs of all kinds, and some that are not finished."""
    folder = tmp_path / "sweep"
    described = {"backbone": "resnet50", "weights": "imagenet", "versions": {"torch": "2.4"}, "data_fingerprint": "ab"}
    macro = {f"env{i}_in_macro_acc": 0.1 + 0.2 * i for i in range(4)}
    run_of(folder, 0, 1 / 3, name="a", hparams={"lr": 0.1, "layers": ["layer1"]}, **described)
    run_of(folder, 1, name="b", swad_window=[3, 9], **described, **macro)
    run_of(folder, 2, name="c", given={"protocol": "tllib", "steps": 100, "hparams": '{"lr": 1}'})
    run_of(folder, 0, name="debug", dataset="Debug28", n_environments=3)
    run_of(folder, 3, name="d", done=False)
    run_of(folder, 0, 1 / 3, name="twice")
    run_of(folder, 3, name="torn")
    with (folder / "torn" / "results.jsonl").open("a") as file:
        file.write('{"step": 3')
    planned(folder, "e", **args([1], trial=1))
    planned(folder, "done", **args([2], trial=2))
    (folder / "done" / "done").touch()
    return folder


def without_index(folder, monkeypatch):
    """What `collect` finds where there is no index and none can be written."""
    with monkeypatch.context() as patched:
        patched.setattr(index, "INDEX", "none/none")
        return collect([folder])


def assert_same(found, expected):
    assert found.folders == expected.folders
    assert list(found.runs) == list(expected.runs)
    assert all(same_run(found.runs[identity], run) for identity, run in expected.runs.items())
    assert found.planned == expected.planned
    assert found.problems == expected.problems


def folders_read(monkeypatch, folder):
    """The names of the runs' folders that `collect` reads."""
    names = []

    def read(path):
        names.append(path.name)
        return read_folder(path)

    read_folder = parallel.read_folder
    with monkeypatch.context() as patched:
        patched.setattr(parallel, "read_folder", read)
        collect([folder])
    return names


UNFINISHED = ["d", "e"]


def test_a_second_call_reads_what_is_not_finished_alone(sweep, monkeypatch):
    assert len(folders_read(monkeypatch, sweep)) == sum(path.is_dir() for path in sweep.iterdir())
    assert folders_read(monkeypatch, sweep) == UNFINISHED


def test_with_the_index_everything_is_as_without_it(sweep, monkeypatch):
    expected = without_index(sweep, monkeypatch)
    assert (len(expected.runs), len(expected.planned)) == (5, 3)
    assert not (sweep / index.INDEX).exists()
    for _ in range(3):
        assert_same(collect([sweep]), expected)
        assert (sweep / index.INDEX).exists()


def rewritten_alike(folder):
    """Another result in as many bytes and, as far as that can be, at the same time."""
    path = folder / "results.jsonl"
    before = path.stat()
    path.write_text(path.read_text().replace("0.9", "0.8"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def replaced_alike(folder):
    path = folder / "results.jsonl"
    shutil.copy2(path, folder / "other")
    (folder / "other").write_text(path.read_text().replace("0.9", "0.8"))
    os.utime(folder / "other", ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    os.replace(folder / "other", path)


def truncated(folder):
    os.truncate(folder / "results.jsonl", 40)


def emptied(folder):
    os.truncate(folder / "results.jsonl", 0)


def appended(folder):
    with (folder / "results.jsonl").open("a") as file:
        line = json.loads((folder / "results.jsonl").read_text())
        file.write(json.dumps({**line, "step": 600}) + "\n")


def results_removed(folder):
    (folder / "results.jsonl").unlink()


def done_removed(folder):
    (folder / "done").unlink()


def described_otherwise(folder):
    (folder / "job.json").write_text(json.dumps(args([3], trial=5)))


def removed(folder):
    shutil.rmtree(folder)


def renamed(folder):
    folder.rename(folder.with_name("0"))


def exchanged(folder):
    other = folder.with_name("b")
    folder.rename(folder.with_name("aside"))
    other.rename(folder)
    folder.with_name("aside").rename(other)


def added(folder):
    run_of(folder.parent, 0, trial=7, name="new")


def begun_anew(folder):
    shutil.rmtree(folder)
    run_of(folder.parent, 0, 0.77, name=folder.name)


CHANGES = [rewritten_alike, replaced_alike, truncated, emptied, appended, results_removed, done_removed]
CHANGES += [described_otherwise, removed, renamed, exchanged, added, begun_anew]


@pytest.mark.parametrize("change", CHANGES)
def test_the_index_is_never_stale(sweep, monkeypatch, change):
    before = collect([sweep])
    change(sweep / "a")
    expected = without_index(sweep, monkeypatch)
    assert (list(expected.runs.values()), expected.problems) != (list(before.runs.values()), before.problems)
    assert_same(collect([sweep]), expected)
    assert_same(collect([sweep]), expected)


def test_a_run_that_finishes_is_read_again(sweep, monkeypatch):
    collect([sweep])
    (sweep / "d" / "done").touch()
    expected = without_index(sweep, monkeypatch)
    assert (3,) in {identity.key.test_envs for identity in expected.runs}
    assert_same(collect([sweep]), expected)
    assert folders_read(monkeypatch, sweep) == ["e"]


def test_what_is_unmarked_and_marked_again_counts_again(sweep, monkeypatch):
    expected = collect([sweep])
    (sweep / "a" / "done").unlink()
    assert len(collect([sweep]).problems) == len(expected.problems)  # unfinished now, and its double counts
    (sweep / "a" / "done").touch()
    assert_same(collect([sweep]), without_index(sweep, monkeypatch))


@pytest.mark.parametrize("way", [shutil.move, shutil.copytree])
def test_a_sweep_that_is_elsewhere_now_is_named_as_it_is(sweep, monkeypatch, way):
    """Its index travels along; runs and messages have the new paths."""
    collect([sweep])
    there = sweep.parent / "elsewhere" / "renamed"
    there.parent.mkdir()
    way(sweep, there)
    assert (there / index.INDEX).exists()
    found = collect([there])
    assert_same(found, without_index(there, monkeypatch))
    assert all(run.folder.startswith(str(there)) for run in found.runs.values())
    assert all(str(there) in text for text in texts(found.problems))


def test_a_moved_sweep_is_not_read_again(sweep, monkeypatch):
    collect([sweep])
    there = sweep.rename(sweep.with_name("renamed"))
    assert folders_read(monkeypatch, there) == UNFINISHED


@pytest.mark.parametrize("given", [".", "./", "../sweep", "sweep/../sweep"])
def test_paths_are_as_given(sweep, monkeypatch, given):
    collect([sweep])
    monkeypatch.chdir(sweep.parent if given.startswith("sweep") else sweep)
    found = collect([Path(given)])
    assert_same(found, without_index(Path(given), monkeypatch))
    assert {run.folder for run in found.runs.values()} == {
        str(Path(given) / name) for name in ("a", "b", "c", "debug", "torn")
    }


def garbled(path):
    content = bytearray(path.read_bytes())
    for i in range(0, len(content), 97):
        content[i] ^= 0xFF
    path.write_bytes(content)


def torn(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def of_another_version(path):
    with np.load(path) as arrays:
        held = dict(arrays)
    text = json.loads(held["text"].tobytes())
    held["text"] = np.frombuffer(json.dumps({**text, "format": "0"}).encode(), dtype=np.uint8)
    with path.open("wb") as file:
        np.savez(file, **held)


def foreign(path):
    with path.open("wb") as file:
        np.savez(file, x=np.arange(3))


def foreign_array(path):
    with path.open("wb") as file:
        np.save(file, np.arange(3))


def foreign_text(path):
    with path.open("wb") as file:
        np.savez(file, text=np.frombuffer(b"[1, 2]", dtype=np.uint8))


def pickled(path):
    with path.open("wb") as file:
        np.savez(file, text=np.array([{"a": 1}], dtype=object))


def compressed_and_garbled(path):
    with path.open("wb") as file:
        np.savez_compressed(file, text=np.zeros(10**5, dtype=np.uint8))
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(content)


def not_numpy(path):
    path.write_text("an index, but of something else")


def a_directory(path):
    path.unlink()
    path.mkdir()


def a_dangling_link(path):
    path.unlink()
    path.symlink_to(path.with_name("nowhere"))


DAMAGES = [garbled, torn, empty, of_another_version, foreign, foreign_array, foreign_text, pickled]
DAMAGES += [compressed_and_garbled, not_numpy, a_directory, a_dangling_link]


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_index_that_is_none_is_as_if_there_were_none(sweep, monkeypatch, damage):
    expected = collect([sweep])
    damage(sweep / index.INDEX)
    assert_same(collect([sweep]), expected)
    assert_same(collect([sweep]), expected)
    if damage is not a_directory:
        assert folders_read(monkeypatch, sweep) == UNFINISHED
    assert [path.name for path in sweep.glob(f"{index.INDEX}-*")] == []


def test_a_torn_byte_anywhere_changes_nothing(sweep):
    """Wherever the file is cut or a byte is changed."""
    expected = collect([sweep])
    content = (sweep / index.INDEX).read_bytes()
    for position in range(0, len(content), max(1, len(content) // 60)):
        (sweep / index.INDEX).write_bytes(content[:position])
        assert_same(collect([sweep]), expected)
        changed = bytearray(content)
        changed[position] ^= 0x5A
        (sweep / index.INDEX).write_bytes(changed)
        assert_same(collect([sweep]), expected)


def test_a_folder_that_cannot_be_written_to(sweep, public_path, monkeypatch):
    sweep = Path(shutil.move(sweep, public_path))
    expected = without_index(sweep, monkeypatch)
    sweep.chmod(0o555)
    with nobody():
        assert not os.access(sweep, os.W_OK, effective_ids=True)
        assert_same(collect([sweep]), expected)
        assert_same(collect([sweep]), expected)
    assert not (sweep / index.INDEX).exists()
    sweep.chmod(0o755)
    collect([sweep])
    appended(sweep / "a")
    expected = without_index(sweep, monkeypatch)
    sweep.chmod(0o555)
    with nobody():
        assert_same(collect([sweep]), expected)
    sweep.chmod(0o755)


def test_an_index_is_for_all_who_may_read_the_runs(sweep, public_path, monkeypatch):
    sweep = Path(shutil.move(sweep, public_path))
    before = os.umask(0o022)
    try:
        collect([sweep])
    finally:
        os.umask(before)
    assert stat.S_IMODE((sweep / index.INDEX).stat().st_mode) == 0o644
    sweep.chmod(0o555)
    with nobody():
        assert folders_read(monkeypatch, sweep) == UNFINISHED
    sweep.chmod(0o755)


def test_a_disk_without_room(sweep, monkeypatch):
    expected = without_index(sweep, monkeypatch)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        assert_same(collect([sweep]), expected)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(sweep.glob(f"{index.INDEX}*"))
    assert_same(collect([sweep]), expected)


def test_what_was_just_written_is_read_again(sweep, monkeypatch):
    """Until a later change is sure to show in the times of the file."""
    monkeypatch.setattr(index, "SETTLED_NS", 3 * 10**9)
    everything = sorted(path.name for path in sweep.iterdir() if path.is_dir())
    assert folders_read(monkeypatch, sweep) == everything
    assert folders_read(monkeypatch, sweep) == everything
    rewritten_alike(sweep / "a")
    assert_same(collect([sweep]), without_index(sweep, monkeypatch))
    soon = time.time() + 3600
    os.utime(sweep / "a" / "results.jsonl", (soon, soon))
    monkeypatch.setattr(index, "SETTLED_NS", -(10**9))
    collect([sweep])
    assert folders_read(monkeypatch, sweep) == ["a", *UNFINISHED]  # of the future


def test_a_change_while_a_run_is_read_shows_in_the_next_call(sweep, monkeypatch):
    read_folder = parallel.read_folder

    def read(path):
        reading = read_folder(path)
        if path.name == "a":
            rewritten_alike(path)
        return reading

    with monkeypatch.context() as patched:
        patched.setattr(parallel, "read_folder", read)
        collect([sweep])
    assert_same(collect([sweep]), without_index(sweep, monkeypatch))


def test_what_could_not_be_read_is_tried_again(sweep, monkeypatch):
    """A file server that fails for a while leaves no trace in the index."""
    path = sweep / "a" / "results.jsonl"
    expected = without_index(sweep, monkeypatch)
    read = reading._ordinary

    def failing(folder):
        if folder == path.parent:
            raise OSError(5, "Input/output error", str(path))
        return read(folder)

    with monkeypatch.context() as patched:
        patched.setattr(reading, "_ordinary", failing)
        found = collect([sweep])
    assert f"{path} cannot be read (Input/output error)" in texts(found.problems)
    assert_same(collect([sweep]), expected)


def test_what_killed_writers_left_is_removed_after_an_hour(sweep):
    old, new = (sweep / f"{index.INDEX}-{name}" for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half an index")
    long_ago = time.time() - 2 * 3600
    os.utime(old, (long_ago, long_ago))
    collect([sweep])
    assert [path.name for path in sweep.glob(f"{index.INDEX}-*")] == [new.name]


def test_an_index_forgets_what_is_gone(sweep):
    collect([sweep])
    size = (sweep / index.INDEX).stat().st_size
    for name in ("a", "b", "c"):
        shutil.rmtree(sweep / name)
    collect([sweep])
    assert (sweep / index.INDEX).stat().st_size < size


def collect_often(folder, n):
    for _ in range(n):
        assert len(collect([folder]).runs) == 5


def test_several_calls_at_once(sweep, monkeypatch):
    expected = without_index(sweep, monkeypatch)
    processes = [multiprocessing.get_context("fork").Process(target=collect_often, args=(sweep, 5)) for _ in range(3)]
    for process in processes:
        process.start()
    for _ in range(5):
        (sweep / index.INDEX).unlink(missing_ok=True)
        assert_same(collect([sweep]), expected)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert not list(sweep.glob(f"{index.INDEX}-*"))
    assert_same(collect([sweep]), expected)


def test_all_code_that_decides_what_is_read_is_hashed(monkeypatch):
    hashed = []
    monkeypatch.setattr(Path, "read_bytes", lambda path: hashed.append(path) or b"")
    index.written_by.__wrapped__()
    used = [value for module in (reading, columns, runs) for value in vars(module).values()]
    named = [value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", "") for value in used]
    read = {name for name in named if name.startswith(("dg_batchformer.selection.", "dg_batchformer.runs.records"))}
    assert {f"dg_batchformer.selection.{name}" for name in ("columns", "runs", "reading")} <= read
    assert {Path(sys.modules[name].__file__) for name in read} <= set(hashed)
    assert Path(benchmarks.__file__) in hashed
