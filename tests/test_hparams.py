"""Draws and seeds against values that DomainBed (b93c22a) gives."""

import pytest

from dg_batchformer import ALGORITHMS, default_hparams, random_hparams
from dg_batchformer.errors import InputError, unknown
from dg_batchformer.hparams import Hyperparameter, problems_with, require, seed_hash
from dg_batchformer.registry import hyperparameters


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [((0, 1), 1514274641), (("PACS", "ERM", [0], 0, 0), 94828300), ((3, 2), 1412061351)],
)
def test_seed_hash_is_domainbeds(arguments, expected):
    assert seed_hash(*arguments) == expected


@pytest.mark.parametrize(
    ("algorithm", "dataset", "seed", "expected"),
    [
        (
            "ERM",
            "PACS",
            1,
            {
                "resnet_dropout": 0.5,
                "lr": 2.1013712179831686e-05,
                "weight_decay": 0.00464042443007805,
                "batch_size": 32,
            },
        ),
        (
            "IRM",
            "VLCS",
            1412061351,
            {
                "resnet_dropout": 0.1,
                "irm_lambda": 22.55060436474896,
                "irm_penalty_anneal_iters": 5314,
                "lr": 2.259509333895171e-05,
                "weight_decay": 0.0038093795402535276,
                "batch_size": 24,
            },
        ),
        (
            "VREx",
            "RotatedMNIST",
            7,
            {
                "vrex_lambda": 6520.763089474083,
                "vrex_penalty_anneal_iters": 1231,
                "lr": 9.248299940294055e-05,
                "weight_decay": 0.0,
                "batch_size": 276,
            },
        ),
        (
            "CORAL",
            "DomainNet",
            5,
            {
                "mmd_gamma": 2.1928548760884294,
                "lr": 0.000125257726929425,
                "weight_decay": 0.004636690676892078,
                "batch_size": 14,
            },
        ),
    ],
)
def test_draws_are_domainbeds_to_the_bit(algorithm, dataset, seed, expected):
    drawn = random_hparams(algorithm, dataset, seed)
    assert {name: drawn[name] for name in expected} == expected


def test_defaults_are_domainbeds_but_for_one():
    defaults = default_hparams("IRM", "PACS")
    expected = {
        "lr": 5e-5,
        "batch_size": 32,
        "weight_decay": 0.0,
        "resnet_dropout": 0.0,
        "resnet18": False,
        "freeze_bn": False,
        "class_balanced": False,
        "data_augmentation": True,
        "irm_lambda": 100.0,
        "irm_penalty_anneal_iters": 500,
        "resnet50_augmix": False,  # DomainBed: True
    }
    assert {name: defaults[name] for name in expected} == expected
    assert default_hparams("VREx", "PACS")["vrex_lambda"] == 10.0
    assert default_hparams("CORAL", "RotatedDigits")["batch_size"] == 64
    assert default_hparams("ERM", "RotatedMNIST")["lr"] == 1e-3


@pytest.mark.parametrize("variant", [name for name in ALGORITHMS if "BatchFormer" in name])
@pytest.mark.parametrize("dataset", ["PACS", "RotatedDigits"])
def test_a_variant_draws_what_its_base_draws(variant, dataset):
    base = variant.removesuffix("_BatchFormer")
    for seed in range(5):
        drawn, of_base = random_hparams(variant, dataset, seed), random_hparams(base, dataset, seed)
        own = {name: value for name, value in drawn.items() if name.startswith("batchformer_")}
        assert {**of_base, **own} == drawn
        # Its own settings are not searched over: the base has no such extra tries.
        assert own == {k: v for k, v in default_hparams(variant, dataset).items() if k in own}


def test_batchformer_defaults_are_the_designs():
    own = {k: v for k, v in default_hparams("ERM_BatchFormer", "PACS").items() if k.startswith("batchformer_")}
    assert own == {
        "batchformer_layers": 1,
        "batchformer_heads": 4,
        "batchformer_dropout": 0.5,
        "batchformer_lr_scale": 1.0,
        "batchformer_weight_decay": None,
        "batchformer_loss_weight": 1.0,
        "batchformer_penalty": "joint",
        "batchformer_shared_classifier": True,
        "batchformer_trainable": True,
        "batchformer_scope": "all",
        "batchformer_as_released": False,
    }


def test_missing_hparam_is_named():
    with pytest.raises(ValueError, match=r"'lr' is missing.*got \['batch_size'\]"):
        require({"batch_size": 3}, "lr")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lrr": 1}, "unknown hparam 'lrr': did you mean lr"),
        ({"lr": "fast"}, "'lr' is 'fast': expected float"),
        ({"lr": float("nan")}, "expected a finite number"),
        ({"lr": True}, "'lr' is True: expected float"),
        ({"lr": -1}, "'lr' is -1: expected a finite number of at least 0 (default 5e-05)"),
        ({"resnet_dropout": 1.5}, "'resnet_dropout' is 1.5: expected a finite number of at least 0 and at most 1"),
        ({"batch_size": 2.5}, "'batch_size' is 2.5: expected int"),
        ({"batch_size": 0}, "'batch_size' is 0: expected a finite number of at least 1"),
        ({"resnet18": 1}, "'resnet18' is 1: expected bool"),
        ({"weights": 3}, "expected str or null"),
    ],
)
def test_problems_are_named(given, message):
    (problem,) = problems_with(given, hyperparameters("ERM", "PACS"))
    assert message in problem


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batchformer_heads": 0}, "expected a finite number of at least 1"),
        ({"batchformer_scope": "domain"}, "'batchformer_scope' is 'domain': expected 'all' or 'environment'"),
        ({"mixstyle_p": 7.0}, "expected a finite number of at least 0 and at most 1"),
        ({"swad_n_converge": 0}, "expected a finite number of at least 1"),
    ],
)
def test_problems_of_modifiers_are_named(given, message):
    (problem,) = problems_with(given, hyperparameters("ERM_MixStyle_BatchFormer_SWAD", "PACS"))
    assert message in problem


def test_what_fits_is_no_problem():
    fitting = {"lr": 1, "batch_size": 7, "resnet18": True, "weights": None, "batchformer_scope": "environment"}
    assert problems_with(fitting, hyperparameters("ERM_BatchFormer", "PACS")) == []


def test_a_draw_depends_on_name_and_seed_alone():
    one, other = (Hyperparameter(name, 0, lambda r: r.uniform()) for name in ("one", "other"))
    assert one.draw(3) == one.draw(3)
    assert len({one.draw(3), one.draw(4), other.draw(3)}) == 3


def test_unknown_names_the_nearest_or_all():
    assert unknown("thing", "PACZ", ["PACS", "VLCS"]) == "unknown thing 'PACZ': did you mean PACS?"
    assert unknown("thing", "qqq", ["PACS", "VLCS"]) == "unknown thing 'qqq': known are PACS, VLCS"
    assert issubclass(InputError, ValueError)
