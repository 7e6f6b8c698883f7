"""Runs on a long tail: their records, how they resume, and the table."""

import json

import pytest
import torch
from factories import args, assert_same, record, table, write_run

from dg_batchformer.data.imbalance import tail
from dg_batchformer.runs import resolve
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.selection.table import AVERAGE
from dg_batchformer.training.setup import Setup
from dg_batchformer.training.trainer import run


def arguments(folder, **given):
    usual = {"imbalance": 0.1, "steps": 4, "checkpoint_freq": 2, "hparams": '{"batch_size": 4}'}
    return RunArguments(**{**usual, "output_dir": str(folder), **given})


def records_of(folder):
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_records_have_the_counts_of_the_training_environments(tmp_path):
    run(arguments(tmp_path / "run", imbalance_kind="alternating", imbalance_max=30), echo=False)
    for one in records_of(tmp_path / "run"):
        assert one["args"]["imbalance"] == 0.1
        forward = tail(30, 0.1, 10)
        assert list(one["class_counts"]) == ["25", "50", "75"]
        assert one["class_counts"]["50"][1:] == forward[1:]
        assert one["class_counts"]["25"][:9] == forward[:0:-1]
        assert 0 <= one["env0_out_macro_acc"] <= 1


def test_the_counts_reach_an_algorithm_that_asks_for_them(tmp_path):
    setup = Setup.from_run(resolve(arguments(tmp_path / "run", algorithm="BalancedSoftmax_BatchFormer")))
    counts = torch.tensor(list(setup.class_counts.values()), dtype=torch.float32)
    assert torch.equal(setup.algorithm.class_counts.cpu(), counts)
    assert counts.shape == (3, 10)


def test_another_tail_is_another_run_and_the_same_one_is_the_same_to_the_bit(tmp_path):
    tailed, full, other = (
        resolve(arguments(tmp_path, **given)) for given in ({}, {"imbalance": None}, {"imbalance_kind": "shuffled"})
    )
    dataset = Setup.from_run(tailed).dataset
    assert len({one.identity(dataset) for one in (tailed, full, other)}) == 3
    assert len({one.job_id for one in (tailed, full, other)}) == 3
    for name in ("one", "two"):
        run(arguments(tmp_path / name, algorithm="BalancedSoftmax_BatchFormer"), echo=False)
    assert_same(tmp_path / "one", tmp_path / "two")


def test_a_run_without_a_tail_keeps_its_id(tmp_path):
    """Ids of earlier versions stay."""
    assert resolve(RunArguments(output_dir=str(tmp_path))).job_id == "29909e9ee1d94b20c437bf976ca617ee"


@pytest.mark.parametrize(("imbalance", "average"), [(None, 50), (0.02, 30)])
def test_the_table_of_a_tail_is_balanced_by_class(tmp_path, imbalance, average):
    """Its checkpoint too: by class the second one is the better."""
    for env in range(4):
        of = {**args([env]), "imbalance": imbalance}
        rows = []
        for step, inside, out, macro in ((0, 0.5, 0.9, 0.1), (300, 0.8, 0.2, 0.3)):
            one = record(step, [inside] * 4, [out] * 4, of)
            rows.append({**one, **{f"env{i}_{part}_macro_acc": macro for i in range(4) for part in ("in", "out")}})
        write_run(tmp_path / str(env), rows)
    section = table(tmp_path)
    assert section.rows[0].cells[AVERAGE].mean == pytest.approx(average)
    assert ("imbalance" in dict(section.setting.others)) == bool(imbalance)
