"""What is told of tables: captions, what is amiss, and why some are apart."""

import itertools

import pytest
from factories import args, planned, run_of, sweep, texts

from dg_batchformer import cli
from dg_batchformer.selection import collect
from dg_batchformer.selection.methods import METHODS, TITLES
from dg_batchformer.selection.report import (
    BEFORE_PENALTY,
    FIXED,
    MIXED_VERSIONS,
    NEVER_LEFT_OUT,
    REDRAWN,
    SEEDS,
    report,
)


def results(folder, selection="training-domain", **options):
    return [one for one in report(collect([folder]), **options).results if one.section.selection == selection]


def caption(folder, selection="training-domain"):
    (result,) = results(folder, selection)
    return result.caption


def search(folder, n_trials=2, *, lr=0.1, **options):
    """Two rows of a search, whose draws differ by `lr` a trial."""

    def hparams(algorithm, env, trial, seed):
        return {"lr": 1 + seed + lr * trial * (seed > 0)}

    return sweep(folder, trials=range(n_trials), hparams_seeds=range(2), hparams=hparams, **options)


def test_every_method_has_its_tables_and_its_title(tmp_path):
    run_of(tmp_path)
    found = report(collect([tmp_path]))
    assert [one.section.selection for one in found.results] == list(METHODS)
    assert [one.title for one in found.results] == [f"PACS, model selection: {TITLES[name]}" for name in METHODS]
    assert (found.n_runs, found.folders, found.ddof) == (1, (str(tmp_path),), 0)


def test_captions_say_how_the_search_was_drawn(tmp_path):
    search(tmp_path / "redrawn")
    assert f"; {SEEDS[REDRAWN]}; " in caption(tmp_path / "redrawn")
    search(tmp_path / "fixed", lr=0)
    assert f"; {SEEDS[FIXED]}; " in caption(tmp_path / "fixed")
    assert "redrawn" in SEEDS[REDRAWN]
    assert "fixed" in SEEDS[FIXED]
    search(tmp_path / "one", n_trials=1)
    assert "hyper-parameters" not in caption(tmp_path / "one")


def test_captions_say_which_rows_searched_how(tmp_path):
    search(tmp_path)
    search(tmp_path, lr=0, algorithms=["CORAL"])
    assert f"{SEEDS[REDRAWN]} (ERM); {SEEDS[FIXED]} (CORAL)" in caption(tmp_path)


def test_runs_that_fix_their_search_are_apart_from_those_that_do_not(tmp_path):
    search(tmp_path)
    search(tmp_path, lr=0, given={"fixed_hparams": True})
    captions = [one.caption for one in results(tmp_path)]
    assert [("redrawn" in one, "fixed over" in one) for one in captions] == [(True, False), (False, True)]
    assert "fixed_hparams default and True" in report(collect([tmp_path])).apart[0]


def test_captions_say_what_was_held_fixed_and_how_many_trials_there_are(tmp_path):
    search(tmp_path, n_trials=3, given={"steps": 100, "precision": "bf16"})
    expected = "protocol domainbed, backbone resnet50, precision bf16, steps 100; 3 trials; "
    assert caption(tmp_path).startswith(expected)
    assert caption(tmp_path).endswith("; all 24 runs done")


def test_captions_say_what_hparams_all_rows_were_given(tmp_path):
    search(tmp_path, given={"hparams": '{"lr": 0.1, "batch_size": 8}'})
    assert ", backbone resnet50; all runs given batch_size 8, lr 0.1; " in caption(tmp_path)
    search(tmp_path, given={"hparams": '{"lr": 0.1}'})
    assert ", backbone resnet50; all runs given lr 0.1; " in caption(tmp_path)
    search(tmp_path)
    assert "given" not in caption(tmp_path)
    for algorithm in ("IRM", "IRM_BatchFormer"):
        search(tmp_path, algorithms=[algorithm], given={"hparams": '{"irm_lambda": 1.0}'})
    assert "; IRM, IRM_BatchFormer given irm_lambda 1.0; " in caption(tmp_path)


def test_captions_say_what_is_not_done(tmp_path):
    search(tmp_path)
    (tmp_path / "PACS-ERM-0-t0-h0" / "done").unlink()
    run_of(tmp_path, 0, trial=2)
    assert "; 2 to 3 trials; " in caption(tmp_path)
    assert caption(tmp_path).endswith("; 16 of 24 runs done")


def test_a_caption_of_one_trial_says_that_there_is_no_error(tmp_path):
    run_of(tmp_path)
    assert "; 1 trial, so no standard error; " in caption(tmp_path)


def test_pair_runs_are_counted_once(tmp_path):
    for size in (1, 2):
        for test_envs in itertools.combinations(range(4), size):
            run_of(tmp_path, test_envs)
    assert caption(tmp_path).endswith("; all 4 runs done")
    assert caption(tmp_path, "leave-one-domain-out").endswith("; all 10 runs done")


def test_what_a_table_lacks_as_a_whole(tmp_path):
    run_of(tmp_path)
    assert [one.lacking for one in report(collect([tmp_path])).results] == [
        None,
        "no number: needs pair runs (--pairs); not run",
        None,
        None,
        None,
    ]


def test_plans_of_a_dataset_that_only_a_run_would_describe(tmp_path):
    planned(tmp_path, "a", **args([0], dataset="Mine"))
    assert [one.lacking for one in results(tmp_path)] == ["no number: no run is done"]


def test_an_environment_that_is_never_left_out_is_named(tmp_path, capsys):
    for env in (0, 3):
        run_of(tmp_path, env)
    for env in range(4):
        run_of(tmp_path, env, algorithm="CORAL")
    text = "ERM on PACS, protocol domainbed, backbone resnet50: C, P"
    assert texts(report(collect([tmp_path])).problems) == [text]
    for selection in METHODS:
        assert cli.main(["collect", "--input_dir", str(tmp_path), "--selection", selection]) == 0
        assert capsys.readouterr().err == f"note: {NEVER_LEFT_OUT} (1): {text}\n"


def test_an_environment_that_is_only_planned_is_not_named(tmp_path):
    for env in range(4):
        run_of(tmp_path, env, done=env != 3)
    assert texts(report(collect([tmp_path])).problems, NEVER_LEFT_OUT) == []


def test_versions_that_are_mixed_in_a_table_are_named(tmp_path, capsys):
    for env in range(4):
        versions = {"torch": "2.4" if env else "2.5", "numpy": "2.0" if env < 3 else "2.1", "scipy": "1"}
        run_of(tmp_path, env, versions=versions)
        run_of(tmp_path, env, dataset="VLCS", versions={"torch": "2.6", "numpy": "2.0"})
    for env in range(3):
        run_of(tmp_path, env, dataset="Debug28", n_environments=3)  # older records, which do not say
    found = report(collect([tmp_path]))
    text = "PACS, protocol domainbed, backbone resnet50: numpy 2.0 and 2.1, torch 2.4 and 2.5"
    assert texts(found.problems) == [text]
    assert cli.main(["collect", "--input_dir", str(tmp_path)]) == 0
    assert f"note: {MIXED_VERSIONS} (1): {text}\n" in capsys.readouterr().err


def test_runs_that_are_alike_are_not_apart(tmp_path):
    run_of(tmp_path)
    run_of(tmp_path, dataset="VLCS", given={"steps": 100})
    assert report(collect([tmp_path])).apart == []


@pytest.mark.parametrize("ddof", [0, 1])
def test_the_error_is_that_asked_for(tmp_path, ddof, capsys):
    for trial, accuracy in enumerate((0.8, 0.82)):
        for env in range(4):
            run_of(tmp_path, env, accuracy, trial=trial, hparams={})
    (result,) = results(tmp_path, ddof=ddof)
    assert result.section.rows[0].cells["A"].error == pytest.approx(1 if ddof else 0.5**0.5)
    assert cli.main(["collect", "--verbose", "--input_dir", str(tmp_path), "--ddof", str(ddof)]) == 0
    printed = capsys.readouterr().out
    assert ("81.0 ± 1.0" if ddof else "81.0 ± 0.7") in printed
    assert f"ddof {ddof}" in printed


def test_an_oracle_is_compared_with_nothing(tmp_path):
    for env in range(4):
        for algorithm in ("ERM", "ERM_BatchFormer"):
            run_of(tmp_path, env, algorithm=algorithm)
    compared = {one.section.selection for one in report(collect([tmp_path])).results if one.comparisons}
    assert {"training-domain", "last"} <= compared
    assert "oracle" not in compared


@pytest.mark.parametrize(("start", "warned"), [(500, True), (200, False), (0, False)])
def test_a_penalty_that_starts_after_the_chosen_checkpoint_is_named(tmp_path, start, warned):
    """Checkpoints at step 300; the hyper-parameter of another algorithm does not count."""
    for env in range(4):
        run_of(tmp_path, env, algorithm="IRM_BatchFormer", hparams={"irm_penalty_anneal_iters": start})
        run_of(tmp_path, env, algorithm="ERM", hparams={"irm_penalty_anneal_iters": 500})
    found = texts(report(collect([tmp_path]), selections=["last"]).problems, BEFORE_PENALTY)
    assert len(found) == warned
    if warned:
        assert found[0].startswith("IRM_BatchFormer on PACS, ")
        assert found[0].endswith("last: 4 of 4 chosen checkpoints are before step 500")
