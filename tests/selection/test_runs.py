"""What counts in a folder of runs, and what is passed over by name."""

import json

import pytest
from helpers import args, record, write_run

from dg_batchformer.errors import InputError
from dg_batchformer.selection.runs import collect, environment_names


def one(of, step=0):
    return record(step, [0.5] * 4, [0.5] * 4, of)


def test_unfinished_runs_are_planned_not_counted(tmp_path):
    write_run(tmp_path / "a", [one(args([0]))])
    write_run(tmp_path / "b", [one(args([1]))], done=False)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "job.json").write_text(json.dumps(args([2], trial=1)))
    (tmp_path / "sweep.log").write_text("a file among the folders")
    found = collect(tmp_path)
    assert [run.key.test_envs for run in found.runs] == [(0,)]
    assert {(key.test_envs, key.trial_seed) for key in found.planned} == {((0,), 0), ((1,), 0), ((2,), 1)}
    assert found.problems == ["2 of the runs are not finished and were not counted"]


def test_folders_that_are_no_runs_are_not_unfinished_ones(tmp_path):
    write_run(tmp_path / "a", [one(args([0]))])
    for name in ("data/PACS.json", "slurm/1.out", "notes/plan.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = collect(tmp_path)
    assert (len(found.runs), found.problems) == (1, [])


def test_every_oddity_is_named(tmp_path):
    write_run(tmp_path / "a", [one(args([0]), 0), one(args([1]), 10), one(args([0]), 20)])
    with (tmp_path / "a" / "results.jsonl").open("a") as file:
        file.write('{"step": 3')
    write_run(tmp_path / "b", [one(args([0]))])
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "done").touch()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "job.json").write_text("{")
    write_run(tmp_path / "e", [])
    found = collect(tmp_path)
    assert [[r["step"] for r in run.records] for run in found.runs] == [[0, 20]]
    said = "\n".join(found.problems)
    assert f"{tmp_path / 'a' / 'results.jsonl'}:4 is not a whole record and was skipped" in said
    assert f"{tmp_path / 'a'}: 1 records of another run, or without its environments, were skipped" in said
    assert f"{tmp_path / 'b'} repeats the run of {tmp_path / 'a'} and was not counted" in said
    assert f"{tmp_path / 'c'} is marked done but has no results.jsonl" in said
    assert f"{tmp_path / 'e' / 'results.jsonl'} has no record that can be counted" in said
    assert f"{tmp_path / 'd' / 'job.json'} is not a run's arguments" in said


def test_environment_names(tmp_path):
    for dataset in ("PACS", "ColoredMNIST", "folder:/some/place/mine", "Unheard"):
        of = args([0], dataset=dataset)
        write_run(
            tmp_path / dataset.split("/")[-1],
            [{**one(of), **({"environments": list("wxyz")} if "/" in dataset else {})}],
        )
    names = {run.key.dataset: environment_names(run.key.dataset, [run]) for run in collect(tmp_path).runs}
    assert names == {
        "PACS": ("A", "C", "P", "S"),
        "ColoredMNIST": ("+90%", "+80%", "-90%"),
        "folder:mine": ("w", "x", "y", "z"),
        "Unheard": ("0", "1", "2", "3"),
    }


def test_a_record_without_all_environments_is_skipped(tmp_path):
    short = one(args([0]), 10)
    del short["env2_out_acc"]
    write_run(tmp_path / "a", [one(args([0])), short])
    found = collect(tmp_path)
    assert [record["step"] for record in found.runs[0].records] == [0]
    assert "1 records of another run, or without its environments" in found.problems[0]


@pytest.mark.parametrize("setting", [{"steps": 5001}, {"hparams": '{"lr": 1}'}, {"holdout_fraction": 0.5}])
def test_one_run_with_two_settings_is_refused(tmp_path, setting):
    write_run(tmp_path / "a", [one(args([0]))])
    write_run(tmp_path / "b", [one({**args([0]), **setting})])
    ((name, value),) = setting.items()
    with pytest.raises(InputError, match=rf"one run with different settings \({name} None and") as error:
        collect(tmp_path)
    assert str(value) in str(error.value)


def test_a_run_is_not_a_folder_of_runs(tmp_path):
    write_run(tmp_path / "a", [one(args([0]))])
    with pytest.raises(InputError, match="is itself a run: give the folder in which it and others lie"):
        collect(tmp_path / "a")


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        collect(tmp_path / "missing")
