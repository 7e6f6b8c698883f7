"""A run as columns, and the environments of a dataset."""

import math

import numpy as np
import pytest
from factories import args, finished_run, record, run_of

from dg_batchformer.runs.records import RunKey, count_environments
from dg_batchformer.selection.settings import environment_names


def test_columns_hold_what_the_records_say():
    of = args([0])
    rows = [record(step, np.random.RandomState(step).rand(4), [step / 1000] * 4, of) for step in (0, 300, 600)]
    made_of = finished_run(rows)
    assert made_of.steps.tolist() == [0, 300, 600]
    assert made_of.n_environments == 4
    for i, row in enumerate(rows):
        assert made_of.inside[i].tolist() == [row[f"env{env}_in_acc"] for env in range(4)]
        assert made_of.out[i].tolist() == [row[f"env{env}_out_acc"] for env in range(4)]
    assert np.isnan(made_of.macro).all()


def test_macro_accuracies_where_the_records_have_them():
    """An interrupted run may have begun before they were recorded."""
    of = args([0])
    old, new = (record(step, [0.5] * 4, [0.5] * 4, of) for step in (0, 300))
    new |= {f"env{i}_in_macro_acc": 0.25 for i in range(4)}
    macro = finished_run([old, new]).macro
    assert np.isnan(macro[0]).all()
    assert macro[1].tolist() == [0.25] * 4


def test_a_run_has_the_arguments_hparams_and_description_of_its_last_record():
    of = {**args([1], trial=2, hparams_seed=3), "seed": 7, "output_dir": "x", "steps": 100, "protocol": "swad"}
    described = {"backbone": "resnet50", "weights": "imagenet", "versions": {"torch": "2.4"}, "swad_window": [3, 9]}
    found = finished_run([{**record(0, [0.5] * 4, [0.5] * 4, of), **described, "hparams": {"lr": 1e-3}}])
    assert (found.args, found.hparams, found.made) == (of, {"lr": 1e-3}, described)


def test_a_record_without_hparams_has_none():
    assert finished_run([record(0, [0.5] * 4, [0.5] * 4, args([0]))]).hparams == {}


@pytest.mark.parametrize(
    ("lacks", "n"),
    [((), 4), (("env3_out_acc",), 3), (("env3_in_acc",), 3), (("env1_in_acc",), 1), (("env0_out_acc",), 0)],
)
def test_environments_are_counted_from_the_first(lacks, n):
    whole = record(0, [0.5] * 4, [0.5] * 4, args([0]))
    assert count_environments({name: value for name, value in whole.items() if name not in lacks}) == n


def test_environment_names():
    def names(dataset, **fields):
        of = args([0], dataset=dataset)
        return environment_names(
            RunKey.from_args(of).dataset, [finished_run([{**record(0, [0.5] * 4, [0.5] * 4, of), **fields}])]
        )

    assert names("PACS") == ("A", "C", "P", "S")
    assert names("PACS", environments=list("wxyz")) == ("A", "C", "P", "S")
    assert names("ColoredMNIST") == ("+90%", "+80%", "-90%")
    assert names("folder:/some/place/mine", environments=list("wxyz")) == ("w", "x", "y", "z")
    assert names("Unheard") == ("0", "1", "2", "3")
    assert names("Unheard", environments=list("xyz")) == ("0", "1", "2", "3")
    assert environment_names("Unheard", []) == ()


def test_environment_names_are_those_of_any_run_that_has_them():
    """DomainBed's records have none."""
    of = args([0], dataset="Mine")
    theirs, ours = record(0, [0.5] * 3, [0.5] * 3, of), record(0, [0.5] * 3, [0.5] * 3, of)
    runs = [finished_run([theirs]), finished_run([{**ours, "environments": ["x", "y", "z"]}])]
    assert environment_names("Mine", runs) == ("x", "y", "z")


def test_accuracies_are_read_to_the_bit(tmp_path):
    from dg_batchformer.selection import read_folder

    value = 0.1 + 0.2
    read = read_folder(run_of(tmp_path, accuracy=value)).run
    assert read.inside[0, 0] == value
    assert math.isnan(read.macro[0, 0])
