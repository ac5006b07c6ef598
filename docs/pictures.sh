#!/bin/sh
# Makes the pictures of the README, docs/pictures/: a run, a failure, its report and going back to it, each of the real VM of
# configuration.nix as a person would see it.
#
#   docs/pictures.sh [NIXVM-TEST]     # default: target/debug/nixvm-test
#
# Needs script(1), perl, and Chromium for the report.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
program=$(realpath "${1:-target/debug/nixvm-test}")
pictures=$root/docs/pictures
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export NIXVM_RUNS="$work/runs" TERM=xterm-256color
unset CI NO_COLOR NIXVM_RUN || :

# on_a_terminal FILE COMMAND: what the command shows, in FILE. script(1) gives it a terminal, stty the width of the picture.
on_a_terminal() {
    script -qefc "stty cols 100 rows 30; $2" "$1" >/dev/null || :
}

on_a_terminal "$work/run" "$program scenarios/login.rs" </dev/null
"$root/docs/screen-to-svg.pl" 'nixvm-test scenarios/login.rs' <"$work/run" >"$pictures/run.svg"

cp configuration.nix "$work"
cat >"$work/hello.rs" <<'RUST'
use nixvm_test::prelude::*;

/// The cow says hello to the world.
#[scenario(from = logged_in("alice", "test"))]
async fn hello(machine: Machine) -> Result {
    let alice = machine.session().await.ok_or("nobody is logged in")?;
    let console = machine.console();
    alice.succeed("(sleep 1; cowsay 'Hello, world' | tee /tmp/cow) &").await?;
    console.expect("< hello, world >", Duration::from_secs(10)).await?;
    Ok(())
}

nixvm_test::main!();
RUST
cd "$work"
on_a_terminal failure "$program hello.rs" </dev/null
"$root/docs/screen-to-svg.pl" 'nixvm-test hello.rs' <failure >"$pictures/failure.svg"

page=$("$program" report --no-open)
chromium --headless=new --no-sandbox --disable-gpu --hide-scrollbars --window-size=1200,1500 \
    --screenshot="$pictures/report.png" "file://$page" >/dev/null 2>&1

# A person at the keyboard, who waits for what they want to see.
mkfifo keys
types() {
    for _ in $(seq 600); do
        if grep -q "$1" attach 2>/dev/null; then
            printf '%b' "$2" >&3
            return
        fi
        sleep 0.1
    done
    echo "pictures: $1 did not come" >&2
    exit 1
}
on_a_terminal attach "$program attach" <keys &
exec 3>keys
types 'leaves it' '\r'
types 'alice@' 'tr a-z A-Z </tmp/cow\r'
types '||----W' '\035'
exec 3>&-
wait
"$root/docs/screen-to-svg.pl" 'nixvm-test attach' <attach >"$pictures/attach.svg"
