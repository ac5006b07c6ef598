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
