#!/bin/sh
# nix/build-early.sh CONFIGURATION: builds the VM of a configuration into the Nix store. It leaves nothing else.
#
# ./just login runs it while cargo compiles. The program builds the VM itself afterwards and finds everything in the
# store, so nothing depends on this script: it prints nothing, and its status only says whether the VM is built. It ends,
# with all that it started, when its standard input ends. That is a pipe from ./just, so it also ends when ./just is killed.
set -u
exec 3<&0 </dev/null >/dev/null 2>&1
# ./just gets Ctrl-C as well, and closes the pipe.
trap '' INT QUIT HUP TERM TSTP

here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
configuration=$1
# The folders of builders that are killed stay, in here.
TMPDIR=$(mktemp -d) || exit 1
export TMPDIR

# The choices of src/nix/: nixpkgs by NIX_PATH or a channel, else the stand-in (nixpkgs.rs), and its settings (store.rs).
set -- -I "nixos-config=$configuration" --no-out-link
case ":${NIX_PATH-}" in
*:nixpkgs=*) standin= ;;
*) if nix-instantiate --find-file nixpkgs/nixos; then standin=; else standin=$here/standin/nixpkgs; fi ;;
esac
[ -z "$standin" ] || set -- "$@" -I "nixpkgs=$standin" \
    --option sandbox false --option filter-syscalls false --option substitute false
if [ -n "$standin" ] || ! grep -q '^nixbld:' /etc/group; then set -- "$@" --option build-users-group ''; fi

# below PID: all processes that it has started, and those that they have.
below() {
    for child in $(cat "/proc/$1/task/"*/children); do
        echo "$child"
        below "$child"
    done
}

# Builders first: Nix removes the folder of a build that failed, and ends.
end() {
    builders=
    while more=$(below "$1") && [ "$more" != "$builders" ]; do
        # What is stopped starts nothing more.
        builders=$more
        kill -s STOP $builders
    done
    [ -z "$builders" ] || kill -s KILL $builders
    for signal in 0 TERM KILL; do
        kill -s "$signal" "$1" || return 0
        i=0
        while [ $i -lt 30 ] && kill -s 0 "$1"; do i=$((i + 1)); sleep 0.1; done
    done
}

(trap - INT QUIT HUP TERM TSTP; exec nix-build '<nixpkgs/nixos>' -A vm "$@") 3<&- &
build=$!
# An hour is what the program gives a build.
(timeout 3600 cat <&3; end "$build") &
watch=$!
wait "$build"
status=$?
kill -s KILL "$watch" $(below "$watch")
wait "$watch"
rm -rf "$TMPDIR"
exit "$status"
