# Runs inside the guest's root: sh link-programs GROUP...
# Makes /usr/lib/standin/packages/GROUP/bin for each, and prints "GROUP PROGRAM PATH" a line for each link. A GROUP is
# Debian packages with commas between, or `base`: all that is installed.
set -eu

programs() { grep -E '^(/usr)?/s?bin/[^/]+$|^/usr/games/[^/]+$|^/usr/lib/postgresql/[0-9]+/bin/[^/]+$' || true; }

# Debian's alternatives (vim -> /etc/alternatives/vim -> vim.basic) belong to no package: they go with the file they
# lead to. Lines: "PATH FILE".
for link in /etc/alternatives/*; do
    name=${link##*/}
    for bin in /usr/bin /usr/sbin /usr/games; do
        if [ -h "$bin/$name" ]; then
            echo "$bin/$name $(readlink -f "$link")"
        fi
    done
done >/tmp/alternatives

for group in "$@"; do
    folder=/usr/lib/standin/packages/$group/bin
    mkdir -p "$folder"
    if [ "$group" = base ]; then
        ls -d /usr/bin/* /usr/sbin/* /usr/games/* 2>/dev/null | programs
    else
        dpkg -L $(echo "$group" | tr ',' ' ') | programs | sed -e 's|^/bin/|/usr/bin/|' -e 's|^/sbin/|/usr/sbin/|' >/tmp/programs
        cat /tmp/programs
        awk 'NR == FNR { own[$1]; next } $2 in own { print $1 }' /tmp/programs /tmp/alternatives
    fi | sort -u | awk -v group="$group" '
        # Of two with the same name the later: PostgreSQL'"'"'s own psql, not the wrapper that wants a Debian cluster.
        { n = split($0, part, "/"); path[part[n]] = $0 }
        END { for (name in path) print group, name, path[name] }' | sort >/tmp/links
    # One process for all links of a folder: TSV to `ln` a thousand times would take seconds.
    awk -v folder="$folder" '{ print $3; }' /tmp/links | xargs -r ln -sft "$folder"
    cat /tmp/links
done
rm -f /tmp/alternatives /tmp/programs /tmp/links
