#!/bin/sh
# Trains the demand model again: makes a Python environment, installs pinned packages, runs train.py.
# Usage: train.sh [OPTIONS OF train.py]     as --traces DIR (default: traces/ beside this script), --out DIR, --steps N
#        train.sh --history FILE.csv --name site-1 --out DIR    with a site's own history (`quotary history export --resolution step`)
#        train.sh --prepare                 makes the environment alone, and prints its Python
# Environment: QUOTARY_TRAIN_VENV  where the environment is kept (default: target/train-venv in the repository)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${QUOTARY_TRAIN_VENV:-"$here/../target/train-venv"}

if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "train.sh: needs python3 3.11 or later with the venv module (Debian: apt install python3-venv)" >&2
    exit 1
fi
if [ ! -x "$venv/bin/python" ]; then
    echo "train.sh: making a Python environment in $venv" >&2
    python3 -m venv "$venv"
fi
# What is installed is remembered, so that a second run needs no network.
if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt" >&2
    cp "$here/requirements.txt" "$venv/requirements.txt"
fi
if [ "${1:-}" = "--prepare" ]; then
    echo "$venv/bin/python"
    exit 0
fi
exec nice -n 10 "$venv/bin/python" -B "$here/train.py" --traces "$here/traces" --out "$here" "$@"
