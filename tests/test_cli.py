"""The command line: what works, and how it ends where the input is wrong."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from factories import args, image_tree, record, write_run

from dg_batchformer import cli
from dg_batchformer.jobs.launchers.local import Local
from dg_batchformer.runs.claim import claimed

FAST = ["--steps", "2", "--hparams", '{"batch_size": 4}']


def run(capsys, *argv):
    status = cli.main([str(word) for word in argv])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def test_train_then_collect(tmp_path, capsys):
    for env in range(4):
        status, out, _ = run(capsys, "train", "--test_envs", env, "--output_dir", tmp_path / f"{env}", *FAST)
        assert status == 0
        assert "step 0 of 1: loss" in out
    status, out, err = run(capsys, "collect", "--input_dir", tmp_path, "--format", "json")
    assert (status, err) == (0, "")
    (result,) = [one for one in json.loads(out)["results"] if one["selection"] == "training-domain"]
    (row,) = result["rows"]
    assert row["algorithm"] == "ERM"
    assert list(row["cells"]) == result["columns"] == ["0", "25", "50", "75", "Avg", "Worst", "Macro"]
    assert all(cell["n"] == 1 and 0 <= cell["mean"] <= 100 for cell in row["cells"].values())


@pytest.mark.parametrize(
    ("argv", "messages"),
    [
        (["train", "--algorithm", "CORRAL"], ["unknown algorithm 'CORRAL': did you mean CORAL"]),
        (["train", "--dataset", "PACZ"], ["unknown dataset 'PACZ': did you mean PACS"]),
        (["train", "--dataset", "PACS"], ["dataset PACS needs --data_dir"]),
        (["train", "--hparams", "{"], ["--hparams '{' is not JSON"]),
        (["train", "--hparams", '{"lrr": 1}', "--steps", "0"], ["unknown hparam 'lrr'", "--steps is 0"]),
        (["train", "--test_envs", "4"], ["test environment 4 is out of range"]),
        (["train", "--hparams", '{"weights": "/no/w.pth"}'], ["expected 'imagenet', null or an existing file"]),
        (["train", "--hparams", '{"batchformer_heads": 5}'], ["unknown hparam 'batchformer_heads'"]),
        (
            ["train", "--algorithm", "BatchFormer", "--hparams", '{"batchformer_heads": 5}'],
            ["'batchformer_heads' is 5: expected a divisor of 64"],
        ),
        (["sweep", "launch", "--command_launcher", "slrm"], ["unknown launcher 'slrm'"]),
        (["sweep", "launch", "--n_workers", "0"], ["--n_workers is 0: expected at least 1"]),
        (["sweep", "launch", "--pairs", "--single_test_envs"], ["contradict each other"]),
        (["sweep", "launch", "--datasets", "RotatedDigits", "--algorithms", "X"], ["unknown algorithm 'X'"]),
        (["sweep", "launch", "--datasets", "PACS", "--algorithms", "ERM"], ["dataset PACS needs --data_dir"]),
        (
            ["sweep", "launch", "--datasets", "RotatedDigits", "--hparams", '{"batchformer_heads": 5}'],
            ["'batchformer_heads' is 5: expected a divisor of 64"],
        ),
        (["train", "--imbalance", "0"], ["--imbalance is 0.0: expected a ratio above 0 and at most 1"]),
        (["train", "--imbalance", "nan"], ["--imbalance is nan: expected a ratio"]),
        (
            ["train", "--imbalance", "0.001"],
            ["of environment 25 without a training image: 6, 7, 8, 9", "environment 50", "environment 75"],
        ),
        (
            ["train", "--imbalance", "2", "--imbalance_kind", "forwards", "--imbalance_max", "0"],
            ["--imbalance is 2.0", "unknown imbalance_kind 'forwards': did you mean forward", "--imbalance_max is 0"],
        ),
        (["train", "--imbalance_kind", "shuffled"], ["--imbalance_kind needs --imbalance"]),
        (
            ["train", "--protocol", "tllib", "--algorithm", "BalancedSoftmax_BatchFormer"],
            ["protocol tllib draws environments in random order, but BalancedSoftmax_BatchFormer needs class counts"],
        ),
        (["train", "--seed", "-1"], ["--seed is -1: expected a number from 0"]),
        (["sweep", "status"], ["is not a folder"]),
    ],
)
def test_wrong_input_ends_with_its_reason_and_leaves_nothing(tmp_path, capsys, argv, messages):
    folder = tmp_path / "out"
    status, _, err = run(capsys, *argv, "--output_dir", folder)
    assert status == 2
    shown = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(shown) == len(messages)
    assert all(message in err for message in messages)
    assert "Traceback" not in err
    assert not (folder / "results.jsonl").exists()
    assert not (folder / "done").exists()


def test_an_unreadable_image_stops_train_and_sweep_before_any_work(tmp_path, capsys):
    root = image_tree(tmp_path / "mine")
    (root / "b" / "cat" / "2.jpg").write_text("no image")
    for command in (["train"], ["sweep", "launch", "--skip_confirmation", "--datasets", f"folder:{root}"]):
        dataset = ["--dataset", f"folder:{root}"] if command == ["train"] else ["--algorithms", "ERM"]
        status, _, err = run(capsys, *command, *dataset, "--output_dir", tmp_path / "out")
        assert status == 2
        assert f"{root}/b/cat/2.jpg" in err
        assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_is_said(tmp_path, capsys):
    (tmp_path / "file").touch()
    status, _, err = run(capsys, "train", "--output_dir", tmp_path / "file" / "out", *FAST)
    assert status == 2
    assert err.startswith("error: --output_dir ")
    assert "Traceback" not in err


def test_divergence_is_said_without_a_traceback(tmp_path, capsys):
    hparams = '{"batch_size": 4, "lr": 1e30}'
    status, _, err = run(capsys, "train", "--hparams", hparams, "--steps", "9", "--output_dir", tmp_path / "out")
    assert status == 1
    assert err.startswith("error: a value at step ")
    assert "Traceback" not in err


def test_a_sweep_from_launch_to_table(tmp_path, capsys):
    sweep = ["--output_dir", tmp_path, "--datasets", "RotatedDigits"]
    launch = ["sweep", "launch", *sweep, "--algorithms", "ERM", "ERM_BatchFormer", "--n_hparams", 1, "--n_trials", 1]
    launch += [*FAST, "--skip_confirmation", "--n_workers", 1, "--single_test_envs"]
    status, out, err = run(capsys, *launch)
    assert (status, err) == (0, "")
    assert "8 runs: 0 done, 0 failed, 0 running, 0 abandoned, 8 waiting" in out
    assert re.search(r"about to run 8 in 1 process\(es\), expected to take \d+:\d\d:\d\d", out)
    assert "[8/8] RotatedDigits ERM_BatchFormer" in out
    assert out.count(" done in ") == 8
    assert "8 runs: 8 done" in out
    # Again: nothing is left to do.
    status, out, _ = run(capsys, *launch)
    assert (status, "about to run" in out) == (0, False)
    status, out, _ = run(capsys, "sweep", "status", "--output_dir", tmp_path)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert out.startswith("8 runs: 8 done, 0 failed, 0 running, 0 abandoned, 0 waiting\nruns per hour: ")
    assert lines[-2:] == [f"RotatedDigits {name} 4 0 0 0 0 100" for name in ("ERM", "ERM_BatchFormer")]
    status, out, _ = run(capsys, "sweep", "status", "--output_dir", tmp_path, "--format", "json", "--algorithms", "ERM")
    assert json.loads(out)["counts"]["done"] == len(json.loads(out)["runs"]) == 4
    # What was interrupted runs again, and what it did before is not counted twice.
    folder = next(path.parent for path in tmp_path.glob("*/done"))
    (folder / "done").unlink()
    status, out, _ = run(capsys, *launch)
    assert "8 runs: 7 done, 0 failed, 0 running, 0 abandoned, 1 waiting" in out
    assert "[1/1]" in out
    status, out, err = run(capsys, "collect", "--input_dir", tmp_path)
    assert (status, err) == (0, "")
    assert "BatchFormer on ERM: " in " ".join(out.split())


def test_delete_incomplete_deletes_that_alone(tmp_path, capsys, monkeypatch):
    for name, marks in {"a": ["done"], "b": ["failed"], "c": ["out.txt"], "d": []}.items():
        (tmp_path / name).mkdir()
        arguments = {"dataset": "RotatedDigits", "algorithm": "ERM", "output_dir": f"x/{name}"}
        (tmp_path / name / "job.json").write_text(json.dumps(arguments))
        for mark in marks:
            (tmp_path / name / mark).touch()
    command = ["sweep", "delete_incomplete", "--output_dir", tmp_path]
    monkeypatch.setattr("builtins.input", lambda prompt: "n")
    run(capsys, *command)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "d"]
    run(capsys, *command, "--skip_confirmation", "--algorithms", "CORAL")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "d"]
    with claimed(tmp_path / "c"):
        _, out, _ = run(capsys, "sweep", "status", "--output_dir", tmp_path)
        assert re.search(rf"running .* {os.getpid()}@", out)
        _, out, _ = run(capsys, *command, "--skip_confirmation")
    assert "about to delete 2 unfinished run(s); 1 running kept" in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "c"]
    _, out, _ = run(capsys, *command, "--skip_confirmation")
    assert "about to delete 1 unfinished run(s)" in out
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(("answer", "asked"), [("y", True), ("n", False), (None, False)])
def test_a_launch_asks_first(tmp_path, capsys, monkeypatch, answer, asked):
    def answered(prompt):
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr("builtins.input", answered)
    launched = []

    monkeypatch.setattr(Local, "run", lambda launcher, jobs: launched.extend(jobs))
    sweep = ["--output_dir", tmp_path / "s", "--datasets", "RotatedDigits", "--algorithms", "ERM", *FAST]
    status, _, err = run(capsys, "sweep", "launch", *sweep, "--n_hparams", 1, "--n_trials", 1)
    # Of those that were launched none was run, and that is said.
    expected = {"y": (1, False), "n": (0, False), None: (2, True)}
    assert (status, "no answer, so nothing was done" in err) == expected[answer]
    assert (len(launched) == 4) == asked
    assert (tmp_path / "s").exists() == asked


def test_collect_says_what_it_passed_over(tmp_path, capsys):
    for env in range(4):
        write_run(tmp_path / f"{env}", [record(0, [0.5] * 4, [0.5] * 4, args([env]))])
    with (tmp_path / "0" / "results.jsonl").open("a") as file:
        file.write('{"torn')
    status, out, err = run(capsys, "collect", "--input_dir", tmp_path, "--format", "csv")
    assert status == 0
    assert out.startswith("selection,protocol,backbone,others,dataset,")
    (note,) = err.splitlines()
    assert note.startswith("note: incomplete lines (1): ")
    assert note.endswith(f": {tmp_path}/0/results.jsonl:2 is not a complete record: skipped")
    (tmp_path / "0" / "done").unlink()
    status, out, err = run(capsys, "collect", "--input_dir", tmp_path)
    assert status == 0
    assert "0 of 1 trials" in out
    assert f"{tmp_path}/0 (ERM on PACS, test_envs [0], trial_seed 0, hparams_seed 0) is incomplete" in err


def test_collect_writes_a_file(tmp_path, capsys):
    write_run(tmp_path / "a", [record(0, [0.5] * 4, [0.5] * 4, args([0]))])
    table = tmp_path / "table.md"
    run(capsys, "collect", "--input_dir", tmp_path, "--format", "markdown", "--output", table)
    assert table.read_text().startswith("### PACS, model selection")


def test_an_hparam_that_no_algorithm_has_is_said(tmp_path, capsys):
    sweep = ["--output_dir", tmp_path / "s", "--datasets", "RotatedDigits", "--algorithms", "ERM"]
    status, out, _ = run(
        capsys, "sweep", "launch", *sweep, "--hparams", '{"irm_lambda": 1.0}', "--command_launcher", "dummy"
    )
    assert status == 0
    assert "note: none of these algorithms has the hparam 'irm_lambda'" in out


def test_as_a_module_and_without_torch(tmp_path):
    """The command runs as `python -m`, and reading results costs no import of torch."""
    write_run(tmp_path / "a", [record(0, [0.5] * 4, [0.5] * 4, args([0]))])
    command = [sys.executable, "-X", "importtime", "-m", "dg_batchformer", "collect", "--input_dir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "PACS, model selection" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "rich" in imported
    assert "torch" not in imported


def test_the_status_of_a_sweep_costs_no_import_of_torch(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "job.json").write_text('{"output_dir": "a"}')
    command = [sys.executable, "-X", "importtime", "-m", "dg_batchformer", "sweep", "status"]
    done = subprocess.run([*command, "--output_dir", str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("1 runs: 0 done, ")
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "dg_batchformer.jobs.status" in imported
    assert "torch" not in imported


def test_what_is_watched_is_text(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "job.json").write_text('{"output_dir": "a"}')
    status, out, err = run(capsys, "sweep", "status", "--output_dir", tmp_path, "--watch", "--format", "json")
    assert (status, out) == (2, "")
    assert err.startswith("error: --watch shows text: expected it without --format json")


def test_data_check_cache_and_info(tmp_path, capsys):
    root = image_tree(tmp_path / "mine")
    argv = ["--dataset", f"folder:{root}", "--cache_dir", str(tmp_path / "cache")]
    assert cli.main(["data", "check", *argv]) == 0
    assert "2 classes: cat, dog\nall 24 images can be decoded\n" in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()
    assert cli.main(["data", "info", *argv]) == 0
    assert "a: 8 images" in (printed := capsys.readouterr().out)
    assert "missing or outdated" in printed
    for expected in (" MB, built in ", " MB, already there"):
        assert cli.main(["data", "cache", *argv]) == 0
        assert expected in capsys.readouterr().out
    (root / "b" / "dog" / "1.jpg").write_text("no image")
    for action in ("check", "cache"):
        assert cli.main(["data", action, *argv]) == 2
        assert "b/dog/1.jpg: cannot identify image file" in capsys.readouterr().err
    assert cli.main(["data", "cache", *argv, "--skip_corrupt"]) == 0
    assert "WARNING: skipped 1 corrupt image(s): b/dog/1.jpg" in capsys.readouterr().out
    assert cli.main(["data", "info", "--dataset", "RotatedDigits"]) == 2
    assert "error: RotatedDigits has no image files" in capsys.readouterr().err


def test_skipped_images_are_in_every_record(tmp_path, capsys):
    root = image_tree(tmp_path / "mine")
    (root / "b" / "dog" / "1.jpg").write_text("no image")
    hparams = '{"backbone": "resnet18", "weights": null, "batch_size": 2}'
    argv = ["train", "--dataset", f"folder:{root}", "--steps", "2", "--checkpoint_freq", "1", "--hparams", hparams]
    assert cli.main([*argv, "--output_dir", str(tmp_path / "refused")]) == 2
    assert not (tmp_path / "refused").exists()
    assert cli.main([*argv, "--output_dir", str(tmp_path / "run"), "--skip_corrupt"]) == 0
    for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines():
        (skipped,) = json.loads(line)["skipped_images"]
        assert skipped.startswith("b/dog/1.jpg: cannot identify")


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_ends_with_two_examples_that_parse(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    *_, header, first, second = capsys.readouterr().out.splitlines()
    assert header == "examples:"
    for line in (first, second):
        program, *words = shlex.split(line)
        assert program == "dg-batchformer"
        assert cli.parser().parse_args(words).command == command
