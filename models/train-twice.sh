#!/bin/sh
# Trains twice with one seed and compares: two runs must give the same metrics, and the same file. Then the files are put in place.
# Usage: train-twice.sh             the whole training (twice some five minutes); writes model, manifest, card and parity vectors here
#        train-twice.sh --short     a training of seconds, which also shows that another seed gives other metrics; writes nothing here
# Environment: as train.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

metrics() { # DIRECTORY
    python3 -c 'import json, sys; m = json.load(open(sys.argv[1])); print(m["sha256"], json.dumps(m["metrics"], sort_keys=True))' \
        "$1/demand.manifest.json"
}
short="--steps 40 --windows 3000 --synthetic 60 --origins 400"
[ "${1:-}" = "--short" ] || short=
for run in one two; do
    # shellcheck disable=SC2086
    "$here/train.sh" $short --out "$out/$run" >"$out/$run.log" 2>&1 || { cat "$out/$run.log" >&2; exit 1; }
done
tail -n 1 "$out/one.log"
if [ "$(metrics "$out/one")" != "$(metrics "$out/two")" ]; then
    echo "train-twice.sh: two runs with one seed differ:" >&2
    diff "$out/one/demand.manifest.json" "$out/two/demand.manifest.json" >&2 || true
    exit 1
fi
echo "two runs with one seed give the same metrics and the same file"
if [ -n "$short" ]; then
    # shellcheck disable=SC2086
    "$here/train.sh" $short --seed 7 --out "$out/other" >"$out/other.log" 2>&1
    if [ "$(metrics "$out/one")" = "$(metrics "$out/other")" ]; then
        echo "train-twice.sh: another seed gives the same metrics: the comparison shows nothing" >&2
        exit 1
    fi
    echo "another seed gives others"
    python="$("$here/train.sh" --prepare)"
    (cd "$here" && "$python" -B -m unittest discover --start-directory . --pattern 'test_*.py') >"$out/unit.log" 2>&1 || { cat "$out/unit.log" >&2; exit 1; }
    "$python" - >"$out/site.csv" <<'HISTORY'
from datetime import datetime, timedelta, timezone
print("timestamp,host,subject,resource,mean,max,samples,censored")
for step in range(600):
    at = (datetime(2026, 11, 1, tzinfo=timezone.utc) + timedelta(minutes=5 * step)).isoformat()
    print(f"{at},h-1,host,cpu_millicores,{500 + (step * 37) % 91 + 3 * (step % 12)},600,10,0")
HISTORY
    # shellcheck disable=SC2086
    "$here/train.sh" $short --history "$out/site.csv" --name site-1 --out "$out/site" >"$out/site.log" 2>&1 || { cat "$out/site.log" >&2; exit 1; }
    case "$(metrics "$out/site")" in
    *'"site"'*) echo "a site's own history trains a model of its own" ;;
    *) echo "train-twice.sh: the site's series are in no metrics" >&2; exit 1 ;;
    esac
else
    cp "$out"/one/demand.onnx "$out"/one/demand.manifest.json "$out"/one/MODEL_CARD.md "$out"/one/parity.json "$here/"
    echo "written to $here"
fi
