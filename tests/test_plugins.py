"""Plug-ins by entry points, among them the example package, installed and used; and the check of algorithms."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from factories import Plain

from dg_batchformer import get_algorithm_class, plugins
from dg_batchformer.cli import main
from dg_batchformer.data import find_benchmark
from dg_batchformer.errors import InputError

ROOT = Path(__file__).parents[1]


@pytest.fixture
def points(monkeypatch):
    """Makes entry points known: pairs of a name and a value for a group."""
    monkeypatch.setitem(sys.modules, "installed", sys.modules[__name__])

    def known(group, *pairs):
        found = [EntryPoint(name, value, group) for name, value in pairs]
        monkeypatch.setattr(plugins, "entry_points", lambda group: [one for one in found if one.group == group])
        plugins.plugins.cache_clear(), plugins.plugin.cache_clear()

    yield known
    plugins.plugins.cache_clear(), plugins.plugin.cache_clear()


class Still(Plain):
    """Its optimizer never steps."""

    def update(self, minibatches, unlabeled=None):
        return {"loss": 1.0}


class Forgets(Plain):
    """What its updates need is neither in a buffer nor a plain attribute."""

    def __init__(self, *given):
        super().__init__(*given)
        self.seen = {"steps": object()}

    def update(self, minibatches, unlabeled=None):
        values = super().update(minibatches)
        if self.seen.get("n", 0) >= 3:
            with torch.no_grad():
                self.classifier.bias += 1
        self.seen["n"] = self.seen.get("n", 0) + 1
        return values


class OfTheBatch(Plain):
    def predict(self, x):
        return self.network(x) - self.network(x).mean(0)


class Diverges(Plain):
    def update(self, minibatches, unlabeled=None):
        return {"loss": float("nan")}


NOT_A_CLASS = 3


def test_an_entry_point_is_known_by_name_with_its_variants(points):
    points(plugins.ALGORITHMS, ("Mine", "installed:Still"))
    assert get_algorithm_class("Mine") is Still
    assert issubclass(get_algorithm_class("Mine_BatchFormer"), Still)
    with pytest.raises(InputError, match="did you mean Mine"):
        get_algorithm_class("Mien")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (
            [("Mine", "installed:Still"), ("Mine", "installed:Plain")],
            "'Mine' is a plug-in of several packages: installed:Still",
        ),
        (
            [("Mine", "not_there:Still")],
            r"plug-in 'Mine' \(not_there:Still of .*\) cannot be loaded: ModuleNotFoundError",
        ),
        ([("Mine", "installed:NOT_A_CLASS")], r"'Mine' .* is a int: expected type"),
    ],
)
def test_a_bad_entry_point_is_named(points, pairs, message):
    points(plugins.ALGORITHMS, *pairs)
    with pytest.raises(InputError, match=message):
        get_algorithm_class("Mine_BatchFormer")


def test_a_name_of_this_package_keeps_its_meaning(points):
    points(plugins.ALGORITHMS, ("ERM", "installed:Still"))
    assert get_algorithm_class("ERM").__module__ == "dg_batchformer.algorithms.erm"
    points(plugins.DATASETS, ("Wrong", "installed:Still"))
    with pytest.raises(InputError, match="is a type: expected Benchmark"):
        find_benchmark("Wrong")


@pytest.mark.parametrize(
    ("cls", "status", "lines"),
    [
        (
            "Plain",
            0,
            [
                "ok  resumes           to the bit",
                "ok  with BatchFormer  ",
                "NO  with MixStyle     hparam 'mixstyle_layers'",
            ],
        ),
        ("Still", 1, ["NO  trains            no weight changed in 3 updates: expected an optimizer step in update"]),
        ("Diverges", 1, ["NO  trains            update returned {'loss': nan}: expected a dict with finite numbers"]),
        ("OfTheBatch", 1, ["NO  predicts          the prediction for an image is not the same alone and in a batch"]),
        (
            "Forgets",
            1,
            ["NO  resumes           a resumed run differs from an uninterrupted one, for example in "],
        ),
    ],
)
def test_the_check_says_what_works_point_by_point(monkeypatch, capsys, cls, status, lines):
    monkeypatch.setitem(sys.modules, "installed", sys.modules[__name__])
    assert main(["check-algorithm", f"installed:{cls}"]) == status
    printed = capsys.readouterr().out
    assert printed.startswith("ok  signature         update(minibatches, unlabeled) of DomainBed\n")
    for line in lines:
        assert line in printed
    if status:
        assert printed.splitlines()[-1].startswith("NO")


def test_the_example_package_is_installed_and_used(tmp_path):
    site = tmp_path / "site"
    install = ["-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(site)]
    source = tmp_path / "plugin"
    source.mkdir()
    for path in (ROOT / "examples" / "plugin").iterdir():
        if path.is_file():
            (source / path.name).write_bytes(path.read_bytes())
    subprocess.run([sys.executable, *install, str(source)], check=True, capture_output=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def command(*words):
        words = [sys.executable, "-m", "dg_batchformer", *words]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "resumes           to the bit" in command("check-algorithm", "MeanEnvironment")
    sweep = [
        "--datasets",
        "Blobs",
        "--algorithms",
        "MeanEnvironment",
        "MeanEnvironment_BatchFormer",
        "--output_dir",
        "sweep",
    ]
    fast = ["--n_hparams", "1", "--n_trials", "1", "--steps", "20", "--checkpoint_freq", "10", "--skip_confirmation"]
    command("sweep", "launch", *sweep, *fast, "--skip_model_save")
    table = command("collect", "--input_dir", "sweep")
    assert "MeanEnvironment_BatchFormer" in table
    assert all(name in table for name in ("little", "some", "much"))
