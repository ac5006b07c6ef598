#!/bin/sh
# Makes docs/login.svg: a real run of scenarios/login.rs on a terminal, as its last screen shows it.
#
#   docs/record.sh [NIXVM-TEST]     # default: target/debug/nixvm-test
set -eu
cd "$(dirname "$0")/.."
program=${1:-target/debug/nixvm-test}
typescript=$(mktemp)
trap 'rm -f "$typescript"' EXIT
# script(1) gives the program a terminal; stty makes it as wide as the picture.
script -qefc "stty cols 100 rows 30; env -u CI TERM=xterm-256color $program scenarios/login.rs" "$typescript" </dev/null >/dev/null
docs/screen-to-svg.pl 'nixvm-test scenarios/login.rs' <"$typescript" >docs/login.svg
