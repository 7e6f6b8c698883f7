"""Launchers by name, and the options that each has."""

import pytest
from factories import jobs_of

from dg_batchformer.errors import InputError
from dg_batchformer.jobs.launchers import find_launcher, launchers


def test_dummy_prints_the_commands(tmp_path, capsys):
    jobs = jobs_of(tmp_path / "sweep")
    find_launcher("dummy", {"gpus": (7,)}).preview(jobs)
    assert capsys.readouterr().out.splitlines() == [job.arguments.command for job in jobs]
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
        find_launcher(name, options)
    said = str(error.value).splitlines()
    assert len(said) == len(messages)
    assert all(line.startswith(message) for line, message in zip(said, messages, strict=True))


def test_launchers_and_their_options():
    assert {"local", "multi_gpu", "slurm", "dummy"} <= launchers().keys()
    assert find_launcher("slurm", {"n_workers": 3, "slurm": [("time", 5)], "retries": 2}) == launchers()["slurm"](
        n_workers=3, slurm=[("time", 5)], retries=2
    )
