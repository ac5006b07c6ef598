#!/usr/bin/env bash
# pack.sh PROGRAM VERSION TARGET DIR: packs a compiled program for a release, as DIR/nixvm-test-VERSION-TARGET.tar.gz with its
# checksum beside it.
#
# In the archive: the program, its manual pages and completions, and the sources of this commit. Scenarios are compiled
# against those, and the stand-in for nixpkgs lies in them; the program finds them by its own path.
set -euo pipefail
[ $# = 4 ] || { echo "usage: pack.sh PROGRAM VERSION TARGET DIR" >&2; exit 2; }
program=$(realpath "$1") name=nixvm-test-$2-$3
mkdir -p "$4"
out=$(realpath "$4")
cd "$(dirname "$0")/../.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$folder/$name
share=$root/share
install -D "$program" "$root/bin/nixvm-test"
mkdir -p "$share/nixvm-test/source"
git archive HEAD | tar -x -C "$share/nixvm-test/source"
cp LICENSE* README.md "$root"
"$program" man --dir "$share/man/man1"
for file in bash:bash-completion/completions/nixvm-test zsh:zsh/site-functions/_nixvm-test fish:fish/vendor_completions.d/nixvm-test.fish; do
    mkdir -p "$share/$(dirname "${file#*:}")"
    "$program" completions "${file%%:*}" >"$share/${file#*:}"
done

# The same commit and the same program give the same archive.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(git log -1 --format=%ct)" -C "$folder" -c "$name" |
    gzip -n >"$out/$name.tar.gz"
cd "$out"
sha256sum "$name.tar.gz" >"$name.tar.gz.sha256"
