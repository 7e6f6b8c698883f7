"""Long tails: ERM and BalancedSoftmax with and without BatchFormer, by the number of training images of a class.

python -m dg_batchformer.sweeps.long_tail --output_dir tail [--data_dir DATA], and any flag of `sweep launch`.

It runs RotatedDigits and, with the images of PACS in DATA, a head on the features of a frozen network; the extra
`offline` has its weights. Classes have the same order in all environments (forward) or the reverse in every second one
(alternating).
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from dg_batchformer import cli
from dg_batchformer.sweeps import show

ALGORITHMS = ("ERM", "ERM_BatchFormer", "BalancedSoftmax", "BalancedSoftmax_BatchFormer")
KINDS = ("forward", "alternating")
FROZEN = {"backbone": "timm:tf_efficientnet_lite0", "weights": "offline", "freeze_backbone": True, "lr": 0.001}
FLAGS = {
    "RotatedDigits": ("--steps", "201", "--checkpoint_freq", "50", "--hparams", json.dumps({"batch_size": 24})),
    "PACS": ("--steps", "401", "--checkpoint_freq", "100", "--hparams", json.dumps({**FROZEN, "batch_size": 24})),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the sweeps, each in a folder in `--output_dir`, and writes the tables of all of them."""
    own = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own.add_argument("--output_dir", required=True)
    own.add_argument("--data_dir")
    given, flags = own.parse_known_args(sys.argv[1:] if argv is None else argv)
    datasets = tuple(FLAGS) if given.data_dir else ("RotatedDigits",)
    statuses, folders = [], []
    for dataset, kind in itertools.product(datasets, KINDS):
        statuses.append(cli.main([*launch(dataset, kind, given.output_dir, given.data_dir), *flags]))
        folders.append(folder_of(dataset, kind, given.output_dir))
        if statuses[-1] > 1:
            return statuses[-1]
    table = Path(given.output_dir) / "selection.md"
    return cli.guarded(lambda: show(folders, table)) or max(statuses)


def folder_of(dataset: str, kind: str, output_dir: str) -> str:
    """The folder of a sweep."""
    return str(Path(output_dir) / f"{dataset}-{kind}")


def launch(dataset: str, kind: str, output_dir: str, data_dir: str | None) -> list[str]:
    """The command of the sweep of a dataset with one order of the classes."""
    words = ["sweep", "launch", "--datasets", dataset, "--algorithms", *ALGORITHMS]
    words += ["--output_dir", folder_of(dataset, kind, output_dir), "--n_hparams", "1", "--n_trials", "10"]
    words += ["--imbalance", "0.02", "--imbalance_kind", kind, "--skip_model_save", "--skip_confirmation"]
    return [*words, *FLAGS[dataset], *(["--data_dir", data_dir] if data_dir else [])]


if __name__ == "__main__":
    raise SystemExit(main(None))
