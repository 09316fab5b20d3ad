#!/bin/sh
# Runs the bundle beside this file and times it:
#   sh run.sh photo.jpg ...     top 5 and milliseconds        sh run.sh input.npy
#   sh run.sh                   milliseconds alone            sh run.sh --help
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/python.sh"
exec "$PYTHON" "$here/edge_run.py" "$@"
