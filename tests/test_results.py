"""Published results: tables are those of the records, records those of the commands, quotes those of the tables."""

import csv
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest
import rebuild

from dg_batchformer import ALGORITHMS, cli
from dg_batchformer.commands import flags
from dg_batchformer.jobs.plan import Sweep, plan
from dg_batchformer.runs.arguments import RunArguments
from dg_batchformer.selection.report import BEFORE_PENALTY
from dg_batchformer.sweeps import long_tail

RESULTS = Path(rebuild.__file__).parent
PUBLISHED = [path.name for path in rebuild.published()]
SCRIPTS = sorted(path.parent.name for path in RESULTS.glob("*/run.sh"))


@pytest.fixture(scope="module", params=PUBLISHED)
def rebuilt(request, tmp_path_factory):
    """A published folder, and another one with what its records give."""
    folder, into = RESULTS / request.param, tmp_path_factory.mktemp("results")
    for name, whole in rebuild.reports(folder):
        # The page of the frozen study says so of IRM.
        expected = {BEFORE_PENALTY} if name == "algorithms" else set()
        assert {problem.kind for problem in whole.problems} == expected
        rebuild.write_tables(whole, into / name)
    return folder, into


def test_tables_are_those_of_the_records(rebuilt):
    folder, into = rebuilt
    tables = sorted(path.relative_to(into) for path in into.glob("*/*.*"))
    assert tables == sorted(path.relative_to(folder) for path in folder.glob("*/*.*"))
    for path in tables:
        made, published = ((where / path).read_text(encoding="utf-8") for where in (into, folder))
        if path.suffix == ".csv":
            assert_close(made, published)
        else:
            assert made == published


def assert_close(made, published):
    """Equal but for the last digits, which other versions of SciPy may give otherwise."""
    for own, other in zip(*(list(csv.DictReader(text.splitlines())) for text in (made, published)), strict=True):
        assert own.keys() == other.keys()
        for name, value in own.items():
            assert value == other[name] or float(value) == pytest.approx(float(other[name]), rel=1e-6, abs=1e-9), name


@pytest.mark.parametrize("page", rebuild.pages(), ids=lambda page: f"{page.parent.name}/{page.name}")
def test_pages_quote_the_tables_as_they_are(page):
    text = page.read_text(encoding="utf-8")
    assert text.count("<!--") == 2 * len(rebuild.QUOTED.findall(text))
    assert text == rebuild.quoting(page)


def test_a_quote_that_is_out_of_date_is_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(rebuild, "HERE", tmp_path)
    (tmp_path / "table.md").write_text("### A\n\n| a |\n|---|\n| 1 |\n\ntext\n\n| b |\n|---|\n| 2 |\n\nlegend\n")
    page, end = tmp_path / "page.md", "<!-- end of table -->"
    page.write_text(f"Before\n\n<!-- table 2 of table.md -->\n\n| old |\n\n{end}\n\nAfter\n")
    renewed = f"Before\n\n<!-- table 2 of table.md -->\n\n| b |\n|---|\n| 2 |\n\n{end}\n\nAfter\n"
    assert rebuild.quoting(page) == renewed
    page.write_text(f"<!-- table 1 of table.md -->\n\nkept: it has no end\n\n{renewed}")
    assert rebuild.quoting(page) == page.read_text()


@pytest.mark.parametrize("name", PUBLISHED)
def test_records_are_of_the_runs_that_the_script_plans(name, tmp_path):
    jobs = [job for sweep in planned(name, tmp_path) for job in plan(sweep)]
    wanted = {f"{job.sweep_dir.name}/{job.folder.name}" for job in jobs}
    with tarfile.open(RESULTS / name / rebuild.RECORDS) as archive:
        paths = [PurePosixPath(member.name) for member in archive if member.isfile()]
    assert {path.name for path in paths} <= {"results.jsonl", "progress.jsonl", "job.json", "done"}
    assert {str(path.parent) for path in paths if path.name == "done"} == wanted


@pytest.mark.parametrize("name", PUBLISHED)
def test_records_name_no_folder_of_the_machine_that_made_them(name):
    with tarfile.open(RESULTS / name / rebuild.RECORDS) as archive:
        for member in archive:
            if member.name.endswith((".json", ".jsonl")):
                text = archive.extractfile(member)
                record = json.loads(text.read() if member.name.endswith(".json") else text.readline())
                args = record.get("args", record)
                assert not [name for name in ("data_dir", "output_dir") if os.path.isabs(args[name])]
                assert args["cache_dir"] is None


def test_the_network_is_fine_tuned_under_two_protocols(tmp_path):
    domainbed, swad = planned("PACS-tf_efficientnet_lite0", tmp_path)
    assert list(domainbed.algorithms) == list(ALGORITHMS)
    assert (swad.common.protocol, swad.algorithms) == ("swad", ["SWAD", "SWAD_BatchFormer"])
    assert [len(plan(sweep)) for sweep in (domainbed, swad)] == [12 * 4 * 3, 2 * 4 * 3]


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_plan_what_can_be_run(name, tmp_path):
    jobs = [job for sweep in planned(name, tmp_path) for job in plan(sweep)]
    steps = {"PACS-tf_efficientnet_lite0-pilot": {501}, "long-tail": {201, 401}, "mdlt-PACS": {801}}
    assert {job.arguments.steps for job in jobs} == steps.get(name, {1001})
    assert len({job.folder for job in jobs}) == len(jobs)


FAKE = """#!{python}
import json, sys
print(json.dumps(sys.argv[1:]), file=open({log!r}, "a"))
"""


def planned(name, folder):
    """The sweeps that a script launches, with a Python in place of the real one that only notes what it is asked."""
    fake, log = folder / "bin" / "python", folder / "log"
    fake.parent.mkdir()
    fake.write_text(FAKE.format(python=sys.executable, log=str(log)))
    fake.chmod(0o755)
    path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"
    script = ["sh", str(RESULTS / name / "run.sh"), "data", "runs"]
    subprocess.run(script, check=True, cwd=folder, env={**os.environ, "PATH": path})
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    sweeps = []
    for module, words in [(call[1], call[2:]) for call in calls if call[0] == "-m"]:
        for launch in launches(module, words):
            given = cli.parser().parse_args(launch)
            own = {**flags.arguments_of(Sweep, given), "algorithms": given.algorithms or ALGORITHMS}
            sweeps.append(Sweep(**own, common=RunArguments(**flags.arguments_of(RunArguments, given))))
    return sweeps


def launches(module, words):
    """The commands of `sweep launch` that a module gives."""
    if module == "dg_batchformer":
        return [words]
    if module == "dg_batchformer.sweeps.pacs":
        return [["sweep", "launch", "--datasets", "PACS", *words]]
    if module != "dg_batchformer.sweeps.long_tail":
        return []
    given = dict(zip(words[::2], words[1::2], strict=True))
    places = given["--output_dir"], given["--data_dir"]
    return [long_tail.launch(dataset, kind, *places) for dataset in long_tail.FLAGS for kind in long_tail.KINDS]
