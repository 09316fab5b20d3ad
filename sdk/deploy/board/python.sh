# Chooses the Python that installs and runs, and sets PYTHON.  Read by the other scripts.
# EDGEWRIGHT_PYTHON pins one; else the environment that install.sh made; else the board's own.
environment="${XDG_DATA_HOME:-$HOME/.local/share}/edgewright/@ENGINE@"
PYTHON=${EDGEWRIGHT_PYTHON:-}
for candidate in "$environment/bin/python" @PYTHON@ python3; do
    if [ -z "$PYTHON" ] && command -v "$candidate" >/dev/null 2>&1; then
        PYTHON=$candidate
    fi
done
if ! command -v "$PYTHON" >/dev/null 2>&1; then
    echo "there is no ${PYTHON:-@PYTHON@} on this board; install it, or name another in EDGEWRIGHT_PYTHON" >&2
    exit 4
fi
