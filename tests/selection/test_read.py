"""Whatever lies in a sweep's folder is counted, or named and left out; nothing of it stops the table."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import pytest
from factories import args, record, run_of, texts, write_run
from factories import sweep as make_sweep

from dg_batchformer import cli
from dg_batchformer.runs.records import FOREIGN, OUT_OF_RANGE, REPEATED, TORN
from dg_batchformer.selection import (
    ILL_DESCRIBED,
    INCOMPLETE,
    LEFT_OUT,
    NO_ARGS,
    STRANGERS,
    UNFINISHED,
    UNREADABLE,
    UNUSABLE,
    collect,
    read_folder,
)

LINE = {**record(600, [0.5] * 4, [0.5] * 4, args([0])), "hparams": {}}


def lines(*added):
    """Adds lines, JSON values or bytes, to a run's records."""

    def damage(folder):
        with (folder / "results.jsonl").open("ab") as file:
            for line in added:
                file.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")

    return damage


def instead(*given):
    """Replaces the run by one of other records."""

    def damage(folder):
        shutil.rmtree(folder)
        write_run(folder, given)

    return damage


def of(**changed):
    """Replaces the run by one with other args."""
    return instead({**LINE, "args": {**LINE["args"], **changed}})


def job(content):
    """Replaces what the folder says it is of."""

    def damage(folder):
        (folder / "job.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    return damage


def without(name):
    """Removes a file."""
    return lambda folder: (folder / name).unlink()


def a_directory(name):
    """Puts a directory in a file's place."""

    def damage(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return damage


def a_dangling_link(name):
    """Puts a link to nowhere in a file's place."""

    def damage(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(folder / "nowhere")

    return damage


def emptied(folder):
    (folder / "results.jsonl").write_bytes(b"")


def failed(folder):
    (folder / "done").rename(folder / "failed")


def not_launched(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    job(args([0]))(folder)


def longer(n, **given):
    """Replaces the run by one of so many environments."""
    return instead(record(0, [0.5] * n, [0.5] * n, {**args([0]), **given}))


HARMLESS = {
    "torn line": (lines(b'{"step": 3'), TORN, "results.jsonl:2 is not a complete record: skipped"),
    "bytes": (lines(b"\xff\xfe\n"), TORN, "results.jsonl:2 is not a complete record"),
    "deep nesting": (lines(b'{"a":' + b"[" * 10**5 + b"\n"), TORN, "results.jsonl:2 is not a complete record"),
    "huge number": (lines(b"9" * 5000 + b"\n"), TORN, "results.jsonl:2 is not a complete record"),
    "list": (lines([]), FOREIGN, "results.jsonl:2 has no step: skipped"),
    "null": (lines(None), FOREIGN, "results.jsonl:2 has no step"),
    "number": (lines(7), FOREIGN, "results.jsonl:2 has no step"),
    "no args": (lines({"step": 3}), FOREIGN, "results.jsonl:2 has no args"),
    "trial as text": (lines({**LINE, "args": {**args([0]), "trial_seed": "0"}}), FOREIGN, ":2 has invalid args"),
    "repeated step": (lines({**LINE, "step": 300}), REPEATED, "results.jsonl:2 repeats step 300: only the last counts"),
    "NaN": (lines({**LINE, "env1_out_acc": float("nan")}), OUT_OF_RANGE, ":2 has env1_out_acc nan (expected 0 to 1)"),
    "negative": (lines({**LINE, "env1_out_acc": -0.1}), OUT_OF_RANGE, ":2 has env1_out_acc -0.1 (expected 0 to 1)"),
    "percent": (lines({**LINE, "env1_in_acc": 1.5}), OUT_OF_RANGE, ":2 has env1_in_acc 1.5 (expected 0 to 1)"),
    "text": (lines({**LINE, "env1_in_acc": "0.5"}), OUT_OF_RANGE, ":2 has env1_in_acc '0.5' (expected 0 to 1)"),
    "stranger": (lines({**LINE, "step": 0, "args": args([1])}), STRANGERS, "0: 1 record of another run was skipped"),
    "environment lost": (
        lines({name: value for name, value in LINE.items() if name != "env2_in_acc"}),
        INCOMPLETE,
        "0: 1 record without exactly 4 environments was skipped",
    ),
    "hparams": (lines({**LINE, "hparams": [1]}), ILL_DESCRIBED, "0: 1 record with invalid hparams was skipped"),
    "several": (
        lines({**LINE, "backbone": 7}, {**LINE, "step": 900, "versions": []}),
        ILL_DESCRIBED,
        "0: 2 records with invalid backbone, versions were skipped",
    ),
    "fingerprint": (lines({**LINE, "data_fingerprint": {}}), ILL_DESCRIBED, "invalid data_fingerprint"),
    "names": (lines({**LINE, "environments": ["A", "A", 3]}), ILL_DESCRIBED, "invalid environments"),
    "description torn": (job(b"{"), NO_ARGS, "job.json is invalid"),
    "description no text": (job(b"\xff\xff"), NO_ARGS, "job.json is invalid"),
    "description deep": (job(b"[" * 10**5), NO_ARGS, "job.json is invalid"),
    "description foreign": (job([1]), NO_ARGS, "job.json has no args"),
    "description of none": (job({**args([0]), "test_envs": "A"}), NO_ARGS, "job.json has invalid args"),
}
"""Damages that cost a record at most."""

FATAL = {
    "not done": (
        without("done"),
        UNFINISHED,
        "0 (ERM on PACS, test_envs [0], trial_seed 0, hparams_seed 0) is incomplete",
    ),
    "failed": (failed, UNFINISHED, "is failed: not counted"),
    "not launched": (not_launched, UNFINISHED, "is not launched: not counted"),
    "no records": (without("results.jsonl"), UNUSABLE, "0 is marked done but has no results.jsonl"),
    "dangling records": (a_dangling_link("results.jsonl"), UNUSABLE, "0 is marked done but has no results.jsonl"),
    "empty records": (emptied, UNUSABLE, "results.jsonl has no valid record"),
    "records a directory": (a_directory("results.jsonl"), UNREADABLE, "results.jsonl cannot be read (Is a directory)"),
    "description a directory": (a_directory("job.json"), UNREADABLE, "job.json cannot be read (Is a directory)"),
    "of another run": (job(args([2])), UNUSABLE, "results.jsonl has no valid record"),
    "NaN alone": (instead({**LINE, "env0_in_acc": float("nan")}), UNUSABLE, "has no valid record"),
    "too few": (longer(3), INCOMPLETE, "0: 1 record without exactly 4 environments was skipped"),
    "too many": (longer(5), INCOMPLETE, "0: 1 record without exactly 4 environments was skipped"),
    "out of range": (of(test_envs=[4]), LEFT_OUT, "0 leaves out [4] of 4 environments: not counted"),
    "empty": (of(test_envs=[]), INCOMPLETE, "0: 1 record without accuracies on test splits was skipped"),
    "twice": (of(test_envs=[0, 0]), LEFT_OUT, "0 leaves out [0, 0] (expected different environments)"),
    "test splits": (
        instead({name.replace("_in_", "_test_"): value for name, value in LINE.items()}),
        INCOMPLETE,
        "0: 1 record with test splits although an environment is left out was skipped",
    ),
    "out of range elsewhere": (longer(3, dataset="Mine", test_envs=[3]), UNUSABLE, "has no valid record"),
    "nothing to train on": (longer(1, dataset="Mine"), UNUSABLE, "has no valid record"),
    "no accuracy at all": (instead({"step": 0, "args": args([0], dataset="Mine")}), UNUSABLE, "has no valid record"),
}
"""Damages that cost a run."""


@pytest.fixture
def sweep(tmp_path):
    """A run in each environment, the first of which, `0`, is going to be damaged."""
    return make_sweep(tmp_path / "sweep", name=lambda _, env, *rest: str(env), hparams={})


def assert_named(found, kind, text):
    assert [one.kind for one in found.problems].count(kind) == 1
    (said,) = texts(found.problems, kind)
    assert text in said


def assert_said(folder, capsys, kind, text):
    """The command goes on, and says it once."""
    for form in ("text", "csv", "json", "markdown", "latex"):
        assert cli.main(["collect", "--input_dir", str(folder), "--format", form]) == 0
        shown = capsys.readouterr()
        notes = [line for line in shown.err.splitlines() if kind in line]
        assert len(notes) == 1
        assert notes[0].startswith(f"note: {kind} (1): ")
        assert text in notes[0]
        assert shown.out


@pytest.mark.parametrize("name", HARMLESS)
def test_what_costs_a_record_is_named(sweep, capsys, name):
    damage, kind, text = HARMLESS[name]
    damage(sweep / "0")
    for _ in range(2):  # read, then known
        found = collect([sweep])
        assert_named(found, kind, text)
        assert len(found.runs) == 4
        assert len(found.problems) == 1
        assert found.planned == []
        run = next(run for run in found.runs.values() if run.folder == str(sweep / "0"))
        assert run.steps.tolist() == [300]
    assert_said(sweep, capsys, kind, text)


@pytest.mark.parametrize("name", FATAL)
def test_what_costs_a_run_is_named(sweep, capsys, name):
    damage, kind, text = FATAL[name]
    damage(sweep / "0")
    for _ in range(2):
        found = collect([sweep])
        assert_named(found, kind, text)
        assert [run.folder for run in found.runs.values()] == [str(sweep / name) for name in "123"]
    assert_said(sweep, capsys, kind, text)


def test_a_run_that_no_table_has_is_not_missing_either(sweep):
    """A trial that only such a run is of would be lacking everywhere."""
    for damage in (of(test_envs=[9], trial_seed=7), of(test_envs=[0, 1, 2], trial_seed=8)):
        damage(sweep / "0")
        assert collect([sweep]).planned == []


@pytest.mark.parametrize("depth", [*range(880, 1000, 10), 2000])
def test_however_deep_hparams_nest(sweep, capsys, depth):
    """They are read and shown, or the run is named."""
    line = json.dumps({**LINE, "hparams": {"deep": "HERE"}}).replace('"HERE"', "[" * depth + "]" * depth)
    (sweep / "0" / "results.jsonl").write_text(line + "\n")
    found = collect([sweep])
    assert len(found.runs) == 4 or texts(found.problems)
    assert cli.main(["collect", "--input_dir", str(sweep), "--format", "json"]) == 0
    assert cli.main(["collect", "--input_dir", str(sweep)]) == 0


def test_arguments_of_any_kind(sweep, capsys):
    """What is not needed to tell runs apart may be anything."""
    odd = [None, True, -1, 1e300, float("nan"), "", "two\nlines", [], [[1]], {}, {"a": [None]}]
    names = (
        "steps",
        "checkpoint_freq",
        "holdout_fraction",
        "precision",
        "fixed_hparams",
        "hparams",
        "seed",
        "data_dir",
    )
    fields = ("swad_window", "skipped_images", "device", "batch_norm", "validation_loss", "loss", "hparams")
    for i, value in enumerate(odd):
        for name in names:
            run_of(sweep, i % 4, trial=i, name=f"{i}-{name}", given={name: value})
        for name in fields:
            run_of(sweep, i % 4, trial=i, name=f"{i}-field-{name}", **{name: value})
        run_of(sweep, i % 4, trial=i, name=f"{i}-lr", hparams={"lr": value, "freeze_bn": value, "batch_size": i})
    for form in ("text", "csv", "json", "markdown", "latex"):
        assert cli.main(["collect", "--input_dir", str(sweep), "--format", form]) == 0
        assert capsys.readouterr().out


@pytest.mark.parametrize("algorithm", ["", "_", "ERM_", "_SWAD", "SWAD_SWAD", "Avg", "a:b_BatchFormer", "%s {x} $y$ é"])
def test_algorithms_of_any_name(sweep, capsys, algorithm):
    run_of(sweep, algorithm=algorithm, name="odd")
    for form in ("text", "csv", "json", "markdown", "latex"):
        assert cli.main(["collect", "--input_dir", str(sweep), "--format", form]) == 0
        assert algorithm.replace("_", "").partition(" ")[0] in capsys.readouterr().out.replace("\\_", "").replace(
            "_", ""
        )


def test_an_unfinished_run_tells_what_it_is_of(tmp_path):
    """Its folder's description, else its records."""
    folder = run_of(tmp_path, 2, done=False)
    assert read_folder(folder).planned == args([2])
    job(args([1]))(folder)
    assert read_folder(folder).planned == args([1])
    assert read_folder(folder).run is None


def test_a_folder_that_is_being_removed(tmp_path):
    folder = run_of(tmp_path)
    shutil.rmtree(folder)
    reading = read_folder(folder)
    assert (reading.run, reading.planned) == (None, None)
    assert texts(reading.problems) == [f"{folder} is not launched: not counted"]


def test_an_interrupted_run_that_began_before_macro_accuracies(tmp_path):
    """No record of it is left out; the older ones have none."""
    new = {**LINE, **{f"env{i}_{part}_macro_acc": 0.25 for i in range(4) for part in ("in", "out")}}
    reading = read_folder(write_run(tmp_path / "a", [{**LINE, "step": 0}, {**LINE, "step": 300}, new]))
    assert reading.problems == []
    assert reading.run.steps.tolist() == [0, 300, 600]
    assert reading.run.macro[:, 0].tolist()[2:] == [0.25]
    assert str(reading.run.macro[:2].tolist()) == str([[float("nan")] * 4] * 2)


@contextlib.contextmanager
def nobody():
    """A user who owns nothing, where root, whom no mode stops, runs the tests."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_files_that_may_not_be_read(sweep, public_path):
    sweep = Path(shutil.move(sweep, public_path))
    (sweep / "0" / "results.jsonl").chmod(0)
    (sweep / "1").chmod(0)
    with nobody():
        found = collect([sweep])
    (sweep / "1").chmod(0o755)
    assert [run.folder for run in found.runs.values()] == [str(sweep / "2"), str(sweep / "3")]
    said = texts(found.problems, UNREADABLE)
    assert said[0] == f"{sweep / '0' / 'results.jsonl'} cannot be read (Permission denied)"
    assert said[1].startswith(f"{sweep / '1'}")
