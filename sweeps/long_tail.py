"""Long tails: ERM and BalancedSoftmax with and without BatchFormer, by the number of training images of a class.

python -m dg_batchformer.sweeps.long_tail --output_dir tail [--data_dir DATA], and any flag of `sweep launch`.

It runs RotatedDigits and, with the images of PACS in DATA, a head on the features of a frozen network; the extra
`offline` has its weights. Classes have the same order in all environments (forward) or the reverse in every second one
(alternating).
"""

import argparse
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
    folders, statuses = [], []
    for dataset in FLAGS if given.data_dir else ("RotatedDigits",):
        for kind in KINDS:
            folders.append(str(Path(given.output_dir) / f"{dataset}-{kind}"))
            launch = [
                "sweep",
                "launch",
                "--datasets",
                dataset,
                "--algorithms",
                *ALGORITHMS,
                "--output_dir",
                folders[-1],
            ]
            launch += ["--n_hparams", "1", "--n_trials", "10", "--imbalance", "0.02", "--imbalance_kind", kind]
            launch += ["--skip_model_save", "--skip_confirmation", *FLAGS[dataset], *flags]
            launch += ["--data_dir", given.data_dir] if given.data_dir else []
            statuses.append(cli.main(launch))
            if statuses[-1] > 1:
                return statuses[-1]
    table = Path(given.output_dir) / "selection.md"
    return cli.guarded(lambda: show(folders, table)) or max(statuses)


if __name__ == "__main__":
    raise SystemExit(main(None))
