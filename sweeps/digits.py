"""RotatedDigits, which needs no download: all twelve algorithms, the defaults in one trial, in minutes on two cores.

The runs are short, so IRM and VREx set their penalties in at step 150, and IRM at weight 1: its default of 100 is
meant for runs of thousands of steps.
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
