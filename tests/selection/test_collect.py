"""The runs of folders, each once."""

import functools
import itertools
import json

import pytest
from factories import args, planned, record, run_of, texts, write_run

import dg_batchformer.selection as collecting
from dg_batchformer import cli, machine
from dg_batchformer.errors import InputError
from dg_batchformer.runs.records import TORN, Problem, RunKey
from dg_batchformer.selection import NO_ARGS, NO_RUN, STRANGERS, TWICE, UNFINISHED, UNUSABLE, collect, summary


def one(of, step=0):
    return record(step, [0.5] * 4, [0.5] * 4, of)


def test_unfinished_runs_are_planned_not_counted(tmp_path):
    write_run(tmp_path / "a", [one(args([0]))])
    write_run(tmp_path / "b", [one(args([1]))], done=False)
    planned(tmp_path, "c", **args([2], trial=1))
    (tmp_path / "sweep.log").write_text("a file among the folders")
    found = collect([tmp_path])
    assert [identity.key.test_envs for identity in found.runs] == [(0,)]
    assert {(key.test_envs, key.trial_seed) for key in map(RunKey.from_args, found.planned)} == {((1,), 0), ((2,), 1)}
    assert len(found.problems) == 2
    assert texts(found.problems, UNFINISHED) == [
        f"{tmp_path / 'b'} (ERM on PACS, test_envs [1], trial_seed 0, hparams_seed 0) is incomplete: not counted",
        f"{tmp_path / 'c'} (ERM on PACS, test_envs [2], trial_seed 1, hparams_seed 0) is not launched: not counted",
    ]


def test_folders_that_are_no_runs_are_not_unfinished_ones(tmp_path):
    write_run(tmp_path / "a", [one(args([0]))])
    for name in ("data/PACS.json", "slurm/1.out", "notes/plan.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = collect([tmp_path])
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
    found = collect([tmp_path])
    assert [run.steps.tolist() for run in found.runs.values()] == [[0, 20]]
    assert texts(found.problems, TORN) == [f"{tmp_path / 'a' / 'results.jsonl'}:4 is not a complete record: skipped"]
    assert texts(found.problems, STRANGERS) == [f"{tmp_path / 'a'}: 1 record of another run was skipped"]
    (twice,) = texts(found.problems, TWICE)
    assert twice.startswith(f"{tmp_path / 'b'} repeats the run of {tmp_path / 'a'} ")
    assert texts(found.problems, UNUSABLE) == [
        f"{tmp_path / 'c'} is marked done but has no results.jsonl",
        f"{tmp_path / 'e' / 'results.jsonl'} has no valid record",
    ]
    (no_args,) = texts(found.problems, NO_ARGS)
    assert no_args.startswith(f"{tmp_path / 'd' / 'job.json'} is invalid")
    assert texts(found.problems, UNFINISHED) == [f"{tmp_path / 'd'} is not launched: not counted"]
    assert len(found.problems) == 7


@pytest.mark.parametrize("setting", [{"steps": 5000}, {"hparams": '{"lr": 1}'}, {"holdout_fraction": 0.5}])
def test_one_run_with_two_settings_is_two(tmp_path, setting):
    """Of which neither is left out: they are in rows or tables of their own."""
    write_run(tmp_path / "a", [one(args([0]))])
    write_run(tmp_path / "b", [one({**args([0]), **setting})])
    found = collect([tmp_path])
    assert (len(found.runs), found.problems) == (2, [])


@pytest.mark.parametrize(("accuracy", "how"), [(0.5, "with the same results"), (0.25, "with OTHER results")])
def test_a_run_that_is_there_twice_counts_once(tmp_path, capsys, accuracy, how):
    run_of(tmp_path, name="a")
    run_of(tmp_path, accuracy=accuracy, name="b")
    found = collect([tmp_path])
    text = f"{tmp_path / 'b'} repeats the run of {tmp_path / 'a'} {how}: not counted"
    assert ([run.folder for run in found.runs.values()], texts(found.problems)) == ([str(tmp_path / "a")], [text])
    assert cli.main(["collect", "--input_dir", str(tmp_path)]) == 0
    assert f"note: {TWICE} (1): {text}\n" in capsys.readouterr().err


def test_records_of_other_checkpoints_are_other_results(tmp_path):
    of = args([0])
    write_run(tmp_path / "a", [one(of), one(of, 300)])
    write_run(tmp_path / "b", [one(of)])
    assert "with OTHER results" in texts(collect([tmp_path]).problems)[0]


@pytest.mark.parametrize("depth", [1, 600])
def test_several_processes_read_what_one_reads(tmp_path, monkeypatch, depth):
    """Also what nests too deeply for a process to hand over: this one reads it then."""
    for env, trial in itertools.product(range(4), range(3)):
        run_of(tmp_path, env, trial=trial, done=trial < 2, steps=(0, 300))
    (tmp_path / "PACS-ERM-0-t0-h0" / "results.jsonl").write_text("torn\n")
    nested = functools.reduce(lambda inner, _: [inner], range(depth), [])
    run_of(tmp_path, 1, trial=5, hparams={"nested": nested})

    def found():
        read = collect([tmp_path])
        runs = [
            (run.folder, run.steps.tolist(), run.inside.tolist(), run.out.tolist(), run.args)
            for run in read.runs.values()
        ]
        return repr((list(read.runs), runs, read.planned, read.problems))

    alone = found()
    monkeypatch.setattr(machine, "available_cores", lambda: 2)
    monkeypatch.setattr(collecting, "FEWEST", 3)
    assert found() == alone


def test_several_folders_are_one_collection(tmp_path):
    run_of(tmp_path / "first", 0)
    run_of(tmp_path / "second", 1)
    run_of(tmp_path / "third", 0)
    folders = [tmp_path / name for name in ("first", "second", "third")]
    found = collect(folders)
    assert found.folders == tuple(map(str, folders))
    assert [identity.key.test_envs for identity in found.runs] == [(0,), (1,)]
    assert len(texts(found.problems, TWICE)) == 1
    assert texts(found.problems, NO_RUN) == [f"{folders[2]} has only runs that other folders have too"]


def test_a_folder_that_is_given_twice_counts_once(tmp_path):
    run_of(tmp_path / "sweep")
    (tmp_path / "link").symlink_to(tmp_path / "sweep")
    found = collect([tmp_path / "sweep", tmp_path / "sweep" / ".." / "sweep", tmp_path / "link"])
    assert [run.folder for run in found.runs.values()] == [str(tmp_path / "sweep" / "PACS-ERM-0-t0-h0")]
    assert found.problems == []


def test_data_that_moved_is_the_same_data(tmp_path):
    for env, where in enumerate(("/here/mine", "/there/mine", "mine")):
        run_of(tmp_path, env, dataset=f"folder:{where}", n_environments=3, name=str(env))
    assert {identity.key.dataset for identity in collect([tmp_path]).runs} == {"folder:mine"}


def test_a_run_is_not_a_folder_of_runs(tmp_path):
    write_run(tmp_path / "a", [one(args([0]))])
    with pytest.raises(InputError, match="is the folder of a single run: give the folder that contains it"):
        collect([tmp_path / "a"])


def test_folders_that_are_none_are_said_at_once(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"missing is not a folder(.|\n)*file is not a folder"):
        collect([tmp_path / "missing", tmp_path / "file"])
    assert cli.main(["collect", "--input_dir", str(tmp_path / "missing")]) == 2
    assert "missing is not a folder: expected one with the runs of a sweep" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["text", "csv", "json", "markdown", "latex"])
def test_a_folder_without_anything(tmp_path, capsys, form):
    assert cli.main(["collect", "--input_dir", str(tmp_path), "--format", form]) == 0
    shown = capsys.readouterr()
    assert f"note: {NO_RUN} (1): {tmp_path} has no finished run" in shown.err
    assert ("No table: no run is done." in shown.out) == (form != "csv")


@pytest.mark.parametrize("form", ["text", "csv", "json", "markdown", "latex"])
@pytest.mark.parametrize("dataset", ["PACS", "Mine"])
def test_a_folder_of_unfinished_runs_alone(tmp_path, capsys, form, dataset):
    """The tables say what is missing."""
    for trial in range(3):
        planned(tmp_path, str(trial), **args([0], dataset=dataset, trial=trial))
    assert cli.main(["collect", "--input_dir", str(tmp_path), "--format", form]) == 0
    shown = capsys.readouterr()
    assert f"note: {UNFINISHED} (3): " in shown.err
    if dataset == "PACS":
        assert "0 of 3 trials" in shown.out
    else:  # whose environments only a finished run tells
        assert form == "csv" or "no number: no run is done" in shown.out


def test_a_summary_counts_each_kind_and_names_three():
    problems = [Problem("kind", f"text {i}") for i in range(5)] + [Problem("other kind", "one")]
    assert summary(problems) == ["kind (5): text 0; text 1; text 2; and 2 more", "other kind (1): one"]
    assert summary([]) == []


def test_the_order_of_runs_is_that_of_their_folders(tmp_path):
    for name, env in (("b", 1), ("a", 2), ("c", 0)):
        run_of(tmp_path, env, name=name)
    assert [run.folder[-1] for run in collect([tmp_path]).runs.values()] == ["a", "b", "c"]


def test_what_the_command_says_is_what_the_document_holds(tmp_path, capsys):
    run_of(tmp_path, name="a")
    run_of(tmp_path, name="b", done=False)
    assert cli.main(["collect", "--input_dir", str(tmp_path), "--format", "json"]) == 0
    shown = capsys.readouterr()
    problems = json.loads(shown.out)["problems"]
    assert [
        f"note: {one['kind']} ({one['n']}): {'; '.join(one['texts'][:3])}" for one in problems
    ] == shown.err.splitlines()
