#!/bin/sh
# Trains ERM and BalancedSoftmax with and without BatchFormer on long tails: sh run.sh DATA RUNS [FLAG...]
# DATA is the folder that contains PACS; the records are packed into RUNS/records.tar.xz. Flags are those of
# `sweep launch`. Needs dg-batchformer[offline]. Run it again to resume.
set -eu
data=$1 runs=$2
shift 2
. "$(dirname "$0")/../begin.sh"

python -m dg_batchformer.sweeps.long_tail --output_dir "$runs" --data_dir "$data" "$@"

sh "$(dirname "$0")/../pack.sh" "$runs"
