"""The scripts launch their benchmark's sweep and write its table."""

import importlib
import re

import pytest
from factories import args, record, write_run

from dg_batchformer import cli, sweeps
from dg_batchformer.sweeps import long_tail

SCRIPTS = {
    "pacs": "PACS",
    "vlcs": "VLCS",
    "office_home": "OfficeHome",
    "terra_incognita": "TerraIncognita",
    "digits": "RotatedDigits",
}


@pytest.mark.parametrize(("script", "dataset"), SCRIPTS.items())
def test_each_launches_its_benchmark_and_collects(monkeypatch, tmp_path, script, dataset):
    calls = []
    monkeypatch.setattr(cli, "main", lambda argv: calls.append(list(argv)) or 1)
    write_run(tmp_path / "a", [record(0, [0.5] * 4, [0.5] * 4, args([0]))])
    module = importlib.import_module(f"dg_batchformer.sweeps.{script}")
    # The status is that of the launch: 1 says that some runs failed.
    assert module.main(["--output_dir", str(tmp_path), "--n_trials", "2"]) == 1
    (launch,) = calls
    parsed = cli.parser().parse_args(launch)
    assert (parsed.datasets, parsed.output_dir, parsed.n_trials) == ([dataset], str(tmp_path), 2)
    assert parsed.skip_confirmation
    assert (tmp_path / "selection.md").read_text().startswith("### PACS, model selection: training-domain validation")


@pytest.mark.parametrize("status", [0, 2])
def test_without_runs_there_is_no_table(monkeypatch, capsys, tmp_path, status):
    monkeypatch.setattr(cli, "main", lambda argv: status)
    assert sweeps.script("PACS")(["--output_dir", str(tmp_path / "none")]) == status
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("more", "datasets"), [([], 1), (["--data_dir", "DATA"], 2)])
def test_the_long_tail_runs_both_orders_of_each_dataset(monkeypatch, tmp_path, more, datasets):
    calls = []
    monkeypatch.setattr(cli, "main", lambda argv: calls.append(cli.parser().parse_args(argv)) or 0)
    monkeypatch.setattr(long_tail, "show", lambda folders, table: calls.append(folders) or 0)
    assert long_tail.main(["--output_dir", str(tmp_path), *more, "--n_trials", "3"]) == 0
    *launches, folders = calls
    names = [(one.datasets, one.imbalance_kind) for one in launches]
    kinds = ("forward", "alternating")
    assert names == [([name], kind) for name in ("RotatedDigits", "PACS")[:datasets] for kind in kinds]
    assert folders == [one.output_dir for one in launches]
    assert {(one.imbalance, one.n_trials, one.n_hparams) for one in launches} == {(0.02, 3, 1)}


def test_the_long_tail_ends_where_a_launch_has_wrong_input(monkeypatch, tmp_path, capsys):
    assert long_tail.main(["--output_dir", str(tmp_path), "--imbalance", "2"]) == 2
    assert "--imbalance is 2.0: expected a ratio" in capsys.readouterr().err


@pytest.mark.slow
def test_digits_end_to_end(tmp_path, capsys):
    from dg_batchformer.sweeps import digits

    table = tmp_path / "selection.md"
    argv = ["--output_dir", str(tmp_path / "out"), "--table", str(table), "--algorithms", "ERM", "SWAD_BatchFormer"]
    assert digits.main([*argv, "--steps", "40", "--n_workers", "2"]) == 0
    lines = re.sub(r"\*\*|</?u>", "", table.read_text()).splitlines()  # the best of a column is marked
    rows = [line.split(" | ") for line in lines if line.startswith(("| ERM | ", "| SWAD_BatchFormer | "))]
    averages = [float(row[5]) for row in rows]
    assert len(averages) == 2 * 4
    # Forty steps are enough to be far from the tenth that guessing gets.
    assert all(average > 25 for average in averages)
    assert "training-domain validation" in capsys.readouterr().out
