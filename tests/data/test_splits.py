"""Splits: against index lists that DomainBed (b93c22a) gives, and in files."""

import json

import pytest
from factories import image_tree

from dg_batchformer import cli
from dg_batchformer.data import load_dataset
from dg_batchformer.data.splits import read, split_environments, split_indices, text_of
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import seed_hash
from dg_batchformer.selection import collect
from dg_batchformer.selection.settings import setting_of

DIGITS = load_dataset("RotatedDigits")


@pytest.mark.parametrize(
    ("n", "n_first", "seed", "first", "rest"),
    [
        (10, 2, 0, [2, 8], [4, 9, 1, 6, 7, 3, 0, 5]),
        (12, 3, 1981683110, [1, 0, 7], [3, 10, 11, 8, 9, 4, 5, 6, 2]),
    ],
)
def test_split_is_domainbeds(n, n_first, seed, first, rest):
    assert split_indices(n, n_first, seed) == (first, rest)


def test_each_environment_has_its_own_seed():
    splits = split_environments([12, 12, 12], 0.25, trial_seed=1)
    assert seed_hash(1, 2) == 1981683110
    assert splits[2].out.tolist() == [1, 0, 7]
    for split in splits:
        assert sorted(split.out.tolist() + split.inside.tolist()) == list(range(12))
    assert splits[0].out.tolist() != splits[1].out.tolist()


def test_the_out_split_is_rounded_down():
    (split,) = split_environments([9], 0.2, 0)
    assert (len(split.out), len(split.inside)) == (1, 8)


@pytest.mark.parametrize(("size", "fraction"), [(4, 0.2), (0, 0.2)])
def test_an_empty_part_is_refused(size, fraction):
    with pytest.raises(ValueError, match="leaves environment 0 with"):
        split_environments([size], fraction, 0)


@pytest.fixture
def images(tmp_path):
    return load_dataset(f"folder:{image_tree(tmp_path / 'mine')}")


def test_a_file_keeps_the_splits_and_their_order(tmp_path, images):
    for dataset in (DIGITS, images):
        splits = split_environments(dataset.sizes, 0.25, 3)
        (tmp_path / "splits.csv").write_text(text_of(splits, dataset))
        for own, other in zip(splits, read(tmp_path / "splits.csv", dataset), strict=True):
            assert own.inside.equal(other.inside)
            assert own.out.equal(other.out)
    lines = (tmp_path / "splits.csv").read_text().splitlines()
    assert lines[0] == "env,sample,split"
    assert {line.split(",")[1] for line in lines[1:]} == {path for files in images.files for path in files}
    assert "a,a/cat/0.jpg,in" in lines or "a,a/cat/0.jpg,out" in lines


INVALID = {
    "unknown": (lambda lines: [*lines, "a,a/cat/9.jpg,in"], "1 unknown or repeated samples: line 26 has a a/cat/9.jpg"),
    "repeated": (lambda lines: [*lines, lines[1]], "1 unknown or repeated samples: line 26 has a a/"),
    "environment": (lambda lines: [*lines, "x,a/cat/0.jpg,in"], "1 unknown or repeated samples: line 26 has x a/cat/0"),
    "split": (
        lambda lines: [*lines[:-1], lines[-1][:-3] + "test"],
        "1 invalid splits (expected in or out): line 25",
    ),
    "empty": (
        lambda lines: [line for line in lines if not (line.startswith("b,") and line.endswith(",out"))],
        "no sample of environment b with split out: expected at least one",
    ),
    "columns": (
        lambda lines: ["env,path,split", *lines[1:]],
        "is not a file of splits: expected columns env,sample,split",
    ),
    "nothing": (lambda lines: [], "is not a file of splits"),
}


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_file_is_named(tmp_path, images, name):
    change, message = INVALID[name]
    lines = text_of(split_environments(images.sizes, 0.25, 0), images).splitlines()
    (tmp_path / "splits.csv").write_text("\n".join(change(lines)) + "\n")
    with pytest.raises(InputError) as error:
        read(tmp_path / "splits.csv", images)
    assert message in str(error.value)


def train(folder, *more):
    words = ["--hparams", '{"batch_size": 8}', "--steps", "3", "--checkpoint_freq", "1", "--output_dir", str(folder)]
    assert cli.main(["train", *words, *more]) == 0
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_a_run_with_the_splits_of_another_has_its_result(tmp_path):
    """Whatever its own trial_seed; a part of the samples is enough, and the table keeps it apart."""
    file = tmp_path / "splits.csv"
    first = train(tmp_path / "first", "--trial_seed", "2")
    assert cli.main(["data", "splits", "--run", str(tmp_path / "first"), "--output", str(file)]) == 0
    again = train(tmp_path / "again", "--splits", str(file))
    assert [record["env1_out_acc"] for record in again] == [record["env1_out_acc"] for record in first]
    assert [record["loss"] for record in again] == [record["loss"] for record in first]
    file.write_text("\n".join(file.read_text().splitlines()[::2]) + "\n")
    train(tmp_path / "part", "--splits", str(file))
    assert len({setting_of(run) for run in collect([tmp_path]).runs.values()}) == 3


def test_bad_input(tmp_path, capsys):
    def error_of(*words):
        assert cli.main(list(words)) == 2
        return capsys.readouterr().err

    run = ("--output_dir", str(tmp_path / "run"))
    assert "none.csv cannot be read as a CSV file" in error_of("train", "--splits", "none.csv", *run)
    assert "has no record of a run" in error_of("data", "splits", "--run", str(tmp_path), "--output", "x.csv")
    assert "data splits needs --run and --output" in error_of("data", "splits", "--run", str(tmp_path))
    assert "data check needs --dataset" in error_of("data", "check")
    assert not (tmp_path / "run").exists()
