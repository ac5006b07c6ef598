# Runs inside the guest's root, as its root: installs what /tmp/groups names.
set -eu
export DEBIAN_FRONTEND=noninteractive

groups=$(cat /tmp/groups)
if [ -n "$groups" ]; then
    apt-get update -q
    apt-get install -q -y --no-install-recommends $(echo $groups | tr ', ' '\n\n' | sort -u)
    apt-get clean
    rm -rf /var/lib/apt/lists/*
fi
sh /tmp/quieten
sh /tmp/link-programs $groups >/tmp/programs-of-groups

# A data folder for PostgreSQL where NixOS has it, made here: under emulation initdb takes half a minute.
for initdb in /usr/lib/postgresql/*/bin/initdb; do
    [ -x "$initdb" ] || continue
    version=$(echo "$initdb" | cut -d / -f 5)
    rm -rf "/var/lib/postgresql/$version" "/etc/postgresql/$version"
    su postgres -s /bin/sh -c "'$initdb' -D /var/lib/postgresql/$version -E UTF8 --locale=C.UTF-8 -U postgres" >/dev/null
done
