# Says what the board is.  Read after python.sh; $1: where the deployment will go.
say() { printf 'edgewright:%s=%s\n' "$1" "$2"; }
say arch "$(uname -m)"
say libc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
say python "$PYTHON"
say version "$("$PYTHON" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')"
say tar "$(command -v tar)"
folder=$1
while [ ! -d "$folder" ]; do folder=$(dirname "$folder"); done
say free_kib "$(df -Pk "$folder" | awk 'NR == 2 { print $4 }')"
