#!/bin/sh
# Installs what the bundle needs on this board (@DEVICE@, engine @ENGINE@).
# Where the system's Python refuses packages, or the board's profile says so, they go into
# ~/@ENVIRONMENT@, which run.sh finds by itself; delete that folder to undo it.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
. "$here/python.sh"

kind=$("$PYTHON" -c 'import os, sys, sysconfig
marker = os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
print("inside" if sys.prefix != sys.base_prefix else "managed" if os.path.exists(marker) else "open")')
# shellcheck disable=SC2195  # the word between the slashes is filled in
case "$kind/@OWN@/${EDGEWRIGHT_PYTHON:+pinned}" in
managed/* | open/own/)
    if ! "$PYTHON" -m venv "$environment"; then
        echo "cannot make an environment in $environment; on Debian and Ubuntu: sudo apt-get install python3-venv" >&2
        exit 4
    fi
    PYTHON=$environment/bin/python
    kind=inside
    ;;
esac

if ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
    echo "$PYTHON has no pip; on Debian and Ubuntu: sudo apt-get install python3-pip" >&2
    exit 4
fi
# Before 20.3 pip does not know the wheels of today, nor does it install for a user by itself; 21 is
# the last for Python 3.6, and reads the wheels of every Python that ever came with an older one.
if ! "$PYTHON" -c 'import pip, sys; sys.exit([int(n) for n in pip.__version__.split(".")[:2]] < [20, 3])'; then
    user=--user
    if [ "$kind" = inside ] || [ "$(id -u)" = 0 ]; then user=; fi
    "$PYTHON" -m pip install $user --upgrade "pip<22"
fi
@INSTALL@
