"""Launchers by name."""

import pytest

from dg_batchformer.errors import InputError
from dg_batchformer.jobs.launchers import find_launcher
from dg_batchformer.jobs.options import Options
from dg_batchformer.jobs.plan import Sweep, plan


def test_dummy_prints_the_commands(tmp_path, capsys):
    jobs = plan(Sweep(["RotatedDigits"], str(tmp_path / "sweep"), ["ERM"], n_hparams=1, n_trials=1))
    find_launcher("dummy", Options()).preview(jobs, Options())
    assert capsys.readouterr().out.splitlines() == [job.command for job in jobs]
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("name", "options", "messages"),
    [
        ("locl", {}, ["unknown launcher 'locl': did you mean local"]),
        (
            "local",
            {"retries": -1, "timeout": 0.0},
            ["--retries is -1: expected at least 0", "--timeout is 0: expected"],
        ),
        ("local", {"n_workers": 0, "jobs_per_gpu": 0}, ["--n_workers is 0", "--jobs_per_gpu is 0"]),
        ("local", {"gpus": (0,)}, ["--gpus is for --command_launcher multi_gpu, not local: leave it out"]),
        ("multi_gpu", {"n_workers": 2}, ["--n_workers is for --command_launcher local or slurm, not multi_gpu"]),
        ("local", {"slurm": {"time": 5}}, ["--slurm is for --command_launcher slurm, not local"]),
    ],
)
def test_what_a_launcher_cannot_have(name, options, messages):
    with pytest.raises(InputError) as error:
        find_launcher(name, Options(**options))
    said = str(error.value).splitlines()
    assert len(said) == len(messages)
    assert all(line.startswith(message) for line, message in zip(said, messages, strict=True))


@pytest.mark.parametrize("name", ["local", "multi_gpu", "slurm", "dummy"])
def test_each_has_a_way_to_run_runs_or_to_show_them(name):
    launcher = find_launcher(name, Options())
    assert bool(launcher.places) + bool(launcher.submission) == (name != "dummy")
