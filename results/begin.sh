# Sourced by the scripts of the studies: checks "$data" and "$runs", makes RUNS and writes its machine.txt.
for folder in "$data" "$runs"; do
    case $folder in /*) echo "$folder: expected a relative path, since the records contain it" >&2; exit 2 ;; esac
done
mkdir -p "$runs"
[ -e "$runs/machine.txt" ] || sh "$(dirname "$0")/../machine.sh" > "$runs/machine.txt"
