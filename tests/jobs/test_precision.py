"""The faster precision of a sweep: chosen once, recorded, and kept."""

import json

import pytest

from dg_batchformer import cli
from dg_batchformer.jobs import precision
from dg_batchformer.jobs.folder import find

LAUNCH = ["sweep", "launch", "--datasets", "Debug28", "--algorithms", "ERM", "--n_hparams", "1", "--steps", "2"]
LAUNCH += ["--hparams", '{"batch_size": 4}', "--precision", "auto", "--skip_confirmation", "--n_workers", "1"]


@pytest.mark.parametrize(
    ("seconds", "chosen"),
    [
        ({"fp32": 1.0, "bf16": 0.5}, "bf16"),
        ({"fp32": 1.0, "bf16": 0.97}, "fp32"),  # too little for its rounding
        ({"fp32": 1.0, "bf16": 1.5}, "fp32"),
        ({"fp32": 1.0}, "fp32"),
    ],
)
def test_the_faster_one_is_chosen_recorded_and_kept(tmp_path, monkeypatch, capsys, seconds, chosen):
    timed = []
    monkeypatch.setattr(precision, "step_seconds", lambda job, threads: (timed.append(job), seconds)[1])
    command = [*LAUNCH, "--output_dir", str(tmp_path / "sweep")]
    assert cli.main([*command, "--n_trials", "1"]) == 0
    assert f"precision {chosen}: fp32 1 s a step" in capsys.readouterr().out
    jobs = find(tmp_path / "sweep")
    assert {job.arguments.precision for job in jobs} == {chosen}
    record = json.loads((jobs[0].folder / "results.jsonl").read_text().splitlines()[-1])
    assert record["args"]["precision"] == chosen
    # More trials have the same one, without timing.
    assert cli.main([*command, "--n_trials", "2"]) == 0
    assert f"precision {chosen}: as the runs in" in capsys.readouterr().out
    assert len(timed) == 1
    assert {job.arguments.precision for job in find(tmp_path / "sweep")} == {chosen}


def test_both_are_timed(tmp_path, capsys):
    assert cli.main([*LAUNCH, "--output_dir", str(tmp_path / "sweep"), "--dry_run"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("precision ")
    assert "fp32 " in shown
    assert "bf16 " in shown
    assert not (tmp_path / "sweep").exists()


def test_one_run_has_no_auto(tmp_path, capsys):
    assert cli.main(["train", "--precision", "auto", "--output_dir", str(tmp_path / "run")]) == 2
    assert "--precision auto is for sweeps, which time both: expected fp32 or bf16" in capsys.readouterr().err
