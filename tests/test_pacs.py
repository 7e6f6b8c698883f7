"""Real images: some of PACS, where they lie beside the repository."""

import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from dg_batchformer import cli

LONG_TAIL = Path(__file__).parents[2] / "shared" / "data" / "mdlt" / "PACS.csv"
MINI = Path(__file__).parents[2] / "shared" / "data" / "pacs" / "pacs-mini.tar"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.shared,
    pytest.mark.skipif(not MINI.exists(), reason=f"needs the real images of PACS, {MINI.name}, beside the repository"),
]


@pytest.mark.parametrize("algorithm", ["ERM", "SWAD_BatchFormer"])
def test_trains_on_pacs(tmp_path, capsys, algorithm):
    with tarfile.open(MINI) as tar:
        # A quarter of them: without a GPU a ResNet takes its time.
        members = [member for member in tar.getmembers() if int(re.findall(r"(\d+)\.", member.name)[0]) % 4 == 0]
        tar.extractall(tmp_path, members, filter="data")
    hparams = json.dumps({"resnet18": True, "weights": None, "batch_size": 4})
    argv = ["train", "--dataset", "PACS", "--data_dir", str(tmp_path), "--algorithm", algorithm, "--test_envs", "3"]
    argv += ["--steps", "2", "--hparams", hparams, "--output_dir", str(tmp_path / "run")]
    assert cli.main(argv) == 0
    printed = capsys.readouterr().out
    assert f"WARNING: {len(members)} images (A " in printed
    assert "not the published PACS of 9,991" in printed
    last = json.loads((tmp_path / "run" / "results.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 1
    assert last["backbone"] == "resnet18"
    assert all(0 <= last[f"env{i}_{split}_acc"] <= 1 for i in range(4) for split in ("in", "out"))


@pytest.mark.skipif(not LONG_TAIL.exists(), reason=f"needs {LONG_TAIL.name} of the published long tails")
def test_finds_the_published_long_tail(tmp_path, capsys):
    """All 9,991 images; the file names those of sketch .png, and here they are .jpg."""
    for tar in sorted(MINI.parent.glob("pacs-*.tar")):
        if tar != MINI:
            with tarfile.open(tar) as opened:
                opened.extractall(tmp_path, filter="data")
    shutil.copyfile(LONG_TAIL, tmp_path / "PACS" / "PACS.csv")
    assert cli.main(["data", "info", "--dataset", "mdlt:PACS", "--data_dir", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    counts = {"art_painting": 1523, "cartoon": 1819, "photo": 1145, "sketch": 3404}
    for name, n in counts.items():
        assert f"{name}: {n + 525} images (train {n}, val 175, test 350)" in printed
    assert "7 classes: dog, elephant, giraffe, guitar, horse, house, person" in printed
    assert "3929 files have another extension than in" in printed
