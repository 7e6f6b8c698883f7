#!/bin/sh
# Fine-tunes ERM and ERM_BatchFormer on PACS for 501 steps, on all GPUs of this machine: sh run.sh DATA RUNS [FLAG...]
# DATA is the folder that contains PACS; the records are packed into RUNS/records.tar.xz. Flags are those of `sweep launch`.
# Needs dg-batchformer[offline]. Run it again to resume.
set -eu
data=$1 runs=$2
shift 2
. "$(dirname "$0")/../begin.sh"

python -m dg_batchformer.sweeps.pacs --protocol domainbed --data_dir "$data" --output_dir "$runs/domainbed" \
    --algorithms ERM ERM_BatchFormer --hparams '{"backbone": "timm:tf_efficientnet_lite0", "weights": "offline"}' \
    --n_hparams 1 --n_trials 5 --steps 501 --checkpoint_freq 100 --skip_model_save \
    ${LAUNCHER---command_launcher multi_gpu --jobs_per_gpu 4} "$@"

sh "$(dirname "$0")/../pack.sh" "$runs"
