#!/bin/sh
# Trains on the published long tails of PACS, all environments at once: sh run.sh DATA RUNS [FLAG...]
# DATA is the folder that contains PACS, with the published PACS.csv in it; the records are packed into
# RUNS/records.tar.xz. Flags are those of `sweep launch`. Needs dg-batchformer[offline]. Run it again to resume.
set -eu
data=$1 runs=$2
shift 2
. "$(dirname "$0")/../begin.sh"

network='"backbone": "timm:tf_efficientnet_lite0", "weights": "offline", "freeze_backbone": true, "lr": 0.001'
launch() { # the name of the sweep, more hparams, then flags
    name=$1 hparams=$2
    shift 2
    python -m dg_batchformer sweep launch --datasets mdlt:PACS --data_dir "$data" --output_dir "$runs/$name" --n_hparams 1 \
        --n_trials 10 --steps 801 --checkpoint_freq 100 --skip_model_save --skip_confirmation \
        --hparams "{$network$hparams}" "$@"
}
two="ERM BalancedSoftmax"
variants="ERM_BatchFormer BalancedSoftmax_BatchFormer"
slow=', "batchformer_lr_scale": 0.1'

for kind in forward alternating; do
    tail="--imbalance 0.02 --imbalance_max 110 --imbalance_kind $kind"
    launch $kind "" --algorithms $two $variants $tail "$@"
    launch $kind-slow "$slow" --algorithms $variants $tail "$@"
done
launch natural "" --algorithms $two $variants LDAM LDAM_BatchFormer FocalLoss FocalLoss_BatchFormer BoDA BoDA_BatchFormer "$@"
launch crt "" --algorithms ERM ERM_BatchFormer --stage crt --stage_steps 400 "$@"

sh "$(dirname "$0")/../pack.sh" "$runs"
