#!/bin/sh
# Prints the machine and the versions of what is installed.
set -eu
uname -srm
grep -m 1 'model name' /proc/cpuinfo || uname -p
echo "$(nproc) cores"
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2> /dev/null || echo 'no GPU'
python --version
python -m pip list --format freeze
