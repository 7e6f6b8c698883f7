"""RotatedDigits, which needs no download: all twelve algorithms in a few minutes on two cores.

The runs are short, so IRM and VREx set their penalties in at step 150, and IRM at weight 1: its default of 100 is
meant for runs of thousands of steps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from dg_batchformer.sweeps import launch_and_collect

HPARAMS = {
    "batch_size": 32,
    "irm_lambda": 1.0,
    "irm_penalty_anneal_iters": 150,
    "vrex_penalty_anneal_iters": 150,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Defaults only, one trial."""
    defaults = ["--n_hparams", "1", "--n_trials", "1", "--hparams", json.dumps(HPARAMS)]
    return launch_and_collect("RotatedDigits", argv, defaults)


if __name__ == "__main__":
    raise SystemExit(main())
