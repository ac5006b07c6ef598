# Shared by the builders of the stand-in's images. Sourced, not run.
# Builders run with an empty environment and outside of any sandbox: what they use is the host's.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C.UTF-8
export HOME="$TMPDIR"

# One line a step: nix-build passes it on, and so does nixvm-test.
step() { echo "standin: $*" >&2; }

die() {
    echo "standin: error: $*" >&2
    exit 1
}

# need TOOL PACKAGE: the host must have TOOL; PACKAGE is what brings it on Debian.
need() {
    command -v "$1" >/dev/null 2>&1 || die "this host lacks '$1', which building the stand-in needs. Install it:
    apt-get install $2"
}

# Not root: mmdebstrap makes the root file system in a user namespace, and that needs a range of user ids.
need_namespace_or_root() {
    [ "$(id -u)" = 0 ] && return
    need newuidmap uidmap
    grep -q "^$(id -un):\|^$(id -u):" /etc/subuid 2>/dev/null ||
        die "not root, and /etc/subuid has no range of user ids for $(id -un). Add one:
    sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)"
}

# The mirror to use: the one asked for, else the first Debian mirror of the host's own apt, else Debian's.
find_mirror() {
    if [ -n "$mirror" ]; then
        echo "$mirror"
        return
    fi
    # Both apt formats: "deb [options] URI suite main" and "URIs: URI".
    # A mirror of anything else (a vendor's, Debian's security archive) does not end in /debian.
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        sed -n -e 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*\) .*/\2/p' -e 's/^URIs: *\([^ ]*\).*/\1/p' |
        grep -E '^https?://.*/debian/?$' | head -n 1 | grep . || echo http://deb.debian.org/debian
}

# apt's sources for the guest, one line each, on stdout.
apt_sources() {
    uri=$(find_mirror)
    uri=${uri%/}
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite-updates main"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${uri%/debian}/debian-security $suite-security main"
}

# Runs mmdebstrap. Its chatter goes to a log that is shown only when it fails.
run_mmdebstrap() {
    if ! mmdebstrap "$@" >"$TMPDIR/mmdebstrap.log" 2>&1 </dev/null; then
        tail -n 60 "$TMPDIR/mmdebstrap.log" >&2
        die "mmdebstrap failed; its last lines are above. Is the mirror reachable ($(find_mirror))?"
    fi
}
