# Chooses the Python that installs and runs, and sets PYTHON.  Read by the other scripts.
# EDGEWRIGHT_PYTHON pins one; else the environment that install.sh made; else the board's own.
environment="$HOME/@ENVIRONMENT@"
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
# The last numpy for Python 3.6 takes some 64-bit ARM cores for others and dies of an illegal
# instruction (numpy issue 18131); the plain kernels run everywhere, and no engine uses them.
if [ "$(uname -m)" = aarch64 ]; then
    export OPENBLAS_CORETYPE="${OPENBLAS_CORETYPE:-ARMV8}"
fi
