#!/bin/sh
# Runs a detector over the Numenta Anomaly Benchmark and scores it by the published rules.
# Usage: eval.sh PROGRAM OUT [score.py's arguments]   PROGRAM anomalies --input FILE.csv writes CSV on standard output
set -eu
[ $# -ge 2 ] || { echo "usage: eval.sh PROGRAM OUT [--json] [--threshold T]" >&2; exit 64; }
here=$(cd "$(dirname "$0")" && pwd)
program=$1 out=$2
shift 2
mkdir -p "$out/results"
tar -xJf "$here/nab-data.tar.xz" -C "$out"
(cd "$out/data" && find . -name '*.csv') | sort | while read -r file; do
    mkdir -p "$out/results/$(dirname "$file")"
    "$program" anomalies --input "$out/data/$file" >"$out/results/$file"
done
exec python3 -B "$here/score.py" "$out/results" --labels "$out/labels/combined_windows.json" "$@"
