# activate with a fake root: accounts over several systems, /etc, and generations. No machine boots.

image=$here/../nixpkgs/nixos/image

# The program with its paths below $work/machine. `system NAME USERS GROUPS [mutable]`: a system; the tables are those of system.py.
machine=$work/machine
new_machine() {
    rm -rf "$machine"
    mkdir -p "$machine/etc" "$machine/run" "$machine/proc/sys/kernel" "$machine/nix/var" "$machine/usr/bin"
    printf 'root:x:0:0:root:/root:/bin/sh\ngames:x:5:60::/:/bin/sh\n' >"$machine/etc/passwd"
    printf 'root:*:1::::::\ngames:*:1::::::\n' >"$machine/etc/shadow"
    printf 'root:x:0:\ngames:x:60:root\n' >"$machine/etc/group"
    echo old >"$machine/proc/sys/kernel/hostname"
    printf '#!/bin/sh\n' >"$machine/usr/bin/sudo"
    for name in activate dry-activate; do
        sed -E -e "s#([\" {])/(etc|run|var|proc|usr|nix)/#\\1$machine/\\2/#g" -e "s#'@out@'#'nowhere'#" "$image/activate.pl" >"$machine/$name"
    done
}
# user NAME UID GROUP: a row of a normal user who has a home.
user() { printf '%s\t%s\t%s\t%s\t1\t700\t/bin/sh\t\tHASH-%s\t1\t0\n' "$1" "$2" "$3" "$machine/home/$1" "$1"; }
group() { printf '%s\t%s\t%s\n' "$1" "$2" "$3"; }
system() {
    mkdir -p "$machine/$1/etc"
    printf '%b' "$2" >"$machine/$1/users"
    printf '%b' "$3" >"$machine/$1/groups"
    printf 'mutableUsers %s\nsudoForWheelOnly 0\n' "${4:-1}" >"$machine/$1/settings"
    printf 'sudo\n' >"$machine/$1/wrappers"
    echo "$1" >"$machine/$1/etc/hostname"
    printf 'link hostname\n' >"$machine/$1/etc-manifest"
}
# activates NAME SYSTEM MODE STATUS OUTPUT: "boot", "" for a switch, "dry".
activates() {
    program=activate
    mode=$3
    if [ "$mode" = dry ]; then program=dry-activate mode=; fi
    said=$(perl "$machine/$program" "$machine/$2" $mode 2>&1)
    got=$?
    said=$(echo "$said" | sed "s#$machine##g")
    wanted "$1" || return 0
    if [ $got = "$4" ] && [ "$said" = "$5" ]; then ok "$1"; else bad "$1" "status $got, expected $4" "expected: $5" "got:      $said"; fi
}
# ids NAME USERS: NAME:UID of all but root and Debian's.
ids() {
    wanted "$1" || return 0
    got=$(grep -v '^root\|^games' "$machine/etc/passwd" | cut -d: -f1,3 | tr '\n' ' ')
    if [ "$got" = "$2" ]; then ok "$1"; else bad "$1" "expected: $2" "got:      $got"; fi
}

base="$(group root 0 '')\n$(group users 100 '')\n$(group wheel '' 'alice')\n"
new_machine
system one "$(user alice '' users)\n$(user bob '' users)\n" "$base$(group team '' alice,bob)\n"
system two "$(user alice 1500 users)\n$(user carl '' users)\n" "$base$(group team '' carl)\n"
system three "$(user alice '' users)\n$(user bob '' users)\n$(user dora '' users)\n" "$base"
system four "$(user alice '' users)\n" "$base" 0

activates "activate: a first boot" one boot 0 ""
ids "activate: ids of a first boot" "alice:1000 bob:1001 "
check "activate: a password of a first boot" grep -q "^alice:HASH-alice:" "$machine/etc/shadow"
check "activate: the system of a first boot is generation 1" sh -c "[ \"\$(readlink $machine/nix/var/nix/profiles/system)\" = system-1-link ] && [ \"\$(readlink $machine/nix/var/nix/profiles/system-1-link)\" = $machine/one ]"

sed -i 's/^alice:HASH-alice/alice:CHANGED/' "$machine/etc/shadow"
echo "hand:x:1700:100::/home/hand:/bin/sh" >>"$machine/etc/passwd"
sed -i 's/^\(team:.*\)/\1,hand/' "$machine/etc/group"
activates "activate: a dry run says what would be done" two dry 0 "would remove user ‘bob’
warning: would not apply UID change of user ‘alice’ (1000 -> 1500) in /etc/passwd"
ids "activate: and does not do it" "alice:1000 bob:1001 hand:1700 "
activates "activate: a switch" two "" 0 "removing user ‘bob’
warning: not applying UID change of user ‘alice’ (1000 -> 1500) in /etc/passwd
setting up /etc..."
ids "activate: an id is never changed, nor given to another" "alice:1000 hand:1700 carl:1002 "
check "activate: a password that its owner changed stays" grep -q "^alice:CHANGED:" "$machine/etc/shadow"
check "activate: members are those of the declaration and those added by hand" grep -q "^team:x:[0-9]*:carl,hand$" "$machine/etc/group"
check "activate: the booted system stays" sh -c "[ \"\$(readlink $machine/run/booted-system)\" = $machine/one ] && [ \"\$(readlink $machine/run/current-system)\" = $machine/two ]"
check "activate: a switch makes no generation" sh -c "[ \"\$(ls $machine/nix/var/nix/profiles | tr '\n' ' ')\" = 'system system-1-link ' ]"
check "activate: the name of the machine is the new one" sh -c "[ \"\$(cat $machine/proc/sys/kernel/hostname)\" = two ]"
activates "activate: an account that comes back has its id again" three "" 0 "removing group ‘team’
removing user ‘carl’
reviving user 'bob' with UID 1001
setting up /etc..."
ids "activate: and a new one has one of its own" "alice:1000 hand:1700 bob:1001 dora:1003 "
activates "activate: without mutable users accounts that are not declared go" four "" 0 "removing user ‘hand’
removing user ‘bob’
removing user ‘dora’
setting up /etc..."
ids "activate: only those that are declared are left" "alice:1000 "
check "activate: and passwords are those that are declared" grep -q "^alice:HASH-alice:" "$machine/etc/shadow"
check "activate: Debian's own accounts stay" grep -q ^games: "$machine/etc/passwd"

system six "$(user alice '' users)\n$(user emil '' users)\n" "$base"
activates "activate: one more account" six "" 0 "setting up /etc..."
ids "activate: an id of somebody who is gone is not given to another" "alice:1000 emil:1004 "
activates "activate: the same system is booted again" one boot 0 "removing user ‘emil’
reviving group 'team' with GID 998
reviving user 'bob' with UID 1001"
check "activate: it is the generation that it was" sh -c "[ \"\$(readlink $machine/nix/var/nix/profiles/system)\" = system-1-link ]"

rm -rf "$machine/one"
activates "activate: the boot of another system" four boot 0 "removing group ‘team’
removing user ‘bob’"
check "activate: it is a generation, since the one of before is gone" sh -c "[ \"\$(readlink $machine/nix/var/nix/profiles/system)\" = system-2-link ]"

# --- What fails.

system five "$(user alice '' nobodys)\n" "$base"
activates "activate: a part that fails is named, and the rest is done" five "" 1 "users.users.alice.group: there is no group \`nobodys'
Activation script snippet 'users' failed (1)
setting up /etc..."
check "activate: and the system is the current one" sh -c "[ \"\$(readlink $machine/run/current-system)\" = $machine/five ]"

mkdir -p "$machine/run/wrappers/bin"
ln -s /nowhere "$machine/run/wrappers/bin/stale"
activates "activate: a switch back" four "" 0 "setting up /etc..."
check "activate: a wrapper that is stale goes" sh -c "[ \"\$(ls $machine/run/wrappers/bin)\" = sudo ]"
