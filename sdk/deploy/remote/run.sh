# Runs a deployment on photos that lie in a temporary folder meanwhile.  $1: the deployment; stdin: a
# tar of the photos; the rest: arguments for edge_run.py.
target=$1
shift
target=$(CDPATH='' cd "$target" && pwd) || exit 21
photos=$(mktemp -d) || exit 21
trap 'rm -rf "$photos"' EXIT
trap 'exit 1' HUP INT TERM PIPE
tar -xomf - -C "$photos" || exit 22
cd "$photos" || exit 21
sh "$target/run.sh" --json "$@"
