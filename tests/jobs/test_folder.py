"""The folder of a sweep: what is found in it, and what is refused."""

import json
import shutil
import subprocess
import sys
import threading

import pytest
from factories import jobs_of, record

from dg_batchformer import machine
from dg_batchformer.errors import InputError
from dg_batchformer.jobs.folder import (
    check_data,
    check_folder,
    check_results,
    compare_data,
    find,
    versions_note,
    write,
)
from dg_batchformer.runs.files import DONE, JOB, RESULTS


def files(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_sweep_is_found_again_also_where_it_moved(tmp_path):
    jobs = jobs_of(tmp_path / "sweep", hparams='{"lr": 0.1}')
    write(jobs)
    (tmp_path / "sweep").rename(tmp_path / "moved")
    found = find(tmp_path / "moved")
    assert {job.folder.name for job in found} == {job.folder.name for job in jobs}
    assert all(job.sweep_dir == tmp_path / "moved" for job in found)
    with pytest.raises(InputError, match="is not a folder"):
        find(tmp_path / "sweep")
    (found[0].folder / "job.json").write_text("{")
    with pytest.raises(InputError, match=r"job\.json is invalid"):
        find(tmp_path / "moved")


def test_a_folder_with_the_same_sweep_under_other_settings_is_refused(tmp_path):
    first = jobs_of(tmp_path / "sweep")
    check_folder(first, tmp_path / "sweep")  # nothing there yet
    write(first)
    check_folder(first, tmp_path / "sweep")
    check_folder(jobs_of(tmp_path / "sweep", algorithms=["CORAL"], steps=7), tmp_path / "sweep")
    with pytest.raises(InputError, match=r"holds this sweep with other settings .*expected the same --steps"):
        check_folder(jobs_of(tmp_path / "sweep", steps=7), tmp_path / "sweep")


@pytest.mark.parametrize("fixed_hparams", [True, False])
@pytest.mark.parametrize(
    "changes", [{}, {"n_trials": 2}, {"n_hparams_from": 1, "n_hparams": 2}, {"algorithms": ["IRM"]}]
)
def test_a_folder_does_not_mix_fixed_hparams_with_others(tmp_path, changes, fixed_hparams):
    """Also where no run would be there twice."""
    write(jobs_of(tmp_path / "sweep", fixed_hparams=fixed_hparams))
    check_folder(jobs_of(tmp_path / "sweep", fixed_hparams=fixed_hparams, **changes), tmp_path / "sweep")
    with pytest.raises(InputError, match=r"sweep have --fixed_hparams and others would not: expected it for all of"):
        check_folder(jobs_of(tmp_path / "sweep", fixed_hparams=not fixed_hparams, **changes), tmp_path / "sweep")


def test_an_older_sweep_that_knows_no_fixed_hparams_goes_on(tmp_path):
    jobs = jobs_of(tmp_path / "sweep")
    write(jobs)
    for job in jobs:
        path = job.folder / JOB
        older = {name: value for name, value in json.loads(path.read_text()).items() if name != "fixed_hparams"}
        path.write_text(json.dumps(older))
    check_folder(jobs_of(tmp_path / "sweep", n_trials=2), tmp_path / "sweep")
    assert [job.arguments for job in find(tmp_path / "sweep")] == [job.arguments for job in jobs]
    with pytest.raises(InputError, match="others would not"):
        check_folder(jobs_of(tmp_path / "sweep", fixed_hparams=True), tmp_path / "sweep")


def test_a_sweep_says_what_it_was_begun_with_once(tmp_path, monkeypatch):
    jobs = jobs_of(tmp_path / "sweep")
    write(jobs[:2])
    path = tmp_path / "sweep" / "sweep.json"
    assert json.loads(path.read_text()) == {"format": 1, "versions": machine.versions()}
    assert versions_note(tmp_path / "sweep") is None
    now = {**machine.versions(), "torch": "99.0", "numpy": "98.0"}
    before = machine.versions()
    monkeypatch.setattr(machine, "versions", lambda: now)
    write(jobs)
    assert versions_note(tmp_path / "sweep") == (
        f"{tmp_path / 'sweep'} was started with torch {before['torch']}, numpy {before['numpy']}; this is "
        "torch 99.0, numpy 98.0: one table will mix the results of both"
    )


def test_a_sweep_of_another_format_is_refused(tmp_path):
    jobs = jobs_of(tmp_path / "sweep")
    write(jobs)
    begun = {"format": 2, "versions": {"dg-batchformer": "9.9"}}
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(begun))
    own = machine.versions()["dg-batchformer"]
    said = (
        f"sweep was created by dg-batchformer 9.9 in sweep format 2, and this is {own}, which reads format 1: use that"
    )
    for look in (find, lambda output_dir: check_folder(jobs, output_dir), versions_note):
        with pytest.raises(InputError, match=said):
            look(tmp_path / "sweep")


@pytest.mark.parametrize(("text", "said"), [("{", "is not JSON"), ("[]", "has no format")])
def test_a_broken_sweep_json_is_refused(tmp_path, text, said):
    write(jobs_of(tmp_path / "sweep"))
    (tmp_path / "sweep" / "sweep.json").write_text(text)
    with pytest.raises(InputError, match=rf"sweep\.json {said}.*: restore it, or use another --output_dir"):
        find(tmp_path / "sweep")


def test_an_older_sweep_has_no_sweep_json_and_gets_none(tmp_path):
    jobs = jobs_of(tmp_path / "sweep")
    write(jobs[:1])
    (tmp_path / "sweep" / "sweep.json").unlink()
    write(jobs)
    assert len(find(tmp_path / "sweep")) == len(jobs)
    assert not (tmp_path / "sweep" / "sweep.json").exists()  # it was not begun with these versions
    assert versions_note(tmp_path / "sweep") is None


def test_folders_that_are_no_runs_are_passed_over(tmp_path):
    jobs = jobs_of(tmp_path / "sweep")
    write(jobs)
    check_data(tmp_path / "sweep", "Debug28", "0" * 16)
    (tmp_path / "sweep" / "slurm").mkdir()
    (tmp_path / "sweep" / "slurm" / "1.out").touch()
    assert len(find(tmp_path / "sweep")) == len(jobs)


def test_runs_in_folders_of_others_are_all_named(tmp_path):
    jobs = jobs_of(tmp_path / "sweep")
    write(jobs)
    shutil.copytree(jobs[0].folder.path, tmp_path / "sweep" / "copy")
    jobs[1].folder.path.rename(tmp_path / "sweep" / "renamed")
    before = files(tmp_path)
    with pytest.raises(InputError) as error:
        check_folder(jobs, tmp_path / "sweep")
    assert str(error.value).splitlines() == [
        f"{tmp_path / 'sweep' / name} holds the run {job.folder.name} ({job.arguments.key}), perhaps copied or "
        f"renamed: move it out of {tmp_path / 'sweep'}, or restore its name"
        for name, job in (("copy", jobs[0]), ("renamed", jobs[1]))
    ]
    assert str(jobs[1].arguments.key) == "ERM on Debug28, test_envs [1], trial_seed 0, hparams_seed 0"
    assert files(tmp_path) == before


def test_a_sweep_from_a_system_with_other_separators_is_found(tmp_path):
    (job, *_) = jobs_of(tmp_path / "sweep")
    write([job])
    path = job.folder / "job.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "output_dir": f"C:\\sweep\\{job.folder.name}"}))
    assert [one.folder for one in find(tmp_path / "sweep")] == [job.folder]


def test_data_that_change_within_a_sweep_are_refused(tmp_path):
    compare_data(tmp_path / "sweep", "PACS", "b" * 16)  # not begun: nothing is known, and nothing is written
    assert not (tmp_path / "sweep").exists()
    check_data(tmp_path / "sweep", "PACS", "a" * 16)
    check_data(tmp_path / "sweep", "PACS", "a" * 16)
    before = files(tmp_path)
    said = f"the data of PACS have changed since the sweep in .* began \\(fingerprint {'a' * 16}, now {'b' * 16}\\): "
    for check in (check_data, compare_data):
        with pytest.raises(InputError, match=said + "restore them, or use another --output_dir"):
            check(tmp_path / "sweep", "PACS", "b" * 16)
    assert files(tmp_path) == before
    check_data(tmp_path / "sweep", "VLCS", "b" * 16)
    assert sorted(path.name for path in (tmp_path / "sweep" / "data").iterdir()) == ["PACS.json", "VLCS.json"]


def test_images_of_ones_own_are_known_by_their_folders_name(tmp_path):
    check_data(tmp_path / "sweep", f"folder:{tmp_path}/here/mine", "a" * 16)
    check_data(tmp_path / "sweep", f"folder:{tmp_path}/there/mine", "a" * 16)
    (path,) = (tmp_path / "sweep" / "data").iterdir()
    assert path.name == "folder-mine.json"
    assert json.loads(path.read_text()) == {"dataset": "folder:mine", "fingerprint": "a" * 16}


def test_a_broken_note_of_data_is_refused(tmp_path):
    check_data(tmp_path / "sweep", "PACS", "a" * 16)
    (tmp_path / "sweep" / "data" / "PACS.json").write_text("")
    with pytest.raises(InputError, match=r"PACS\.json is not JSON"):
        check_data(tmp_path / "sweep", "PACS", "a" * 16)


def test_of_several_at_once_with_different_data_one_goes_on(tmp_path):
    for attempt in range(20):
        outcomes, barrier = [], threading.Barrier(4)

        def check(number, barrier=barrier, outcomes=outcomes, output_dir=tmp_path / str(attempt)):
            barrier.wait()
            try:
                check_data(output_dir, "PACS", f"{number:016}")
                outcomes.append("goes on")
            except InputError:
                outcomes.append("refused")

        threads = [threading.Thread(target=check, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["goes on", "refused", "refused", "refused"]
        assert [path.name for path in (tmp_path / str(attempt) / "data").iterdir()] == ["PACS.json"]


def finished(job, *lines):
    """Marks a run done; without lines its results are those of a sound one."""
    sound = json.dumps(record(0, [0.5] * 4, [0.5] * 4, job.arguments.values)) + "\n"
    (job.folder / RESULTS).write_text("".join(lines) or sound)
    (job.folder / DONE).touch()
    return sound


def test_results_that_cannot_be_believed_are_all_named(tmp_path):
    jobs = jobs_of(tmp_path / "sweep", algorithms=["ERM", "CORAL", "IRM"])
    write(jobs)
    lines = [finished(job) for job in jobs[:6]]
    check_results(jobs)
    (jobs[0].folder / RESULTS).unlink()
    finished(jobs[1], lines[1], lines[1][:40])
    finished(jobs[2], lines[3])
    finished(jobs[3], lines[3], "[]\n")
    (jobs[4].folder / RESULTS).write_bytes(b"")
    (jobs[6].folder / RESULTS).write_text("not done, so nothing is said")
    before = files(tmp_path)
    with pytest.raises(InputError) as error:
        check_results(jobs)
    what = {
        0: "is missing, though its run is marked done",
        1: "does not end with a complete record, though its run is marked done",
        2: f"holds a record of another run ({jobs[3].arguments.key}; expected {jobs[2].arguments.key})",
        3: "ends with a record that has no step",
        4: "does not end with a complete record, though its run is marked done",
    }
    assert str(error.value).splitlines() == [
        f"{jobs[i].folder / 'results.jsonl'} {problem}: restore it, or move its folder away and launch again"
        for i, problem in what.items()
    ]
    assert files(tmp_path) == before


def test_looking_at_a_sweep_imports_no_torch():
    code = "import sys, dg_batchformer.jobs.folder; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
