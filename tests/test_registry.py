"""Names to classes and back."""

import sys

import pytest

import dg_batchformer
from dg_batchformer import ALGORITHMS, get_algorithm_class, register_algorithm, registry
from dg_batchformer import with_batchformer as bf
from dg_batchformer import with_mixstyle as mix
from dg_batchformer import with_swad as swad
from dg_batchformer.algorithms import CORAL, ERM, IRM


def test_the_twelve():
    bases = ["ERM", "CORAL", "IRM", "VREx", "MixStyle", "SWAD"]
    assert list(ALGORITHMS) == [name for base in bases for name in (base, f"{base}_BatchFormer")]
    assert len({get_algorithm_class(name) for name in ALGORITHMS}) == 12


@pytest.mark.parametrize(
    ("name", "built"),
    [
        ("ERM", ERM),
        ("CORAL_BatchFormer", bf(CORAL)),
        ("MixStyle", mix(ERM)),
        ("SWAD", swad(ERM)),
        ("BatchFormer", bf(ERM)),
        ("SWAD_BatchFormer", bf(swad(ERM))),
        ("ERM_BatchFormer_SWAD", swad(bf(ERM))),
        ("MixStyle_BatchFormer", bf(mix(ERM))),
        ("IRM_MixStyle_SWAD", swad(mix(IRM))),
        ("CORAL_MixStyle_BatchFormer_SWAD", mix(swad(bf(CORAL)))),
        ("CORAL_SWAD_BatchFormer_MixStyle", bf(mix(swad(CORAL)))),
    ],
)
def test_a_composition_is_one_class_however_it_is_spelled(name, built):
    assert get_algorithm_class(name) is built


def test_the_class_bears_the_canonical_name():
    assert get_algorithm_class("SWAD_BatchFormer").__name__ == "ERM_BatchFormer_SWAD"
    assert bf(bf(CORAL)) is bf(CORAL)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CORRAL", "unknown algorithm 'CORRAL': did you mean CORAL"),
        ("CORAL_BatchFormr", "CORAL_BatchFormer"),
        ("ERM_SWAD_SWAD", "names a modifier twice"),
        ("torch", "known are"),
        ("", "known are"),
        ("no_such_module:Thing", "cannot be imported.*PYTHONPATH"),
        ("dg_batchformer.errors:InputError", "no update and no predict"),
        (":X", "cannot be imported"),
        (".x:Y", "cannot be imported"),
        ("os:sep", "is a str: expected a class"),
    ],
)
def test_unknown_names_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        get_algorithm_class(name)


@pytest.fixture
def clean_registry(monkeypatch):
    get_algorithm_class("ERM")  # fills it
    monkeypatch.setattr(registry, "_objectives", dict(registry._objectives))


def test_registered_algorithm_and_its_variants_resolve(clean_registry):
    @register_algorithm
    class Mine(ERM):
        """Mine."""

        hyperparameters = (dg_batchformer.hparams.Hyperparameter("mine", 3),)

    assert get_algorithm_class("Mine") is Mine
    assert get_algorithm_class("Mine_BatchFormer") is bf(Mine)
    assert dg_batchformer.default_hparams("Mine_BatchFormer", "PACS")["mine"] == 3
    assert dg_batchformer.default_hparams(bf(Mine), "PACS")["batchformer_layers"] == 1


def test_a_name_is_taken_once(clean_registry):
    with pytest.raises(ValueError, match=r"CORAL is registered already, by .*coral"):
        register_algorithm(type("CORAL", (ERM,), {}))
    register_algorithm(CORAL)  # the same class again is no conflict, as on a reload


@pytest.mark.parametrize("name", ["SWAD", "Mine_BatchFormer"])
def test_a_modifiers_name_is_refused(clean_registry, name):
    with pytest.raises(ValueError, match="expected another class name"):
        register_algorithm(type(name, (ERM,), {}))


def test_a_class_without_the_contract_is_refused(clean_registry):
    with pytest.raises(ValueError, match="has no predict"):
        register_algorithm(type("Half", (), {"update": lambda self: None}))


def test_own_class_by_path(tmp_path, monkeypatch):
    (tmp_path / "my_module_for_test.py").write_text(
        "from dg_batchformer.algorithms import ERM\nclass My_Own(ERM):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    cls = get_algorithm_class("my_module_for_test:My_Own_BatchFormer")
    assert cls is bf(sys.modules["my_module_for_test"].My_Own)


def test_algorithms_stand_in_the_tables_order():
    assert registry.in_order(["Zeta", "SWAD", "ERM_BatchFormer", "Alpha", "ERM", "ERM"]) == [
        "ERM",
        "ERM_BatchFormer",
        "SWAD",
        "Alpha",
        "Zeta",
    ]


def test_public_names_are_there():
    for name in dg_batchformer.__all__:
        assert getattr(dg_batchformer, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        dg_batchformer.nothing  # noqa: B018


DOMAINBED = {
    "__init__": "",
    "algorithms": """
from dg_batchformer.algorithms import ERM
ALGORITHMS = ["ERM", "GroupDRO"]
class GroupDRO(ERM):
    pass
""",
    "hparams_registry": """
import numpy as np
def default_hparams(algorithm, dataset):
    return {"lr": 0.5, "groupdro_eta": 0.01, "resnet50_augmix": True, "dataset": dataset}
def random_hparams(algorithm, dataset, seed):
    return {"lr": np.float64(seed), "groupdro_eta": np.int64(2), "resnet50_augmix": True, "dataset": dataset}
""",
}


def test_domainbeds_own_algorithms_resolve_where_it_is_importable(tmp_path, monkeypatch):
    # Not importable, also where it is installed or an earlier test has imported it.
    for name in [name for name in sys.modules if name.split(".")[0] == "domainbed"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "domainbed", None)
    with pytest.raises(ValueError, match="unknown algorithm 'GroupDRO_BatchFormer'"):
        get_algorithm_class("GroupDRO_BatchFormer")
    monkeypatch.delitem(sys.modules, "domainbed")
    (tmp_path / "domainbed").mkdir()
    for name, code in DOMAINBED.items():
        (tmp_path / "domainbed" / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    try:
        cls = get_algorithm_class("GroupDRO_BatchFormer")
        assert cls is bf(sys.modules["domainbed.algorithms"].GroupDRO)
        assert get_algorithm_class("ERM") is ERM  # ours, not DomainBed's
        hparams = dg_batchformer.default_hparams("GroupDRO_BatchFormer", "RotatedDigits")
        chosen = {k: hparams[k] for k in ("lr", "groupdro_eta", "resnet50_augmix", "dataset", "batchformer_heads")}
        assert chosen == {
            "lr": 0.5,
            "groupdro_eta": 0.01,
            "resnet50_augmix": False,
            "dataset": "RotatedMNIST",
            "batchformer_heads": 4,
        }
        assert not {"backbone", "weights"} & hparams.keys()  # which DomainBed's networks do not know
        drawn = dg_batchformer.random_hparams("GroupDRO_BatchFormer", "PACS", 3)
        assert (drawn["lr"], drawn["groupdro_eta"], drawn["dataset"]) == (3.0, 2, "PACS")
        assert (type(drawn["lr"]), type(drawn["groupdro_eta"])) == (float, int)
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "domainbed"]:
            del sys.modules[name]
