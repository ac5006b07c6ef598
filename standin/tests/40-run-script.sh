# bin/run-NAME-vm, with a qemu-system-x86_64 that prints its arguments, one a line, and its process id.

mkdir -p "$work/bin"
cat >"$work/bin/qemu-system-x86_64" <<'Q'
#!/bin/sh
echo "pid $$"
echo "cwd $(pwd)"
for argument; do echo "arg $argument"; done
Q
cat >"$work/bin/qemu-img" <<'Q'
#!/bin/sh
echo "qemu-img $*" >>"$QEMU_IMG_LOG"
for argument; do case $argument in *.qcow2) image=$argument ;; esac; done
: >"$image"
Q
chmod +x "$work/bin/"*

# script < configuration: makes $work/run of the script that the configuration's vm has. Its text is evaluated, not built:
# an image would have to be there.
script() {
    config configuration.nix
    mkdir -p "$work/image" "$work/base" "$work/toplevel"
    echo 1024 >"$work/image/size"
    echo "loglevel=4" >"$work/toplevel/kernel-params"
    eval nix-instantiate --eval --strict --json $nix -I nixpkgs="$nixpkgs" -I nixos-config="$work/configuration.nix" \
        -E "'(import <nixpkgs/nixos> { }).config.system.build.standin.scriptFor \"$work\"'" >"$work/script.json" 2>"$work/stderr" || return 1
    python3 -c 'import json, sys; print(json.load(sys.stdin), end="")' <"$work/script.json" >"$work/run"
    # The fake one goes before the script's own PATH.
    sed -i "s|^export PATH=|export PATH=$work/bin:|" "$work/run"
}

# run [VARIABLE=VALUE...] [-- ARGUMENT...]: the output is in $work/out.
run() {
    rm -rf "$work/caller" "$work/img.log"
    mkdir "$work/caller"
    (
        cd "$work/caller" || exit 1
        unset TMPDIR USE_TMPDIR NIX_DISK_IMAGE SHARED_DIR QEMU_OPTS QEMU_NET_OPTS QEMU_KERNEL_PARAMS
        export QEMU_IMG_LOG="$work/img.log"
        while [ $# -gt 0 ] && [ "$1" != -- ]; do
            export "$1"
            shift
        done
        [ $# -eq 0 ] || shift
        echo "shell $(exec sh -c 'echo $PPID')"
        exec sh "$work/run" "$@"
    ) >"$work/out" 2>&1
}

# says NAME TEXT: the last run's output has this line.
says() {
    wanted "$1" || return 0
    if grep -qxF -- "$2" "$work/out"; then ok "$1"; else bad "$1" "no line '$2' in:" "$(cat "$work/out")"; fi
}
check() {
    wanted "$1" || return 0
    name=$1
    shift
    if "$@"; then ok "$name"; else bad "$name" "$*" "$(cat "$work/out")"; fi
}

if script <<'N'
{ lib, ... }: {
  networking.hostName = "web";
  virtualisation.memorySize = 512;
  virtualisation.vmVariant = { virtualisation.memorySize = lib.mkForce 2048; virtualisation.cores = 3; virtualisation.graphics = false; };
  virtualisation.forwardPorts = [ { from = "host"; host.port = 8080; guest.port = 80; } { from = "host"; proto = "udp"; host.address = "127.0.0.1"; host.port = 53; guest.port = 53; } ];
  virtualisation.qemu.options = [ "-device foo,bar=1" ];
  boot.kernelParams = [ "mine=1" ];
}
N
then
    run
    says "run script: vmVariant is merged in" "arg 2048"
    says "run script: cores" "arg 3"
    says "run script: name" "arg web"
    says "run script: forwardPorts" "arg user,id=user.0,hostfwd=tcp::8080-:80,hostfwd=udp:127.0.0.1:53-:53"
    says "run script: qemu.options are words" "arg foo,bar=1"
    says "run script: graphics = false is -nographic" "arg -nographic"
    says "run script: machine" "arg accel=kvm:tcg"
    check "run script: the image is in the caller's folder" test -e "$work/caller/web.qcow2"
    check "run script: the image is a layer" grep -q -- "-b $work/image/root.qcow2 -F qcow2 $work/caller/web.qcow2 1024M" "$work/img.log"
    check "run script: consoles in NixOS's order" grep -q "console=tty0 console=ttyS0,115200n8 $" "$work/out"
    check "run script: execs, so the pid is QEMU's" sh -c "[ \"\$(sed -n 's/^shell //p' '$work/out')\" = \"\$(sed -n 's/^pid //p' '$work/out')\" ]"

    run NIX_DISK_IMAGE="$work/elsewhere.qcow2"
    check "run script: NIX_DISK_IMAGE" test -e "$work/elsewhere.qcow2"
    check "run script: nothing in the caller's folder then" sh -c "[ -z \"\$(ls '$work/caller')\" ]"
    run NIX_DISK_IMAGE="$work/elsewhere.qcow2"
    check "run script: an existing image is used again" test ! -e "$work/img.log"

    mkdir -p "$work/tmp"
    run TMPDIR="$work/tmp" USE_TMPDIR=1
    says "run script: TMPDIR with USE_TMPDIR is the working folder" "cwd $work/tmp"
    run TMPDIR="$work/tmp"
    check "run script: TMPDIR alone has a folder made in it" grep -q "^cwd $work/tmp/nix-vm\." "$work/out"

    run QEMU_NET_OPTS="restrict=on"
    says "run script: QEMU_NET_OPTS" "arg user,id=user.0,hostfwd=tcp::8080-:80,hostfwd=udp:127.0.0.1:53-:53,restrict=on"
    run QEMU_KERNEL_PARAMS="console=ttyS0 extra"
    check "run script: QEMU_KERNEL_PARAMS ends the kernel line" grep -q "^arg loglevel=4 init=.* console=ttyS0 extra$" "$work/out"
    run QEMU_OPTS="-machine accel=tcg" -- -last one
    check "run script: QEMU_OPTS are words, before the arguments" sh -c "tail -n 4 '$work/out' | tr '\n' ' ' | grep -qx 'arg -machine arg accel=tcg arg -last arg one '"
    run SHARED_DIR="$work/tmp"
    says "run script: SHARED_DIR" "arg local,path=$work/tmp,security_model=none,mount_tag=shared"
    run
    check "run script: no share unless asked" sh -c "! grep -q virtfs '$work/out'"
    run NIXPKGS_QEMU_KERNEL_web=/other/kernel
    says "run script: NIXPKGS_QEMU_KERNEL_<name>" "arg /other/kernel"
else
    bad "run script: is evaluated" "$(head -n 20 "$work/stderr")"
fi
