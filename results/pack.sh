#!/bin/sh
# Packs the records of the finished runs in a folder, without weights, as RUNS/records.tar.xz: sh pack.sh RUNS
set -eu
cd "$1"
find . -name done | sort | while read -r done; do
    for file in results.jsonl progress.jsonl job.json done; do
        if [ -e "${done%/done}/$file" ]; then echo "${done%/done}/$file"; fi
    done
done | tar -cJf records.tar.xz --owner 0 --group 0 -T -
