# No option is accepted in silence: each acts, or is listed as without effect and warned of (every-option.nix says how).

ask() { eval nix-instantiate --eval --strict --json $nix "'$here/every-option.nix'" -A "$1" 2>"$work/stderr"; }
lines() { python3 -c 'import json, sys; print("\n".join(sorted(json.load(sys.stdin))))'; }

if wanted "every option: each is read, or listed as without effect"; then
    ask declared | lines >"$work/declared"
    ask ignored | lines >"$work/ignored"
    ask read >"$work/answer"
    sed -n 's/^trace: read: //p' "$work/stderr" | LC_ALL=C sort -u >"$work/read"
    python3 - "$work" >"$work/differences" <<'P'
import sys
declared, ignored, read = (set(open(f"{sys.argv[1]}/{name}").read().split("\n")) - {""} for name in ("declared", "ignored", "read"))
for option in sorted(declared - ignored - read): print(f"{option} is accepted and never read")
for option in sorted(ignored & read): print(f"{option} is said to have no effect and is read")
P
    if [ "$(cat "$work/answer")" != true ]; then bad "every option: each is read, or listed as without effect" "$(head -c 1500 "$work/stderr")"
    elif [ -s "$work/differences" ]; then bad "every option: each is read, or listed as without effect" "$(cat "$work/differences")"
    else ok "every option: each is read, or listed as without effect"; fi
fi

# The values throw: what still evaluates has not read them. The warning names each.
if wanted "every option: a build reads none that has no effect, and warns of each"; then
    answer=$(ask unread)
    mv "$work/stderr" "$work/warned"
    missing=
    for option in $(ask ignored | lines); do
        grep -qE "^trace: warning: .* $option[ ,]" "$work/warned" || missing="$missing $option"
    done
    if [ "$answer" != true ]; then bad "every option: a build reads none that has no effect, and warns of each" "$(head -c 1500 "$work/warned")"
    elif [ -n "$missing" ]; then bad "every option: a build reads none that has no effect, and warns of each" "no warning names:$missing"
    else ok "every option: a build reads none that has no effect, and warns of each"; fi
fi

if wanted "every option: no switch is read and changes nothing"; then
    inert=$(ask inert)
    if [ "$inert" = '[]' ]; then ok "every option: no switch is read and changes nothing"
    else bad "every option: no switch is read and changes nothing" "$inert" "$(head -c 1500 "$work/stderr")"; fi
fi
