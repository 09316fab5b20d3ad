#!/bin/sh
# Installs what the bundle needs on this board (host, engine onnxruntime).
# Where the system's Python refuses packages, they go into ~/.local/share/edgewright/onnxruntime,
# which run.sh finds by itself; delete that folder to undo it.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/python.sh"
managed='import os, sys, sysconfig
marker = os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
sys.exit(sys.prefix != sys.base_prefix or not os.path.exists(marker))'
if "$PYTHON" -c "$managed"; then
    if ! "$PYTHON" -m venv --system-site-packages "$environment"; then
        rm -rf "$environment"
        echo "cannot make an environment in $environment; on Debian and Ubuntu: sudo apt-get install python3-venv" >&2
        exit 4
    fi
    PYTHON=$environment/bin/python
fi
"$PYTHON" -m pip install onnxruntime numpy Pillow
