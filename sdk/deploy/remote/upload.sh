# Puts a deployment in place in one step, once every hash was checked.  $1: where; stdin: a tar of it.
# Exit codes: 20 something else is there, 21 cannot write, 22 the copy is incomplete, 23 it differs.
target=$1
parent=$(dirname "$target")
name=$(basename "$target")
mkdir -p "$parent" || exit 21
for stale in "$parent/.$name."*.partial; do
    owner=${stale%.partial}
    owner=${owner##*.}
    case $owner in *[!0-9]* | '') continue ;; esac
    kill -0 "$owner" 2>/dev/null || rm -rf "$stale"
done
new="$parent/.$name.new.$$.partial"
old="$parent/.$name.old.$$.partial"
trap 'rm -rf "$new"' EXIT
trap 'exit 1' HUP INT TERM PIPE
mkdir "$new" || exit 21
tar -xomf - -C "$new" || exit 22
sh "$new/run.sh" --may-replace "$target" || exit 20
sh "$new/verify.sh" --json || exit 23
if [ -e "$target" ]; then
    mv "$target" "$old" || exit 21
fi
if ! mv "$new" "$target"; then
    [ ! -e "$old" ] || mv "$old" "$target"
    exit 21
fi
rm -rf "$old"
