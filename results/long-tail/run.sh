#!/bin/sh
# Trains ERM and BalancedSoftmax with and without BatchFormer on long tails: sh run.sh DATA RUNS [FLAG...]
# DATA is the folder that contains PACS; the records are packed into RUNS/records.tar.xz. Flags are those of
# `sweep launch`. Needs dg-batchformer[offline]. Run it again to resume.
set -eu
data=$1 runs=$2
shift 2
for folder in "$data" "$runs"; do
    case $folder in /*) echo "$folder: expected a relative path, since the records contain it" >&2; exit 2 ;; esac
done
mkdir -p "$runs"
[ -e "$runs/machine.txt" ] || sh "$(dirname "$0")/../machine.sh" > "$runs/machine.txt"

python -m dg_batchformer.sweeps.long_tail --output_dir "$runs" --data_dir "$data" "$@"

sh "$(dirname "$0")/../pack.sh" "$runs"
