# Builder of the list of Debian packages that a configuration's closure refers to (default.nix).
# `closure` has store paths, and between them numbers and derivers, which have no standin-debs either.
set -eu
grep '^/' closure | sort -u | while read -r path; do
    if [ -f "$path/standin-debs" ]; then
        cat "$path/standin-debs"
    fi
done | sort -u | grep -vx base >"$out" || true
