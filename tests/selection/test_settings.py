"""What keeps runs apart, and what does not."""

import itertools

import pytest
from factories import args, finished_run, planned, record, run_of, tables, texts

from dg_batchformer.selection import collect
from dg_batchformer.selection.report import report
from dg_batchformer.selection.settings import (
    UNKNOWN,
    Setting,
    backbone_of,
    given_hparams,
    planned_setting,
    setting_of,
    settings_of,
)


def run(dataset="PACS", given=(), n_environments=4, **fields):
    of = {**args([0], dataset=dataset), **dict(given)}
    accuracies = [0.5] * n_environments
    return finished_run([{**record(0, accuracies, accuracies, of), **fields}])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"backbone": "resnet50", "weights": "imagenet"}, {"resnet18": False, "resnet50_augmix": False}),
        ({"backbone": "resnet18", "weights": "imagenet"}, {"resnet18": True, "resnet50_augmix": False}),
        ({"backbone": "timm:resnet50.ram_in1k", "weights": "imagenet"}, {"resnet18": False, "resnet50_augmix": True}),
    ],
)
def test_a_network_of_domainbed_is_the_same_network_of_ours(ours, theirs):
    assert backbone_of(run(**ours)) == backbone_of(run(hparams=theirs))
    # DomainBed's algorithms in our trainer, whose class says nothing of the kind.
    assert backbone_of(run(backbone="ResNet", weights="unknown", hparams=theirs)) == backbone_of(run(**ours))


@pytest.mark.parametrize("recorded", [{"backbone": "ConvNet", "weights": "random"}, {"backbone": "MNIST_CNN"}, {}])
@pytest.mark.parametrize("dataset", ["Debug28", "RotatedMNIST", "ColoredMNIST"])
def test_a_network_for_small_images_is_the_same_everywhere(dataset, recorded):
    hparams = {"resnet18": False, "resnet50_augmix": True}
    assert backbone_of(run(dataset, n_environments=3, hparams=hparams, **recorded)) == "ConvNet"


def test_backbones_and_weights_are_told_apart():
    described = [
        {"backbone": "resnet50", "weights": "imagenet"},
        {"backbone": "resnet50", "weights": "random"},
        {"backbone": "resnet50", "weights": "resnet50.pth"},
        {"backbone": "resnet50, frozen", "weights": "imagenet"},
        {"backbone": "resnet18", "weights": "imagenet"},
        {"backbone": "timm:vit_small", "weights": "imagenet"},
        {"backbone": "ConvNet", "weights": "random"},
        {"hparams": {"vit": True}},
        {"hparams": {"vit": True, "dinov2": True}},
    ]
    assert len({backbone_of(run(**one)) for one in described}) == len(described)


USUAL = ({}, {"steps": 5001}, {"steps": None, "checkpoint_freq": 300}, {"holdout_fraction": 0.2}, {"precision": "fp32"})


def test_what_is_usual_is_not_said():
    found = {setting_of(run(given=given)) for given in USUAL}
    assert found == {Setting("PACS", "domainbed", "resnet50")}
    assert str(found.pop()) == "PACS, protocol domainbed, backbone resnet50"
    assert setting_of(run("VLCS", given={"protocol": "swad", "checkpoint_freq": 50})).others == ()


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({"given": {"protocol": "swad"}}, {}, "protocol domainbed and swad"),
        ({"backbone": "resnet18", "weights": "imagenet"}, {}, "backbone resnet18 and resnet50"),
        ({"backbone": "resnet50", "weights": "random"}, {}, "backbone resnet50 and resnet50, weights random"),
        ({"given": {"steps": 100}}, {}, "steps default and 100"),
        ({"given": {"checkpoint_freq": 5}}, {}, "checkpoint_freq default and 5"),
        ({"given": {"holdout_fraction": 0.5}}, {}, "holdout_fraction default and 0.5"),
        ({"given": {"precision": "bf16"}}, {}, "precision default and bf16"),
        ({"given": {"fixed_hparams": True}}, {"given": {"fixed_hparams": False}}, "fixed_hparams default and True"),
        ({"hparams": {"freeze_bn": True}}, {"hparams": {"freeze_bn": False}}, "freeze_bn default and true"),
        ({"hparams": {"resnet_dropout": 0.1}}, {}, "protocol domainbed and domainbed-paper"),
        ({"skipped_images": ["a.jpg: torn"]}, {}, 'skipped_images default and ["a.jpg: torn"]'),
        ({"data_fingerprint": "ab"}, {"data_fingerprint": "cd"}, "data fingerprint ab and cd"),
    ],
)
def test_what_differs_is_in_tables_of_its_own_that_say_why(tmp_path, one, other, said):
    """Also for the same runs: neither passes for the other made twice."""
    for env in range(4):
        run_of(tmp_path, env, 0.25, name=f"one{env}", **one)
        run_of(tmp_path, env, 0.75, name=f"other{env}", **other)
    collected = collect([tmp_path])
    made_of = report(collected)
    assert (len(collected.runs), collected.problems) == (8, [])
    found = [result for result in made_of.results if result.section.selection == "training-domain"]
    means = [result.section.rows[0].cells["Avg"].mean for result in found]
    assert sorted(means) == [pytest.approx(25), pytest.approx(75)]
    assert len({result.caption for result in found}) == 2
    (why,) = made_of.apart
    assert why.startswith("PACS has tables that cannot be compared: ")
    assert said in why


def test_the_data_of_older_records_are_not_known_and_no_reason_to_part(tmp_path):
    for env in range(4):
        run_of(tmp_path, env, **({"data_fingerprint": "ab"} if env else {}))
    (table,) = tables(tmp_path)
    assert table.setting.others == ()
    assert table.rows[0].cells["Avg"].mean is not None
    # Where there are several versions they belong to none.
    run_of(tmp_path, 3, trial=1, data_fingerprint="cd")
    assert [one.setting.others[0][1] for one in tables(tmp_path)] == ["ab", "cd", "not recorded"]


def test_a_run_made_twice_is_one_whether_or_not_its_data_are_known(tmp_path):
    run_of(tmp_path, name="a")
    run_of(tmp_path, name="b", data_fingerprint="ab")
    assert len(collect([tmp_path]).runs) == 1


def test_datasets_of_one_name_and_several_sizes_are_apart(tmp_path):
    for n in (3, 4):
        for env in range(n):
            run_of(tmp_path, env, n / 10, dataset="Mine", n_environments=n, name=f"{n}-{env}")
    found = tables(tmp_path)
    assert [len(one.own_columns) for one in found] == [3, 4]
    assert [one.rows[0].cells["Avg"].mean for one in found] == [pytest.approx(30), pytest.approx(40)]
    assert "environments 3 and 4" in report(collect([tmp_path])).apart[0]


def test_runs_of_domainbed_stand_beside_ours(tmp_path):
    """Theirs name neither network, protocol, environments nor data."""
    ours = {"backbone": "timm:resnet50.ram_in1k", "weights": "imagenet", "environments": ["A", "C", "P", "S"]}
    ours |= {"data_fingerprint": "ab", "versions": {"torch": "2.4"}}
    more = {"protocol": "domainbed", "precision": "fp32", "fixed_hparams": False, "steps": None}
    theirs = {"resnet18": False, "resnet50_augmix": True, "lr": 5e-5}
    for env in range(4):
        run_of(tmp_path, env, 0.6, algorithm="ERM_BatchFormer", given=more, hparams=theirs, **ours)
        run_of(tmp_path, env, 0.5, hparams=theirs, given={"hparams": None, "task": "domain_generalization"})
    (table,) = tables(tmp_path)
    assert [row.cells["Avg"].mean for row in table.rows] == [pytest.approx(50), pytest.approx(60)]
    assert str(table.setting) == "PACS, protocol domainbed, backbone timm:resnet50.ram_in1k"


def test_small_runs_of_domainbed_stand_beside_ours(tmp_path):
    hparams = {"resnet18": False, "resnet50_augmix": True}
    for env in range(3):
        small = {"dataset": "Debug28", "n_environments": 3, "hparams": hparams}
        run_of(tmp_path, env, **small)
        run_of(
            tmp_path,
            env,
            **small,
            algorithm="CORAL",
            backbone="ConvNet",
            weights="random",
            given={"protocol": "domainbed"},
        )
    (table,) = tables(tmp_path)
    assert [row.label for row in table.rows] == ["ERM", "CORAL"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "{}"),
        ("{}", "{}"),
        ("", "{}"),
        ('{"lr": 0.1, "batch_size": 8}', '{"batch_size": 8, "lr": 0.1}'),
        ('{"backbone": "resnet18", "lr": 0.1, "freeze_bn": true}', '{"lr": 0.1}'),
        ("not JSON", '"not JSON"'),
        ("[1]", "[1]"),
        (7, '"7"'),
        ({"lr": 0.1}, "\"{'lr': 0.1}\""),
    ],
)
def test_given_hparams_have_one_spelling(given, said):
    assert given_hparams({"hparams": given}).algorithm == said


def test_however_deep_given_hparams_nest():
    deep = "[" * 100_000
    assert given_hparams({"hparams": deep}).algorithm == f'"{deep}"'


def test_plans_join_the_runs_of_equal_arguments(tmp_path):
    """Each the table of its protocol and network, whose backbone only a record tells."""
    networks = {"resnet18": '{"resnet18": true}', "resnet50": None}
    for (backbone, given), protocol in itertools.product(networks.items(), ("domainbed", "swad")):
        of = {"hparams": given, "protocol": protocol}
        name = f"{backbone}-{protocol}"
        run_of(tmp_path, 0, given=of, name=name, backbone=backbone, weights="imagenet")
        planned(tmp_path, f"{name}-1", **{**args([1]), **of})
        planned(tmp_path, f"{name}-2", **{**args([2], "CORAL"), **of})
    found = tables(tmp_path)
    assert [(one.setting.protocol, one.setting.backbone) for one in found] == [
        ("domainbed", "resnet18"),
        ("domainbed", "resnet50"),
        ("swad", "resnet18"),
        ("swad", "resnet50"),
    ]
    for one in found:
        counts = {row.label: [(row.cells[name].done, row.cells[name].expected) for name in "ACPS"] for row in one.rows}
        assert counts == {"ERM": [(1, 1), (0, 1), (0, 0), (0, 0)], "CORAL": [(0, 0), (0, 0), (0, 1), (0, 0)]}


def test_plans_without_a_finished_run_say_so():
    assert planned_setting("PACS", args([0])).backbone == UNKNOWN
    given = {**args([0]), "hparams": '{"resnet18": true, "lr": 1}'}
    assert planned_setting("PACS", given).backbone == f'{UNKNOWN}, given {{"resnet18": true}}'


def test_settings_of_nothing():
    assert settings_of([]) == []
    assert texts(collect([]).problems) == []
