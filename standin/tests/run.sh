#!/bin/sh
# Tests of the stand-in that need no image: what configurations evaluate to, what messages say, and the run script with a
# QEMU that only prints what it was asked. A minute at most; nothing is downloaded.
#
#   standin/tests/run.sh            all
#   standin/tests/run.sh merging    those whose name has the word
set -u
here=$(cd "$(dirname "$0")" && pwd)
nixpkgs=$here/../nixpkgs
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0
only=${1:-}

# Nothing here builds an image, and the store may be anyone's: a store of the tests' own would need a rebuild each time.
nix="--option build-users-group '' --option sandbox false --option filter-syscalls false"

# config FILE < text: a configuration of that name.
config() { cat >"$work/$1"; }

# value ATTRIBUTE: what the configuration evaluates to there, as JSON; messages go to $work/stderr.
value() {
    eval nix-instantiate --eval --strict --json $nix "'<nixpkgs/nixos>'" -A "$1" \
        -I nixpkgs="$nixpkgs" -I nixos-config="$work/configuration.nix" 2>"$work/stderr"
}

ok() {
    passed=$((passed + 1))
    echo "ok      $1"
}
bad() {
    failed=$((failed + 1))
    echo "FAILED  $1"
    shift
    printf '        %s\n' "$@"
}
wanted() { case $1 in *"$only"*) return 0 ;; *) return 1 ;; esac }

# is NAME ATTRIBUTE JSON < configuration
is() {
    config configuration.nix
    wanted "$1" || return 0
    got=$(value "$2")
    if [ "$got" = "$3" ]; then ok "$1"; else bad "$1" "expected: $3" "got:      $got" "$(grep -v '^warning' "$work/stderr" | head -n 12)"; fi
}

# fails NAME ATTRIBUTE TEXT... < configuration: evaluation fails, and the message has each TEXT.
fails() {
    config configuration.nix
    wanted "$1" || return 0
    name=$1 attribute=$2
    shift 2
    if got=$(value "$attribute"); then
        bad "$name" "evaluated to $got, and should have failed"
        return
    fi
    for text; do
        if ! grep -qF -- "$text" "$work/stderr"; then
            bad "$name" "the message has no '$text':" "$(head -c 1500 "$work/stderr")"
            return
        fi
    done
    ok "$name"
}

for part in "$here"/[0-9]*.sh; do
    . "$part"
done

echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
