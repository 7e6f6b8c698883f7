"""RotatedDigits, which needs no download: all twelve algorithms with their defaults, one trial, minutes on two cores.

The runs are short, so the penalties of IRM and VREx start at step 150, and IRM's weight is 1: its default of 100 is
for runs of thousands of steps.
"""

import json

from dg_batchformer.sweeps import script

HPARAMS = {
    "batch_size": 32,
    "irm_lambda": 1.0,
    "irm_penalty_anneal_iters": 150,
    "vrex_penalty_anneal_iters": 150,
}

main = script("RotatedDigits", "--n_hparams", "1", "--n_trials", "1", "--hparams", json.dumps(HPARAMS))

if __name__ == "__main__":
    raise SystemExit(main(None))
