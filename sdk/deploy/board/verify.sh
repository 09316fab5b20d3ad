#!/bin/sh
# Checks the hash of every file of the bundle and of the scripts around it; needs only Python.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/python.sh"
exec "$PYTHON" "$here/edge_run.py" --verify "$@"
