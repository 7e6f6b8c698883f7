"""Presets have their sources' values, and what is given replaces them."""

import json
from pathlib import Path

import pytest

from dg_batchformer import ALGORITHMS, cli, default_hparams
from dg_batchformer.errors import InputError
from dg_batchformer.registry import hyperparameters
from dg_batchformer.runs import resolve
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.runs.presets import PRESETS
from dg_batchformer.selection.settings import planned_setting


def resolved(preset, algorithm="ERM_BatchFormer", dataset="PACS", weights=None, **given):
    hparams = json.dumps({"weights": weights, **given.pop("hparams", {})})
    return resolve(RunArguments(algorithm=algorithm, dataset=dataset, preset=preset, hparams=hparams, **given))


@pytest.mark.parametrize("dataset", ["PACS", "VLCS", "OfficeHome", "TerraIncognita", "DomainNet"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", PRESETS)
def test_values_are_hparams_of_all_algorithms(name, algorithm, dataset):
    known = {one.name: one for one in hyperparameters(algorithm, dataset)}
    values = {**PRESETS[name].common, **PRESETS[name].by_dataset[dataset]}
    assert [known[name].problem(value) for name, value in values.items()] == [None] * len(values)
    hparams = resolved(name, algorithm, dataset).hparams
    assert hparams == {**default_hparams(algorithm, dataset), **values, "weights": None}


def test_given_hparams_replace_a_preset_and_a_preset_the_protocol():
    assert resolved("vit", hparams={"lr": 0.5}).hparams["lr"] == 0.5
    assert resolved("vit", protocol="swad").hparams["lr"] == 3e-5
    assert resolved(None, protocol="swad").hparams["lr"] == 5e-5


def test_a_preset_makes_another_run_and_another_table(tmp_path):
    usual, other = resolved(None), resolved("vit")
    assert usual.job_id != other.job_id
    setting = planned_setting("PACS", {"test_envs": [0], "preset": "vit"})
    assert setting.others == (("preset", "vit (not tuned here)"),)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "vitt"}, "unknown preset 'vitt': did you mean vit"),
        ({"dataset": "RotatedDigits"}, "--preset vit has no values for RotatedDigits: expected one of PACS, VLCS, Off"),
        ({"hparams_seed": 3}, "--preset vit has no search: expected hparams_seed 0 (--n_hparams 1)"),
    ],
)
def test_wrong_presets(given, message):
    with pytest.raises(InputError) as error:
        resolved(**{"preset": "vit", **given})
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_sweep_with_a_preset_has_one_row(tmp_path, capsys):
    command = ["sweep", "launch", "--datasets", "PACS", "VLCS", "--algorithms", "ERM", "--preset", "resnet50"]
    command += ["--n_trials", "1", "--output_dir", str(tmp_path / "sweep")]
    assert cli.main([*command, "--hparams", '{"weights": null}', "--dry_run"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("--preset resnet50") == 8
    assert "preset resnet50: published by MIRO" in shown
    assert "not tuned here" in shown
    assert cli.main([*command, "--n_hparams", "2"]) == 2
    assert capsys.readouterr().err.count("has no search") == 1


def test_documentation():
    """The table of the documentation has the presets' values and sources."""
    text = Path(__file__).parents[2].joinpath("docs", "backbones.md").read_text()
    for name, preset in PRESETS.items():
        assert preset.source in text
        for dataset, values in preset.by_dataset.items():
            row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` | {dataset} |"))
            cells = [cell.strip() for cell in row.strip("|").split("|")]
            merged = {**preset.common, **values}
            expected = [merged[one] for one in ("lr", "weight_decay", "resnet_dropout", "batch_size")]
            assert [float(cell) for cell in cells[2:6]] == expected
