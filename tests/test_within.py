"""Scripts of other code bases with variants, on small packages with their names; tests/fidelity has the real ones."""

import json
import sys
import textwrap

import pytest
import torch

from dg_batchformer.within.__main__ import main

ALGORITHMS = """
    import torch
    from factories import Plain

    class Algorithm(torch.nn.Module): ...

    class AbstractOther(Algorithm): ...

    class ERM(Plain, Algorithm):
        def update(self, x, y, **kwargs):
            return super().update(list(zip(x, y)))

    class Other(ERM): ...

    def get_algorithm_class(name):
        return globals()[name]
"""
HPARAMS = """
    def _hparams(algorithm, dataset, random_state):
        return {"lr": (0.1, 0.01), "of": (algorithm, algorithm)}

    def default_hparams(algorithm, dataset):
        return {name: default for name, (default, _) in _hparams(algorithm, dataset, None).items()}
"""
SWAD = {
    "domainbed/__init__.py": "",
    "domainbed/algorithms/__init__.py": ALGORITHMS,
    "domainbed/hparams_registry.py": HPARAMS,
    "domainbed/lib/__init__.py": "",
    "domainbed/lib/swa_utils.py": """
        import copy
        import torch

        class AveragedModel(torch.nn.Module):
            def __init__(self, model):
                super().__init__()
                self.module, self.n = copy.deepcopy(model), 0

            def update_parameters(self, model, step=None):
                for mean, now in zip(self.parameters(), model.parameters()):
                    mean.detach().copy_((mean * self.n + now.detach()) / (self.n + 1))
                self.n += 1
    """,
    "train_all.py": """
        import argparse, json, sys
        import numpy as np
        import torch
        from domainbed import hparams_registry
        from domainbed.algorithms import get_algorithm_class
        from domainbed.lib.swa_utils import AveragedModel

        if __name__ == "__main__":
            parser = argparse.ArgumentParser()
            parser.add_argument("--algorithm")
            parser.add_argument("--out")
            args = parser.parse_args()
            hparams = hparams_registry.default_hparams(args.algorithm, "PACS")
            algorithm = get_algorithm_class(args.algorithm)((1, 4, 4), 3, np.int(2), hparams)
            average, seen = AveragedModel(algorithm), []
            for step in range(3):
                x = [torch.randn(4, 1, 4, 4) for _ in range(2)]
                algorithm.update(x=x, y=[torch.arange(4) % 3] * 2, step=step)
                average.update_parameters(algorithm, step=step)
                seen.append({name: one.detach().clone() for name, one in algorithm.named_parameters()})
            torch.save({"seen": seen, "average": dict(average.module.named_parameters()),
                        "state": algorithm.state_dict(), "hparams": hparams}, args.out)
    """,
}
MDLT = {
    "mdlt/__init__.py": "",
    "mdlt/learning/__init__.py": "",
    "mdlt/learning/algorithms.py": ALGORITHMS.replace(
        "self, x, y, **kwargs", "self, minibatches, env_feats=None"
    ).replace("list(zip(x, y))", "minibatches")
    + "\n    ALGORITHMS = ['ERM', 'Other']\n",
    "mdlt/hparams_registry.py": HPARAMS,
    "mdlt/train.py": """
        import argparse
        import torch
        from mdlt import hparams_registry
        from mdlt.learning import algorithms

        if __name__ == "__main__":
            parser = argparse.ArgumentParser()
            parser.add_argument("--algorithm", choices=algorithms.ALGORITHMS)
            args = parser.parse_args()
            hparams = hparams_registry.default_hparams(args.algorithm, "PACS")
            algorithm = algorithms.get_algorithm_class(args.algorithm)((1, 4, 4), 3, 2, hparams)
            print(algorithm.update([(torch.randn(4, 1, 4, 4), torch.arange(4) % 3)] * 2, {}), algorithm.batchformer)
    """,
}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Makes a checkout of some files; their packages are gone at the end."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["pytest"])
    packages = ("domainbed", "mdlt")
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in packages}

    def clear():
        for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
            del sys.modules[name]

    def make(files):
        for name, text in files.items():
            path = tmp_path / "checkout" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return tmp_path / "checkout"

    clear()
    yield make
    clear()
    sys.modules.update(before)


@pytest.mark.parametrize("name", ["ERM_BatchFormer", "Other_BatchFormer", "Other"])
def test_swads_script_averages_the_inference_weights_alone(checkout, tmp_path, name):
    torch.manual_seed(0)
    assert main([str(checkout(SWAD)), "train_all.py", "--algorithm", name, "--out", str(tmp_path / "out")]) == 0
    saved = torch.load(tmp_path / "out", weights_only=True)
    inference = [key for key in saved["seen"][0] if not key.startswith("batchformer.")]
    assert list(saved["average"]) == inference
    assert ("batchformer.layers.0.linear1.weight" in saved["seen"][0]) == ("BatchFormer" in name)
    assert not [key for key in saved["state"] if key.startswith("batchformer.")]
    for key, value in saved["average"].items():
        torch.testing.assert_close(value, torch.stack([one[key] for one in saved["seen"]]).mean(0))
    assert saved["hparams"]["of"] == name.partition("_")[0]


def test_mdlts_module_accepts_the_variants(checkout, capsys):
    assert main([str(checkout(MDLT)), "mdlt.train", "--algorithm", "Other_BatchFormer"]) == 0
    printed = capsys.readouterr().out
    assert "loss" in printed
    assert "TransformerEncoderLayer" in printed


def test_registering_twice_is_registering_once(checkout, tmp_path):
    folder = checkout(SWAD)
    for _ in range(2):
        assert (
            main([str(folder), "train_all.py", "--algorithm", "ERM_BatchFormer", "--out", str(tmp_path / "out")]) == 0
        )
    averaged = sys.modules["domainbed.lib.swa_utils"].AveragedModel
    assert not hasattr(averaged.update_parameters.extends, "extends")


@pytest.mark.parametrize(
    ("files", "argv", "message"),
    [
        (SWAD, ["train.py"], "has no script train.py: expected a file (train.py) or a module (package.train)"),
        (SWAD, ["domainbed.nothing.train"], "has no script domainbed.nothing.train"),
        (
            SWAD,
            ["train_all.py", "--algorithm", "Othr_BatchFormer"],
            "unknown algorithm 'Othr_BatchFormer': did you mean Other_",
        ),
        (
            SWAD,
            ["train_all.py", "--algorithm", "ERM_SWAD"],
            "algorithm 'ERM_SWAD' has SWAD, for which this script gives no",
        ),
        ({"README": ""}, ["train.py"], "is not a known project: expected a checkout of facebookresearch/DomainBed"),
        (
            SWAD | {"domainbed/hparams_registry.py": ""},
            ["train_all.py"],
            "has no _hparams and no default_hparams: expected khanrc/swad",
        ),
        (
            MDLT
            | {"mdlt/learning/algorithms.py": MDLT["mdlt/learning/algorithms.py"] + "    ALGORITHMS += ['Gone']\n"},
            ["mdlt.train"],
            "mdlt.learning.algorithms lists Gone, but has no such class: expected YyzHarry/multi-domain-imbalance",
        ),
    ],
)
def test_invalid_input_is_one_sentence_and_registers_nothing(checkout, capsys, files, argv, message):
    assert main([str(checkout(files)), *argv]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""
    for name in ("domainbed.algorithms", "mdlt.learning.algorithms"):
        if "--algorithm" not in argv:
            assert not [one for one in vars(sys.modules.get(name, json)) if "BatchFormer" in one]


def test_a_missing_checkout_and_usage(tmp_path, capsys):
    assert main([str(tmp_path / "none"), "train.py"]) == 2
    assert f"there is no folder {tmp_path / 'none'}: expected a checkout of" in capsys.readouterr().err
    assert [main(one) for one in ([], ["--help"], ["here"])] == [2, 0, 2]
