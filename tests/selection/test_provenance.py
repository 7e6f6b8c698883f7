"""From cells back to runs: a command that repeats one really does, ours and DomainBed's."""

import json
import shlex
from pathlib import Path

import pytest
from factories import run_of

from dg_batchformer import cli
from dg_batchformer.cli import parser
from dg_batchformer.errors import InputError
from dg_batchformer.selection import collect
from dg_batchformer.selection.leaderboard import leaderboard, load
from dg_batchformer.selection.report import command, explain, report

DOMAINBED_ARGS = {
    "data_dir": "/data",
    "task": "domain_generalization",
    "hparams": None,
    "seed": 12,
    "steps": 5001,
    "checkpoint_freq": None,
    "holdout_fraction": 0.2,
    "uda_holdout_fraction": 0,
    "skip_model_save": True,
    "save_model_every_checkpoint": False,
}


def report_of(folder, **options):
    return report(collect([folder]), **{"selections": ["training-domain"], **options})


def commands(lines):
    return [line.strip() for line in lines if line.strip().startswith("python ")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of one short run of ours, with what is hard to quote."""
    folder = tmp_path_factory.mktemp("sweep")
    given = ["--dataset", "RotatedDigits", "--algorithm", "SWAD_BatchFormer", "--test_envs", "2", "--steps", "4"]
    given += ["--checkpoint_freq", "1", "--trial_seed", "1", "--hparams_seed", "3", "--seed", "7"]
    given += ["--holdout_fraction", "0.3", "--hparams", '{"batch_size": 8, "batchformer_scope": "environment"}']
    given += ["--fixed_hparams", "--skip_model_save", "--output_dir", str(folder / "a run")]
    assert cli.main(["train", *given]) == 0
    return folder, given


def test_the_command_parsed_is_the_runs_arguments(trained):
    folder, given = trained
    (line,) = commands(explain(report_of(folder), "RotatedDigits/SWAD_BatchFormer/50"))
    *program, train = shlex.split(line)[:4]
    assert (program, train) == (["python", "-m", "dg_batchformer"], "train")
    repeated, first = parser().parse_args(shlex.split(line)[3:]), parser().parse_args(["train", *given])
    assert repeated.output_dir == "repeat/a run"
    assert {**vars(repeated), "output_dir": ""} == {**vars(first), "output_dir": ""}


def test_the_command_repeats_the_run_to_the_bit(trained, tmp_path, monkeypatch):
    folder, _ = trained
    (line,) = commands(explain(report_of(folder), "RotatedDigits/SWAD_BatchFormer/50"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(shlex.split(line)[3:]) == 0

    def accuracies(run):
        rows = map(json.loads, (run / "results.jsonl").read_text().splitlines())
        return [{name: value for name, value in row.items() if name.endswith("_acc")} for row in rows]

    assert accuracies(tmp_path / "repeat" / "a run") == accuracies(folder / "a run")
    assert accuracies(folder / "a run") != []


def test_runs_steps_and_values_are_named(tmp_path):
    for trial in range(2):
        run_of(tmp_path, 1, 0.5 + trial / 10, trial=trial, hparams_seed=4, steps=(0, 300), name=f"t{trial}")
    run_of(tmp_path, 2, hparams_seed=4, name="elsewhere")
    lines = explain(report_of(tmp_path), "PACS/ERM/C")
    assert lines[0] == "PACS/ERM/C: 55.0000, stderr 3.5355"
    assert "training-domain validation" in lines[1]
    assert "protocol domainbed" in lines[1]
    assert lines[2:] == [
        "  trial 0: 50.0000",
        "  trial 1: 60.0000",
        "  trial 0, hparams_seed 4, test_envs [1], step 0: accuracy 50.0000, validation 50.0000",
        f"    {tmp_path / 't0'}",
        f"    {command_of(tmp_path, 't0')}",
        "  trial 1, hparams_seed 4, test_envs [1], step 0: accuracy 60.0000, validation 50.0000",
        f"    {tmp_path / 't1'}",
        f"    {command_of(tmp_path, 't1')}",
    ]


def command_of(folder, name):
    (run,) = (run for run in collect([folder]).runs.values() if Path(run.folder).name == name)
    return command(run)


@pytest.mark.parametrize(
    ("algorithm", "program"),
    [
        ("GroupDRO", "python -m domainbed.scripts.train"),
        ("CORAL_BatchFormer", "python -m dg_batchformer.domainbed train"),
        ("SWAD", "python -m dg_batchformer.domainbed train"),
    ],
)
def test_domainbeds_runs_get_domainbeds_command(tmp_path, algorithm, program):
    own = {**DOMAINBED_ARGS, "hparams": '{"lr": 0.1}'}
    run_of(tmp_path, 3, algorithm=algorithm, trial=2, hparams_seed=5, name="0123abc", given=own)
    (line,) = commands(explain(report_of(tmp_path), f"PACS/{algorithm}/S"))
    assert line == (
        f"{program} --algorithm {algorithm} --data_dir /data --dataset PACS --holdout_fraction 0.2 "
        """--hparams '{"lr": 0.1}' --hparams_seed 5 --output_dir repeat/0123abc --seed 12 --skip_model_save """
        "--steps 5001 --task domain_generalization --test_envs 3 --trial_seed 2 --uda_holdout_fraction 0"
    )


def test_an_average_leads_to_the_runs_of_all_columns(tmp_path):
    for env in range(4):
        run_of(tmp_path, env, name=str(env))
    for column in ("Avg", "Worst"):
        lines = explain(report_of(tmp_path), f"PACS/ERM/{column}")
        assert [line.strip() for line in lines if line.startswith(f"    {tmp_path}")] == [
            str(tmp_path / f"{env}") for env in range(4)
        ]
        assert len(commands(lines)) == 4


def test_rows_of_given_hparams_are_told_apart_by_label_and_found_together_by_algorithm(tmp_path):
    value = "it's {x}"
    hard = json.dumps({"a/b": value})
    run_of(tmp_path, name="plain")
    run_of(tmp_path, name="given", given={"protocol": "domainbed", "hparams": hard})
    (line,) = commands(explain(report_of(tmp_path), f"PACS/ERM (a/b {json.dumps(value)})/A"))
    assert shlex.split(line)[shlex.split(line).index("--hparams") + 1] == hard
    assert "plain" in commands(explain(report_of(tmp_path), "PACS/ERM/A"))[0]
    run_of(tmp_path, algorithm="CORAL", given={"protocol": "domainbed", "hparams": hard})
    run_of(tmp_path, algorithm="CORAL", given={"protocol": "domainbed", "hparams": '{"lr": 0.1}'})
    assert len(commands(explain(report_of(tmp_path), "PACS/CORAL/A"))) == 2


def test_tables_of_several_settings_and_methods_are_all_explained(tmp_path):
    run_of(tmp_path, name="usual")
    run_of(tmp_path, name="short", given={"steps": 100})
    lines = explain(report_of(tmp_path, selections=["training-domain", "oracle"]), "PACS/ERM/A")
    assert lines.count("") == 3
    assert len(commands(lines)) == 4
    assert sum("steps 100" in line for line in lines if "model selection" in line) == 2


def test_a_published_cell_has_no_run_but_the_sweep_that_repeats_it(tmp_path):
    run_of(tmp_path, name="run")
    board = leaderboard(collect([tmp_path]), load("paper"))
    cell = "PACS/MixStyle_BatchFormer (paper, table 14)/S"
    lines = explain(board, cell)
    assert lines[0] == f"{cell}: 81.1000, std 0.4000"
    assert lines[2:4] == ["  a published number: no run stands behind it", "  this sweep reproduces the published row:"]
    assert lines[4].strip().startswith("dg-batchformer sweep launch --protocol tllib --datasets PACS --algorithms Mix")
    assert commands(lines) == []


def test_a_cell_without_a_run_says_what_is_missing(tmp_path):
    run_of(tmp_path, name="run")
    lines = explain(report_of(tmp_path), "PACS/ERM/C")
    assert lines[0] == "PACS/ERM/C: no number (not run)"
    assert lines[-1] == "  a published number: no run stands behind it"


@pytest.mark.parametrize("cell", ["PACS/ERM/art", "ERM/A", "", "PACS/ERM_BatchFormer/A"])
def test_an_unknown_cell_is_refused_with_the_nearest(tmp_path, cell):
    run_of(tmp_path, name="run")
    with pytest.raises(InputError, match=r"--command: unknown cell .*PACS/ERM/A.*expected DATASET/ALGORITHM/COLUMN"):
        explain(report_of(tmp_path), cell)
