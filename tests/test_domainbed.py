"""The DomainBed plug-in on a package that has DomainBed's names and little else; tests/fidelity has the real one."""

import importlib
import json
import sys
import textwrap

import pytest
import torch

from dg_batchformer import domainbed
from dg_batchformer.domainbed import register
from dg_batchformer.domainbed.__main__ import main
from dg_batchformer.errors import InputError

PACKAGE = {
    "__init__.py": "",
    "algorithms.py": """
        from factories import Plain

        class ERM(Plain):
            pass

        class Other(Plain):
            pass

        class NoFeaturizer(Plain):
            def __init__(self, *args):
                super().__init__(*args)
                del self.featurizer

        ALGORITHMS = ["ERM", "Other", "NoFeaturizer"]

        def get_algorithm_class(name):
            return globals()[name]
    """,
    "hparams_registry.py": """
        def _hparams(algorithm, dataset, seed):
            return {"lr": (0.1, 0.01 * seed), "of": (algorithm, algorithm)}

        def default_hparams(algorithm, dataset):
            return {name: default for name, (default, _) in _hparams(algorithm, dataset, 0).items()}
    """,
    "command_launchers.py": """
        REGISTRY = {"local": lambda commands: print(*commands, sep="\\n"), "multi_gpu": lambda commands: None}
    """,
    "lib/__init__.py": "",
    "lib/misc.py": """
        def accuracy(network, loader, weights, device):
            network.eval()
            right = sum((network.predict(x).argmax(1) == y).sum().item() for x, y in loader)
            network.train()
            return right / sum(len(y) for _, y in loader)
    """,
    "scripts/__init__.py": "",
    "scripts/train.py": """
        import argparse
        import json

        import torch

        from domainbed import algorithms, hparams_registry
        from domainbed.lib import misc

        if __name__ == "__main__":
            parser = argparse.ArgumentParser()
            parser.add_argument("--algorithm")
            parser.add_argument("--output_dir")
            parser.add_argument("--test_envs", type=int, nargs="+", default=[0])
            args = parser.parse_args()
            hparams = hparams_registry.default_hparams(args.algorithm, "digits")
            hparams.update({name: 1 for name in ("swad_n_converge", "swad_n_tolerance") if name in hparams})
            algorithm = algorithms.get_algorithm_class(args.algorithm)((1, 4, 4), 3, 2, hparams)
            n_steps = 6
            data = [(torch.randn(6, 1, 4, 4), torch.arange(6) % 3) for _ in range(6)]
            eval_loaders = [[one] for one in data]
            eval_loader_names = [f"env{i}_{part}" for part in ("in", "out") for i in range(3)]
            for step in range(n_steps):
                algorithm.update(data[1:3])
                torch.save(dict(algorithm.named_parameters(remove_duplicate=False)), f"{args.output_dir}/{step}.pt")
                results = {"step": step}
                for name, loader in zip(eval_loader_names, eval_loaders):
                    results[name + "_acc"] = misc.accuracy(algorithm, loader, None, "cpu")
                with open(f"{args.output_dir}/results.jsonl", "a") as file:
                    file.write(json.dumps(results) + "\\n")
                torch.save(algorithm.state_dict(), f"{args.output_dir}/model.pt")
    """,
    "scripts/sweep.py": """
        from domainbed import command_launchers

        if __name__ == "__main__":
            command = "python -m domainbed.scripts.train --algorithm Other --output_dir 'a b'"
            command_launchers.REGISTRY["local"]([command])
    """,
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package called domainbed, in a folder whose files a test may change before it is imported."""
    for name, text in PACKAGE.items():
        path = tmp_path / "checkout" / "domainbed" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path / "checkout"))
    monkeypatch.setattr(sys, "argv", ["pytest"])
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "domainbed"}
    for name in before:
        del sys.modules[name]
    yield tmp_path / "checkout" / "domainbed"
    for name in [name for name in sys.modules if name.partition(".")[0] == "domainbed"]:
        del sys.modules[name]
    sys.modules.update(before)


def modules():
    return [
        importlib.import_module(f"domainbed.{name}") for name in ("algorithms", "hparams_registry", "command_launchers")
    ]


def test_every_algorithm_has_every_variant(package):
    register()
    algorithms, registry, command_launchers = modules()
    assert algorithms.ALGORITHMS[:3] == ["ERM", "Other", "NoFeaturizer"]
    added = ["ERM_BatchFormer", "MixStyle", "MixStyle_BatchFormer", "SWAD", "SWAD_BatchFormer"]
    assert algorithms.ALGORITHMS[3:] == added
    for name in ("Other_BatchFormer", "Other_SWAD_MixStyle_BatchFormer", "SWAD_BatchFormer", "MixStyle"):
        assert issubclass(algorithms.get_algorithm_class(name), algorithms.ERM if name[0] in "MS" else algorithms.Other)
    assert algorithms.SWAD_BatchFormer is algorithms.ERM_BatchFormer_SWAD
    assert registry._hparams("Other_BatchFormer", "digits", 3)["lr"] == registry._hparams("Other", "digits", 3)["lr"]
    assert registry.default_hparams("Other_SWAD", "digits")["of"] == "Other"
    assert registry.default_hparams("Other_SWAD", "digits")["swad_n_converge"] == 3
    assert set(command_launchers.REGISTRY) == {"local", "multi_gpu", "cpu_workers"}


def test_twice_is_once(package):
    register()
    algorithms, registry, command_launchers = modules()
    before = dict(vars(algorithms)), list(algorithms.ALGORITHMS), registry._hparams, dict(command_launchers.REGISTRY)
    register()
    after = dict(vars(algorithms)), list(algorithms.ALGORITHMS), registry._hparams, dict(command_launchers.REGISTRY)
    assert after == before


def test_a_name_that_is_taken_keeps_its_meaning(package):
    with (package / "algorithms.py").open("a") as file:
        file.write("class MixStyle(Plain):\n    pass\n\nALGORITHMS.append('MixStyle')\n")
    register()
    algorithms, registry, _ = modules()
    assert not hasattr(algorithms.MixStyle, "composition")
    assert registry.default_hparams("MixStyle", "digits")["of"] == "MixStyle"


@pytest.mark.parametrize(
    ("file", "name"),
    [("algorithms.py", "ALGORITHMS"), ("command_launchers.py", "REGISTRY"), ("lib/misc.py", "accuracy")],
)
def test_a_package_that_lacks_what_is_extended_is_named_and_nothing_is_registered(package, file, name):
    path = package / file
    path.write_text(path.read_text().replace(name, "renamed"))
    with pytest.raises(
        InputError, match=rf"{path.stem}.*\({path}\) has no {name}: expected facebookresearch/DomainBed"
    ):
        register()
    algorithms = importlib.import_module("domainbed.algorithms")
    assert not [known for known in vars(algorithms) if "BatchFormer" in known]


def test_a_listed_algorithm_that_is_not_there_is_named(package):
    with (package / "algorithms.py").open("a") as file:
        file.write("ALGORITHMS.append('NotThere')\n")
    with pytest.raises(InputError, match=r"domainbed\.algorithms lists NotThere, but has no such class"):
        register()


def test_a_listed_class_that_extends_a_variant_gets_no_variants(package):
    with (package / "algorithms.py").open("a") as file:
        file.write("from dg_batchformer import with_batchformer\n")
        file.write("class Mine(with_batchformer(Other)):\n    pass\n\nALGORITHMS.append('Mine')\n")
    register()
    assert not [name for name in vars(modules()[0]) if name.startswith("Mine_")]


def test_without_domainbed_the_reason_is_given(package, capsys):
    (package / "algorithms.py").write_text("import no_such_module_here")
    assert main(["train"]) == 2
    expected = (
        "error: domainbed.algorithms cannot be imported (No module named 'no_such_module_here'): expected a checkout of"
    )
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "--algorithm", "get_algorithm_class"], "unknown algorithm 'get_algorithm_class'"),
        (
            ["sweep", "launch", "--algorithms", "Other_BatchFormer", "--hparams", '{"batchformer_heads": 3}'],
            "hparam 'batchformer_heads' is 3: expected a divisor of 8",
        ),
        (
            ["sweep", "launch", "--command_launcher", "slurm"],
            "unknown launcher 'slurm': known are local, multi_gpu, cpu_w",
        ),
        (["train", "--algorithm", "Othr_SWAD"], "unknown algorithm 'Othr_SWAD': did you mean Other_SWAD"),
        (
            ["sweep", "launch", "--algo", "ERM", "NoFeaturizer_MixStyle"],
            "NoFeaturizer does not work with MixStyle: it has no",
        ),
    ],
)
def test_wrong_algorithms_are_named_before_the_script_runs(package, capsys, argv, message):
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert f"error: {message}" in printed.err
    assert printed.out == ""


def test_a_script_that_gives_no_validation_losses_is_named(package, capsys, tmp_path):
    path = package / "scripts" / "train.py"
    path.write_text(path.read_text().replace("n_steps", "total"))
    assert main(["train", "--algorithm", "SWAD", "--output_dir", str(tmp_path)]) == 2
    assert "error: domainbed.scripts.train has no n_steps: expected facebookresearch" in capsys.readouterr().err


def test_swad_ends_with_one_record_of_the_averaged_weights(package, tmp_path):
    torch.manual_seed(0)
    for name in ("results.jsonl", "progress.jsonl", "done"):
        (tmp_path / name).write_text("of an earlier run")
    assert main(["train", "--algorithm", "Other_SWAD", "--output_dir", str(tmp_path)]) == 0
    assert not (tmp_path / "done").exists()
    (final,) = map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines())
    progress = list(map(json.loads, (tmp_path / "progress.jsonl").read_text().splitlines()))
    assert [record["step"] for record in (*progress, final)] == [*range(6), 5]
    assert final["validation_loss"] != progress[-1]["validation_loss"]  # of the average, and of the last weights
    assert all(record["validation_loss"] > 0 for record in (*progress, final))
    start, end = final["swad_window"]
    assert start < end
    models = [torch.load(tmp_path / f"{step}.pt", weights_only=True) for step in range(start, end + 1)]
    for name, value in torch.load(tmp_path / "model.pt", weights_only=True).items():
        torch.testing.assert_close(value, torch.stack([model[name] for model in models]).mean(0))
        assert not torch.equal(value, models[-1][name])


def test_until_the_end_there_is_no_record_that_a_table_could_take(package, tmp_path):
    path = package / "scripts" / "train.py"
    path.write_text(
        path.read_text().replace("algorithm.update(data[1:3])", "algorithm.update(data[1:3] if step < 5 else None)")
    )
    with pytest.raises(TypeError):  # the script breaks off before its last step
        main(["train", "--algorithm", "Other_SWAD", "--output_dir", str(tmp_path)])
    assert not (tmp_path / "results.jsonl").exists()
    assert len((tmp_path / "progress.jsonl").read_text().splitlines()) == 5


def test_other_algorithms_are_left_to_the_script(package, tmp_path):
    assert main(["train", "--algorithm", "Other_BatchFormer", "--output_dir", str(tmp_path)]) == 0
    records = list(map(json.loads, (tmp_path / "results.jsonl").read_text().splitlines()))
    assert [record.keys() & {"step", "validation_loss"} for record in records] == [{"step"}] * 6
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert not [name for name in state if name.startswith("batchformer")]
    register()
    algorithms, registry, _ = modules()
    given = (1, 4, 4), 3, 2
    algorithms.Other(*given, {"lr": 0.1}).load_state_dict(state)
    algorithms.Other_BatchFormer(*given, registry.default_hparams("Other_BatchFormer", "digits")).load_state_dict(state)
    accuracy = importlib.import_module("domainbed.lib.misc").accuracy
    assert accuracy.__module__ == "domainbed.lib.misc"  # itself again after the script


def test_without_validation_losses_an_average_is_refused(package):
    register()
    algorithms, registry, _ = modules()
    algorithm = algorithms.Other_SWAD((1, 4, 4), 3, 2, registry.default_hparams("Other_SWAD", "digits"))
    algorithm.state_dict()
    algorithm.update([(torch.randn(4, 1, 4, 4), torch.arange(4) % 3)] * 2)
    with pytest.raises(
        InputError, match="Other_SWAD averages weights by validation losses, and this script gives none"
    ):
        algorithm.state_dict()


def test_launched_jobs_are_registered_too(package, capsys):
    assert main(["sweep", "launch"]) == 0
    assert capsys.readouterr().out == f"{domainbed.OUR_TRAIN} --algorithm Other --output_dir 'a b'\n"


def test_multi_gpu_needs_a_gpu(package, monkeypatch):
    register()
    launch = modules()[2].REGISTRY["multi_gpu"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(domainbed, "device", lambda: "cpu")
    with pytest.raises(InputError, match="multi_gpu finds no GPU here"):
        launch(["true"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    launch(["true"])


def test_cpu_workers_run_every_command_and_say_what_failed(tmp_path, capsys):
    commands = [f"touch '{tmp_path}/{name}'" for name in ("a", "b c", "d")]
    domainbed.cpu_workers([*commands[:2], "exit 3", commands[2]])
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b c", "d"}
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == ["[3/4] FAILED (3): exit 3", f"[4/4] done: {commands[2]}", "3 done, 1 failed"]


@pytest.mark.parametrize(("argv", "status"), [([], 0), (["--help"], 0), (["predict"], 2)])
def test_usage(argv, status, capsys):
    assert main(argv) == status
    printed = capsys.readouterr()
    assert "usage: python -m dg_batchformer.domainbed {train,sweep,collect}" in printed.out + printed.err
