#!/bin/sh
# Fine-tunes the twelve algorithms on PACS, on all GPUs of this machine: sh run.sh DATA RUNS [FLAG...]
# DATA is the folder that contains PACS; each protocol has a folder in RUNS, and all records are packed into
# RUNS/records.tar.xz. Flags are those of `sweep launch`. Needs dg-batchformer[offline]. Run it again to resume.
set -eu
data=$1 runs=$2
shift 2
. "$(dirname "$0")/../begin.sh"

# sweep PROTOCOL FLAG...: each of the four environments left out in three trials; the images are 224 x 224.
sweep() {
    protocol=$1
    shift
    python -m dg_batchformer.sweeps.pacs --protocol "$protocol" --data_dir "$data" --output_dir "$runs/$protocol" \
        --hparams '{"backbone": "timm:tf_efficientnet_lite0", "weights": "offline"}' --n_hparams 1 --n_trials 3 \
        --steps 1001 --checkpoint_freq 100 --skip_model_save ${LAUNCHER---command_launcher multi_gpu --jobs_per_gpu 4} "$@"
}

sweep domainbed "$@"
sweep swad --algorithms SWAD SWAD_BatchFormer "$@"

sh "$(dirname "$0")/../pack.sh" "$runs"
