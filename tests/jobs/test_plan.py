"""A sweep's runs and their identities."""

import json

import pytest
from factories import image_tree, sweep_of

from dg_batchformer.data import find_benchmark
from dg_batchformer.errors import InputError
from dg_batchformer.hparams import seed_hash
from dg_batchformer.jobs.plan import Sweep, plan, test_env_sets
from dg_batchformer.runs.arguments import RunArguments

test_env_sets.__test__ = False  # its name is DomainBed's word, not a test's


def sweep(tmp_path, **changes):
    return sweep_of(tmp_path / "sweep", **{"datasets": ["RotatedDigits"], **changes})


def test_environments_left_out():
    def sets(name, **given):
        common = RunArguments(train_envs=given.pop("train_envs", None))
        return test_env_sets(find_benchmark(name), Sweep([name], common=common, **given))

    assert sets("Debug28") == [[0], [1], [2]]
    assert sets("Debug28", pairs=True) == [[0], [1], [2], [0, 1], [0, 2], [1, 2]]
    assert sets("Debug28", n_test_envs=2) == [[0, 1], [0, 2], [1, 2]]
    assert sets("PACS", n_test_envs=3) == [[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]]
    assert sets("PACS", train_envs=[1]) == [[0], [2], [3]]
    assert sets("PACS", train_envs=[1], n_test_envs=3) == [[0, 2, 3]]
    assert sets("mdlt:PACS") == [[]]
    assert sets("mdlt:PACS", single_test_envs=True) == [[0], [1], [2], [3]]
    assert len(sets("mdlt:PACS", pairs=True)) == 4 + 6


def test_paired_seeds_are_those_of_the_base(tmp_path):
    names = ["ERM", "ERM_BatchFormer", "SWAD", "SWAD_BatchFormer", "CORAL"]
    seeds = {}
    for paired in (False, True):
        for job in plan(sweep(tmp_path, algorithms=names, n_hparams=1, n_trials=2, paired_seeds=paired)):
            a = job.arguments
            seeds.setdefault((paired, a.algorithm), []).append(a.seed)
    for base in ("ERM", "SWAD"):
        assert seeds[True, base] == seeds[True, f"{base}_BatchFormer"]
        assert not set(seeds[False, base]) & set(seeds[False, f"{base}_BatchFormer"])
    assert seeds[True, "ERM"] == seeds[False, "ERM"]
    assert not set(seeds[True, "ERM"]) & {*seeds[True, "SWAD"], *seeds[True, "CORAL"]}


def test_paired_seeds_are_another_sweep(tmp_path):
    folders = [
        {job.folder for job in plan(sweep(tmp_path, algorithms=["ERM"], n_hparams=1, paired_seeds=paired))}
        for paired in (False, True)
    ]
    assert not folders[0] & folders[1]


def test_all_combinations_each_once_with_domainbeds_seeds(tmp_path):
    jobs = plan(sweep(tmp_path, algorithms=["ERM", "CORAL"], n_hparams=3, n_hparams_from=1, n_trials=2, pairs=True))
    assert len(jobs) == 2 * 10 * 2 * 2
    assert len({job.folder for job in jobs}) == len(jobs)
    assert {job.arguments.hparams_seed for job in jobs} == {1, 2}
    for job in jobs:
        a = job.arguments
        assert a.seed == seed_hash(a.dataset, a.algorithm, a.test_envs, a.hparams_seed, a.trial_seed)


def test_the_usual_table_needs_single_environments_only(tmp_path):
    assert [job.arguments.test_envs for job in plan(sweep(tmp_path))] == [[0], [1], [2], [3]]


def ids(tmp_path, **changes):
    return [job.folder.name for job in plan(sweep(tmp_path, **changes))]


def test_a_run_is_what_changes_its_result(tmp_path):
    base = ids(tmp_path)
    assert ids(tmp_path / "elsewhere", data_dir="/other/place", skip_model_save=True) == base
    assert ids(tmp_path, hparams='{"lr":  0.1}') == ids(tmp_path, hparams='{"lr": 0.1}')
    for change in ({"steps": 7}, {"hparams": '{"lr": 0.1}'}, {"holdout_fraction": 0.3}, {"checkpoint_freq": 3}):
        assert not set(ids(tmp_path, **change)) & set(base)


def test_runs_keep_the_ids_of_old(tmp_path):
    """Those that they had before there was `fixed_hparams`: a sweep begun then goes on."""
    jobs = ids(tmp_path, algorithms=["ERM", "ERM_BatchFormer"], n_hparams=3, n_trials=2)
    assert (jobs[0], jobs[-1]) == ("0b498c676f7681b71d10ab2ae5be13f1", "cbd23f8ce17026116e68b1e394135379")


def test_runs_of_fixed_hparams_are_others_with_the_same_seeds(tmp_path):
    own, fixed = (plan(sweep(tmp_path, n_hparams=2, n_trials=2, fixed_hparams=value)) for value in (False, True))
    assert not {job.folder for job in own} & {job.folder for job in fixed}
    assert [job.arguments.seed for job in fixed] == [job.arguments.seed for job in own]
    assert all(job.arguments.fixed_hparams for job in fixed)


def test_the_datasets_own_steps_are_its_steps(tmp_path):
    assert ids(tmp_path, steps=301, checkpoint_freq=20) == ids(tmp_path)


def test_other_weights_are_other_runs_whatever_they_are_called(tmp_path):
    runs = []
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "w.pth").write_text(place)
        runs.append(set(ids(tmp_path, hparams=json.dumps({"weights": str(tmp_path / place / "w.pth")}))))
    assert not runs[0] & runs[1]


def test_what_is_named_twice_runs_once(tmp_path):
    names = ["ERM", "ERM", "CORAL", "ERM"]
    assert ids(tmp_path, datasets=["RotatedDigits"] * 2, algorithms=names) == ids(tmp_path, algorithms=["ERM", "CORAL"])


def test_two_datasets_of_one_name_are_refused(tmp_path):
    roots = [image_tree(tmp_path / place / "mine") for place in ("here", "there")]
    with pytest.raises(InputError, match="two datasets are called folder:mine"):
        plan(sweep(tmp_path, datasets=[f"folder:{root}" for root in roots]))


def test_moved_folders_and_weights_are_the_same_runs(tmp_path):
    roots = [image_tree(tmp_path / place / "mine") for place in ("here", "there")]
    for root in roots:
        (root.parent / "w.pth").touch()
    one, other = (
        ids(tmp_path, datasets=[f"folder:{root}"], hparams=json.dumps({"weights": str(root.parent / "w.pth")}))
        for root in roots
    )
    assert one == other


def test_an_hparam_goes_to_the_algorithms_that_have_it(tmp_path):
    jobs = plan(sweep(tmp_path, algorithms=["ERM", "IRM"], hparams='{"irm_lambda": 2.0, "lr": 0.1}'))
    given = {job.arguments.algorithm: json.loads(job.arguments.hparams) for job in jobs}
    assert given == {"ERM": {"lr": 0.1}, "IRM": {"irm_lambda": 2.0, "lr": 0.1}}


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        ({"datasets": ["PAC"]}, ["unknown dataset 'PAC': did you mean PACS"]),
        ({"algorithms": ["ERM", "CORRAL"]}, ["unknown algorithm 'CORRAL'"]),
        ({"hparams": "{"}, ["is not JSON"]),
        ({"hparams": '{"irm_lamda": 1}'}, ["unknown hparam 'irm_lamda': did you mean irm_lambda"]),
        ({"hparams": '{"lr": "x"}'}, ["hparam 'lr' is 'x'"]),
        ({"hparams": '{"weights": "/no/w.pth"}'}, ["expected 'imagenet', null or an existing file"]),
        ({"n_hparams": 0}, ["--n_hparams 0"]),
        ({"n_trials": 0}, ["--n_trials is 0"]),
        ({"steps": 0, "holdout_fraction": 2.0}, ["--steps is 0", "--holdout_fraction is 2.0"]),
    ],
)
def test_wrong_sweeps_are_refused_with_all_reasons(tmp_path, changes, messages):
    with pytest.raises(InputError) as error:
        plan(sweep(tmp_path, **changes))
    assert len(str(error.value).splitlines()) == len(messages)
    assert all(message in str(error.value) for message in messages)


def test_the_command_of_a_job_runs_it(tmp_path):
    (job, *_) = plan(sweep(tmp_path / "with space", hparams='{"lr": 0.1}', skip_model_save=True, fixed_hparams=True))
    import shlex

    from dg_batchformer.cli import parser

    words = shlex.split(job.arguments.command)
    assert words[:4] == ["python", "-m", "dg_batchformer", "train"]
    parsed = vars(parser().parse_args(words[3:]))
    assert parsed.pop("command") is not None
    assert parsed.pop("overwrite") is False
    assert parsed == vars(job.arguments)
