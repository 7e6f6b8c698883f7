"""Published rows: the paper's in the right columns, and a user's file, good and bad."""

import csv
from importlib.resources import files

import pytest

from dg_batchformer import paper
from dg_batchformer.errors import InputError
from dg_batchformer.selection.cells import Cell
from dg_batchformer.selection.leaderboard import load
from dg_batchformer.selection.settings import Setting

HEADER = "dataset,protocol,backbone,algorithm,environment,mean,error,error_kind,source,selection"

COLUMNS = {
    "PACS": {"art_painting": "A", "cartoon": "C", "photo": "P", "sketch": "S"},
    "OfficeHome": {"Art": "A", "Clipart": "C", "Product": "P", "Real World": "R"},
}
"""The table's columns by the names in the paper's file, by hand."""


def written(folder, *lines, header=HEADER):
    path = folder / "rows.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return str(path)


def test_the_papers_numbers_stand_in_the_tables_columns():
    text = (files("dg_batchformer") / "paper_tables.csv").read_text(encoding="utf-8")
    expected = {}
    for line in csv.DictReader(text.splitlines()):
        algorithm = line["method"] + "_BatchFormer" * (line["batchformer"] == "1")
        key = (f"paper, table {line['table']}", line["protocol"], line["backbone"], line["dataset"], algorithm)
        column = "Avg" if line["environment"] == "avg" else COLUMNS[line["dataset"]][line["environment"]]
        number = Cell(mean=float(line["mean"]), error=float(line["std"]) if line["std"] else None, error_kind="std")
        expected.setdefault(key, {})[column] = number
    found = {
        (one.source, one.setting.protocol, one.setting.backbone, one.setting.dataset, one.algorithm): one.cells
        for one in load("paper")
    }
    assert found == expected
    assert {one.selection for one in load("paper")} == {"training-domain"}


def test_the_papers_own_baseline_is_of_another_setting_and_all_rows_can_be_repeated():
    odd = {(one.algorithm, one.source) for one in load("paper") if one.setting.others}
    assert odd == {("ERM", "paper, table 6"), ("ERM_BatchFormer", "paper, table 6")}
    assert [one.command for one in load("paper")] == [row.command("DATA") for row in paper.rows()]


def test_a_users_file(tmp_path):
    path = written(
        tmp_path,
        "PACS,swad,resnet50,SWAD,art_painting,89.3,0.2,std,Cha et al.,",
        "PACS,swad,resnet50,SWAD,C,83.4,0.6,,Cha et al.,",
        "",
        "PACS,swad,resnet50,SWAD,AVG,88.1,,,Cha et al.,",
        "PACS, swad, resnet50, SWAD, A, 70.5, , , , oracle",
        "folder:mine,domainbed,vit,My_Algorithm,indoor,0,,,,",
    )
    first, second, third = load(path)
    assert first.setting == second.setting == Setting("PACS", "swad", "resnet50")
    assert (first.algorithm, first.source, first.selection) == ("SWAD", "Cha et al.", "training-domain")
    assert first.cells == {
        "A": Cell(mean=89.3, error=0.2, error_kind="std"),
        "C": Cell(mean=83.4, error=0.6),
        "Avg": Cell(mean=88.1),
    }
    assert (second.source, second.selection, second.cells["A"].mean) == ("rows.csv", "oracle", 70.5)
    assert (third.setting.dataset, third.cells) == ("folder:mine", {"indoor": Cell(mean=0)})


def test_optional_columns_may_be_absent_and_a_byte_order_mark_present(tmp_path):
    path = tmp_path / "excel.csv"
    text = "mean,environment,algorithm,backbone,protocol,dataset\r\n50,A,ERM,resnet18,tllib,PACS\r\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    (only,) = load(str(path))
    assert (only.setting, only.cells) == (
        Setting("PACS", "tllib", "resnet18"),
        {"A": Cell(mean=50)},
    )


def test_all_that_is_wrong_with_a_file_is_said_at_once(tmp_path):
    path = written(
        tmp_path,
        "PACS,swad,resnet50,SWAD,A,89.3,,,,",
        "PACS,swad,resnet50,SWAD,C,nan,,,,",
        "PACS,swad,resnet50,SWAD,P,100.5,-1,,,",
        "PACS,swad,resnet50,SWAD,S,abc,0.1,sd,,",
        ",swad,,SWAD,S,,,,,",
        "",
        "PACS,swad,resnet50,SWAD,art_painting,89.3,,,,",
        "PACS,swad,resnet50,SWAD,S,80,,,,orakle",
        "PACS,swad,resnet50,SWAD,art-painting,80,,,,",
        "PACS,swad,resnet50,SWAD,S,79,9,0,5,,,",
        "PACS,swad,resnet50,SWAD",
    )
    with pytest.raises(InputError) as raised:
        load(path)
    between = "expected a number of percent from 0 to 100"
    assert str(raised.value).splitlines() == [
        f"{path}:3 has mean 'nan': {between}",
        f"{path}:4 has mean '100.5': {between}",
        f"{path}:4 has error '-1': {between}",
        f"{path}:5 has mean 'abc': {between}",
        f"{path}:5 has unknown error_kind 'sd': did you mean std?",
        f"{path}:6 has no dataset",
        f"{path}:6 has no backbone",
        f"{path}:6 has no mean",
        f"{path}:8 repeats SWAD on PACS A",
        f"{path}:9 has unknown selection 'orakle': did you mean oracle?",
        f"{path}:10 has unknown environment of PACS 'art-painting': known are A, C, P, S, Avg, Worst, Macro",
        f"{path}:11 has more fields than there are columns: expected quotes around a field with a comma in it",
        f"{path}:12 has no environment",
        f"{path}:12 has no mean",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"", "has no column dataset, protocol, backbone, algorithm, environment, mean: expected dataset, "),
        (b"dataset;protocol;mean\n", "has no column dataset, protocol"),
        (HEADER.replace(",mean", "").encode() + b"\n", "has no column mean: expected dataset, "),
        (HEADER.encode() + b"\n", "has no line below its columns"),
        ((HEADER + "\n").encode("utf-16"), "cannot be read"),
        (HEADER.encode() + b"\nVLCS,swad,resnet50,M\xfcller,C,5\n", "cannot be read"),
    ],
    ids=["missing", "empty", "semicolons", "no mean", "no lines", "UTF-16", "Latin-1"],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content, said):
    path = tmp_path / "rows.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        load(str(path))
    assert str(raised.value).startswith(f"--reference {path} {said}")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InputError, match=r"cannot be read .*: expected `paper` or a CSV file"):
        load(str(tmp_path))
