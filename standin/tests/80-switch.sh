# bin/switch-to-configuration with a fake root and a systemctl that notes its calls: what becomes of units, and what is said.
# The pairs of units are written here; no image is built and no machine boots.

switch=$here/../nixpkgs/nixos/image/switch

# new_root: today is $work/root, tomorrow $work/next. `unit NAME < TEXT` is both sides; `today NAME` and `next NAME` are one.
new_root() {
    rm -rf "$work/root" "$work/next"
    mkdir -p "$work/root/etc/systemd/system" "$work/root/run/nixos" "$work/root/base" "$work/root/packages/cowsay" "$work/root/bin" \
        "$work/next/etc/systemd/system" "$work/next/switch" "$work/next/bin"
    echo ID=debian >"$work/root/etc/os-release"
    echo cowsay >"$work/next/debian-packages"
    echo "logind.service" >"$work/next/switch/base-units"
    echo /bin/true >"$work/next/switch/install-boot-loader"
    mkdir "$work/root/run/current-system"
    printf 'systemd 2' | tee "$work/next/init-interface-version" >"$work/root/run/current-system/init-interface-version"
    cp "$switch/units.pl" "$work/next/switch/"
    printf '#!/bin/sh\n' | tee "$work/next/switch/pre-switch-checks" "$work/next/activate" "$work/next/dry-activate" >/dev/null
    chmod +x "$work/next/switch/pre-switch-checks" "$work/next/activate" "$work/next/dry-activate"
    echo "init.scope loaded active running x" >"$work/active"
    : >"$work/calls"
    : >"$work/active-later"
    sed -e "s|'@out@'|'$work/next'|" -e "s|^my \$etc = .*|my \$etc = '$work/root/etc';|" -e "s|^my \$run = .*|my \$run = '$work/root/run/nixos';|" \
        -e "s|^my \$current = .*|my \$current = '$work/root/run/current-system';|" -e "s|^my \$base_units = .*|my \$base_units = '$work/root/base';|" \
        -e "s|^my \$packages = .*|my \$packages = '$work/root/packages';|" -e "s|^my \$programs = .*|my \$programs = '$work/root/bin';|" \
        -e "s|^my \$is_root = .*|my \$is_root = 1;|" -e 's|"/dev/log"|"/nowhere"|' "$switch/switch-to-configuration.pl" >"$work/next/bin/switch-to-configuration"
    # The units that are active: those of $work/active, and once something was started those of $work/active-later as well.
    cat >"$work/root/bin/systemctl" <<S
#!/bin/sh
case \$1 in
    list-units) cat "$work/active"; if grep -q '^start' "$work/calls"; then cat "$work/active-later"; fi ;;
    is-system-running) ;;
    --quiet) grep -q "^\$4 " "$work/active" ;;
    show) echo 1 ;;
    status) shift 3; echo "status of \$*" ;;
    *) echo "\$*" >>"$work/calls"
        if [ -e "$work/says-\$1" ]; then cat "$work/says-\$1" >&2; exit 1; fi ;;
esac
S
    printf '#!/bin/sh\necho "1000 alice"\n' >"$work/root/bin/loginctl"
    printf '#!/bin/sh\n' >"$work/root/bin/sync"
    chmod +x "$work/root/bin/"*
    rm -f "$work"/says-*
}
today() { active "$1"; cat >"$work/root/etc/systemd/system/$1"; }
next() { cat >"$work/next/etc/systemd/system/$1"; }
active() { echo "$1 loaded active running Something" >>"$work/active"; }
# unit NAME TODAY TOMORROW: an active unit, "\n" for lines.
unit() {
    active "$1"
    printf "$2" >"$work/root/etc/systemd/system/$1"
    printf "$3" >"$work/next/etc/systemd/system/$1"
}
# does NAME ACTION STATUS [OUTPUT]: both streams.
does() {
    wanted "$1" || return 0
    said=$(perl "$work/next/bin/switch-to-configuration" "$2" 2>&1)
    got=$?
    if [ $got != "$3" ]; then bad "$1" "status $got and not $3" "$said"
    elif [ $# -ge 4 ] && [ "$said" != "$4" ]; then bad "$1" "expected: $4" "got:      $said"
    else ok "$1"; fi
}
# becomes NAME WHAT: what a dry run says about the unit x.service, which is "Service" and lines of it on both sides.
becomes() {
    name=$1 what=$2
    case $what in
        nothing) lines="would activate the configuration..." ;;
        stop) lines="would stop the following units: ${5:-x.service}
would activate the configuration..." ;;
        stop-start) lines="would stop the following units: ${5:-x.service}
would activate the configuration...
would start the following units: ${6:-${5:-x.service}}" ;;
        skip) lines="would NOT stop the following changed units: ${5:-x.service}
would activate the configuration..." ;;
        *) lines="would activate the configuration...
would $what the following units: ${5:-x.service}" ;;
    esac
    new_root
    unit "${7:-x.service}" "$3" "$4"
    does "switch: $name" dry-activate 0 "$lines"
}

s='[Unit]\nDescription=x\n[Service]\nExecStart=/a\n'
becomes "an equal unit is left alone" nothing "$s" "$s"
becomes "another description is no difference" nothing "$s" '[Unit]\nDescription=y\nDocumentation=man:y\n[Service]\nExecStart=/a\n'
becomes "[Install] is no difference" nothing "$s" "$s"'[Install]\nWantedBy=multi-user.target\n'
becomes "comments, blanks and continued lines are no difference" nothing "$s" '# x\n[Unit]\nDescription = x\n\n;y\n[Service]\nExecStart=\\\n/a\n'
becomes "a changed unit is stopped before and started after" stop-start "$s" '[Service]\nExecStart=/b\n'
becomes "a new key counts" stop-start "$s" "$s"'User=u\n'
becomes "a lost key counts" stop-start "$s"'User=u\n' "$s"
becomes "a new section counts" stop-start "$s" "$s"'[Other]\n'
becomes "the order of values counts" stop-start "$s"'After=a\nAfter=b\n' "$s"'After=b\nAfter=a\n'
becomes "an empty value takes back those before it" nothing "$s" '[Service]\nExecStart=/z\nExecStart=\nExecStart=/a\n'
becomes "restart triggers" stop-start '[Unit]\nX-Restart-Triggers=/1\n' '[Unit]\nX-Restart-Triggers=/2\n'
becomes "reload triggers" reload '[Unit]\nX-Reload-Triggers=/1\n' '[Unit]\nX-Reload-Triggers=/2\n'
becomes "reload triggers that are new" reload "$s" "$s"'[Unit]\nX-Reload-Triggers=/2\n'
becomes "reload triggers that are gone" nothing "$s"'[Unit]\nX-Reload-Triggers=/2\n' "$s"
becomes "another ExecReload" reload "$s"'ExecReload=/a\n' "$s"'ExecReload=/b\n'
becomes "reloadIfChanged" reload "$s" '[Service]\nExecStart=/b\nX-ReloadIfChanged=true\n'
becomes "restartIfChanged = false" skip "$s" '[Service]\nExecStart=/b\nX-RestartIfChanged=false\n'
becomes "RefuseManualStop" skip "$s" '[Unit]\nRefuseManualStop=true\n[Service]\nExecStart=/b\n'
becomes "X-OnlyManualStart" skip "$s" '[Unit]\nX-OnlyManualStart=yes\n[Service]\nExecStart=/b\n'
becomes "stopIfChanged = false" restart "$s" '[Service]\nExecStart=/b\nX-StopIfChanged=false\n'
becomes "a timer is restarted" restart '[Timer]\nOnCalendar=daily\n' '[Timer]\nOnCalendar=weekly\n' x.timer "" x.timer
becomes "a slice never is" nothing '[Slice]\nMemoryMax=1\n' '[Slice]\nMemoryMax=2\n' x.slice "" x.slice
becomes "a path never is" nothing '[Path]\nPathExists=/a\n' '[Path]\nPathExists=/b\n' x.path "" x.path
becomes "a socket alone never is" nothing '[Socket]\nListenStream=1\n' '[Socket]\nListenStream=2\n' x.socket "" x.socket
becomes "a mount with other options is reloaded" reload '[Mount]\nWhat=a\nOptions=rw\n' '[Mount]\nWhat=a\nOptions=ro\n' x.mount "" x.mount
becomes "a mount of something else is restarted" restart '[Mount]\nWhat=a\n' '[Mount]\nWhat=b\n' x.mount "" x.mount
becomes "the root is never unmounted" reload '[Mount]\nWhat=a\n' '[Mount]\nWhat=b\n' -.mount "" -.mount
becomes "the bus is never restarted" nothing "$s" '[Service]\nExecStart=/b\n' dbus.service "" dbus.service
becomes "an instance is compared by its template" nothing "$s" "$s" x@1.service "" x@1.service

new_root
today gone.service <<'U'
[Service]
ExecStart=/a
U
today kept.service <<'U'
[Unit]
X-StopOnRemoval=false
U
today masked.service </dev/null
ln -s /dev/null "$work/next/etc/systemd/system/masked.service"
active transient.service
does "switch: what is gone or masked is stopped, and a transient unit is left alone" dry-activate 0 "would stop the following units: gone.service, masked.service
would activate the configuration..."

new_root
active logind.service
active other.service
echo '[Service]' | tee "$work/root/base/logind.service" >"$work/root/base/other.service"
mkdir "$work/next/etc/systemd/system/logind.service.d"
printf '[Service]\nNice=1\n' >"$work/next/etc/systemd/system/logind.service.d/overrides.conf"
does "switch: a base unit that gets a drop-in has changed" dry-activate 0 "would stop the following units: logind.service
would activate the configuration...
would start the following units: logind.service"

new_root
active getty@tty1.service
for side in root next; do
    printf '[Service]\nExecStart=/a\n' >"$work/$side/etc/systemd/system/getty@.service"
done
mkdir "$work/next/etc/systemd/system/getty@tty1.service.d"
printf '[Service]\nX-RestartIfChanged=false\nNice=1\n' >"$work/next/etc/systemd/system/getty@tty1.service.d/x.conf"
does "switch: an instance has drop-ins of its own" dry-activate 0 "would NOT stop the following changed units: getty@tty1.service
would activate the configuration..."

with_socket() {
    new_root
    unit x.service '[Service]\nExecStart=/a\n' "[Service]\\nExecStart=/b\\n$1"
    unit x.socket '[Socket]\nListenStream=1\n' '[Socket]\nListenStream=1\n'
}
with_socket ''
does "switch: the socket of a service is cycled in its stead" dry-activate 0 "would stop the following units: x.service, x.socket
would activate the configuration...
would start the following units: x.socket"
with_socket 'X-NotSocketActivated=true\n'
does "switch: notSocketActivated" dry-activate 0 "would stop the following units: x.service
would activate the configuration...
would start the following units: x.service"

# --- fstab.

fstab() { printf "$1" >"$work/root/etc/fstab"; printf "$2" >"$work/next/etc/fstab"; }
new_root
fstab '# /dev/no /no ext4\n/dev/a / ext4 defaults\n/dev/b /gone ext4 defaults\n/dev/c /var/lib/moved-to ext4 defaults\n/dev/d /options ext4 rw\n/dev/e /same ext4 x\n/dev/f swap swap x\n' \
    '/dev/z / ext4 defaults\n/dev/x /var/lib/moved-to ext4 defaults\n/dev/d /options ext4 ro\n/dev/e /same ext4 x\n/dev/n /new ext4 x\n'
does "switch: fstab, gone, moved, other options; the root stays" dry-activate 0 "would stop the following units: gone.mount
would NOT stop the following changed units: -.mount
would activate the configuration...
would reload the following units: options.mount
would restart the following units: var-lib-moved\\x2dto.mount"

printf '#!/bin/sh\ncat "%s"/re*-list >"%s"\n' "$work/root/run/nixos" "$work/lists" >"$work/next/activate"
perl "$work/next/bin/switch-to-configuration" test >/dev/null 2>&1
check "switch: the lists have mounts, too" sh -c "grep -qx options.mount '$work/lists' && grep -q ^var-lib-moved '$work/lists'"

# --- A switch: the order, the lists, what failed.

calls() {
    wanted "$1" || return 0
    got=$(cat "$work/calls")
    if [ "$got" = "$2" ]; then ok "$1"; else bad "$1" "expected: $2" "got:      $got"; fi
}
every_kind() {
    new_root
    unit stops.service '[Service]\nA=1\n' '[Service]\nA=2\n'
    unit late.service '[Service]\nA=1\n' '[Service]\nA=2\nX-StopIfChanged=false\n'
    unit reloads.service '[Service]\nA=1\n' '[Service]\nA=2\nX-ReloadIfChanged=true\n'
    unit skipped.service '[Service]\nA=1\n' '[Service]\nA=2\nX-RestartIfChanged=false\n'
    unit multi-user.target '[Unit]\n' '[Unit]\n'
    echo one >"$work/root/etc/systemd/system.conf"
    mkdir -p "$work/next/etc/systemd"
    echo two >"$work/next/etc/systemd/system.conf"
}
every_kind
echo "fresh.service loaded active running x" >"$work/active-later"
echo "run.scope loaded active running x" >>"$work/active-later"
cat >"$work/next/activate" <<A
#!/bin/sh
echo "activate \$1 \$NIXOS_ACTION" >>"$work/calls"
cat "$work/root/run/nixos/start-list" "$work/root/run/nixos/restart-list" "$work/root/run/nixos/reload-list" >"$work/lists"
echo stops.service >"$work/root/run/nixos/activation-reload-list"
echo asked.service >"$work/root/run/nixos/activation-restart-list"
A
does "switch: every kind at once" test 0 "stopping the following units: stops.service
NOT restarting the following changed units: skipped.service
activating the configuration...
restarting systemd...
reloading user units for alice...
restarting sysinit-reactivation.target
reloading the following units: reloads.service
restarting the following units: late.service
starting the following units: asked.service, stops.service
the following new units were started: fresh.service"
calls "switch: the order of what is done" "stop -- stops.service
activate $work/next test
daemon-reexec
reset-failed
daemon-reload
restart -- sysinit-reactivation.target
reload -- reloads.service
restart -- late.service
start -- asked.service multi-user.target stops.service"
check "switch: the lists have what an interrupted switch leaves" sh -c "[ \"\$(cat '$work/lists' | sort | tr '\n' ' ')\" = 'late.service multi-user.target reloads.service stops.service ' ]"
check "switch: the lists are gone at the end" sh -c "[ \"\$(ls '$work/root/run/nixos')\" = switch-to-configuration.lock ]"

every_kind
echo left.service >"$work/root/run/nixos/start-list"
does "switch: a dry run names what an interrupted switch left" dry-activate 0 "would stop the following units: stops.service
would NOT stop the following changed units: skipped.service
would activate the configuration...
would restart systemd
would reload the following units: reloads.service
would restart the following units: late.service
would start the following units: left.service, stops.service"
calls "switch: a dry run does nothing" ""

new_root
does "switch: without a difference nothing is disturbed" switch 0 "activating the configuration...
reloading user units for alice...
restarting sysinit-reactivation.target"

new_root
printf '#!/bin/sh\nexit 1\n' >"$work/next/activate"
does "switch: a failed activation is status 2, and the rest is done" test 2 "activating the configuration...
Failed to run activate script
reloading user units for alice...
restarting sysinit-reactivation.target"

new_root
printf '#!/bin/sh\nexit 1\n' >"$work/next/activate"
echo "broken.service loaded failed failed x" >"$work/active-later"
echo "again.service loaded activating auto-restart x" >>"$work/active-later"
unit multi-user.target '[Unit]\n' '[Unit]\n'
does "switch: failed units are status 4, also after a failed activation" test 4 "activating the configuration...
Failed to run activate script
reloading user units for alice...
restarting sysinit-reactivation.target
warning: the following units failed: again.service, broken.service
status of again.service broken.service"

new_root
unit x.service '[Service]\nA=1\n' '[Service]\nA=2\nX-StopIfChanged=false\n'
printf 'Job for x.service failed because the control process exited with error code.\nSee "systemctl status x.service" for details.\n' >"$work/says-restart"
does "switch: a job that fails is named and is status 4" test 4 "activating the configuration...
reloading user units for alice...
restarting sysinit-reactivation.target
restarting the following units: x.service
Failed to restart x.service
Failed to restart x.service"

new_root
echo "other words" >"$work/says-reload"
unit x.service '[Service]\nA=1\n' '[Service]\nA=2\nX-ReloadIfChanged=true\n'
does "switch: any other failure of a job is status 4" test 4

# --- What refuses.

new_root
echo "figlet" >>"$work/next/debian-packages"
does "switch: a package that the image lacks is named" switch 1 "standin: the new system needs packages that this machine's disk image does not have: figlet
standin: build the running configuration with them: standin.alsoPackagesOf (standin/README.md)"

new_root
printf '#!/bin/sh\necho "asked $1 $2" >&2\nexit 3\n' >"$work/next/switch/pre-switch-checks"
does "switch: a pre-switch check refuses" check 1 "asked $work/next check
Pre-switch checks failed"
NIXOS_NO_CHECK=1 does "switch: NIXOS_NO_CHECK" check 0 ""

new_root
printf '#!/bin/sh\necho "loader $*"; exit 5\n' >"$work/loader"
chmod +x "$work/loader"
echo "$work/loader word" >"$work/next/switch/install-boot-loader"
does "switch: a boot loader that fails ends it before anything is compared" boot 1 "loader word $work/next
Failed to install bootloader"
does "switch: test installs no boot loader" test 0

new_root
printf 'systemd 3' >"$work/next/init-interface-version"
does "switch: another init interface is status 100" test 100 "Warning: the new NixOS configuration has an ‘init’ that is
incompatible with the current configuration.  The new configuration
won't take effect until you reboot the system."
does "switch: boot does not mind" boot 0 ""

new_root
does "switch: an unknown action" upgrade 1
if wanted "switch: a lock that is held is status 11"; then
    flock "$work/root/run/nixos/switch-to-configuration.lock" true
    # One that waits would wait for this one.
    said=$(flock "$work/root/run/nixos/switch-to-configuration.lock" timeout 60 perl "$work/next/bin/switch-to-configuration" test 2>&1)
    got=$?
    if [ $got = 11 ] && [ "$said" = "Could not acquire lock" ]; then ok "switch: a lock that is held is status 11"
    else bad "switch: a lock that is held is status 11" "status $got" "$said"; fi
fi

# --- Which stream.

new_root
printf '#!/bin/sh\necho out\n' >"$work/next/activate"
if wanted "switch: its own lines are on stderr"; then
    said=$(perl "$work/next/bin/switch-to-configuration" test 2>/dev/null)
    if [ "$said" = out ]; then ok "switch: its own lines are on stderr"; else bad "switch: its own lines are on stderr" "stdout: $said"; fi
fi

# --- Inhibitors.

inhibitors() {
    wanted "$1" || return 0
    mkdir -p "$work/old-system" "$work/new-system"
    echo "$2" >"$work/old-system/switch-inhibitors"
    echo "$3" >"$work/new-system/switch-inhibitors"
    sed "s|/run/current-system|$work/old-system|" "$switch/inhibitors.pl" >"$work/inhibitors.pl"
    said=$(perl "$work/inhibitors.pl" "$work/new-system" "$4")
    got=$?
    case $got:$said in "$5"*) ok "$1" ;; *) bad "$1" "$got:$said" ;; esac
}
inhibitors "inhibitors: a component that differs" '{"dbus-implementation":"dbus","a":"b"}' '{"dbus-implementation":"broker","a":"b"}' switch "1:Checking switch inhibitors...
There are changes to critical components of the system:

dbus-implementation : dbus -> broker

Switching"
inhibitors "inhibitors: one that only one side names" '{"a":"b"}' '{"c":"d"}' test "0:Checking switch inhibitors... done"
inhibitors "inhibitors: not for boot" '{"a":"b"}' '{"a":"c"}' boot "0:Not checking switch inhibitors (action = boot)"

# --- What the options say about it.

spec=config.standin.spec
has "units: restartIfChanged, stopIfChanged, notSocketActivated" config.standin.spec.units 'X-NotSocketActivated=true\nX-RestartIfChanged=false\nX-StopIfChanged=false\n' <<'N'
{ systemd.services.x = { restartIfChanged = false; stopIfChanged = false; notSocketActivated = true; serviceConfig.ExecStart = "/a"; }; }
N
has "units: reloadIfChanged goes before restartIfChanged" config.standin.spec.units 'ExecStart=/a\nX-ReloadIfChanged=true\n\n' <<'N'
{ systemd.services.x = { restartIfChanged = false; reloadIfChanged = true; serviceConfig.ExecStart = "/a"; }; }
N
has "units: X-… keys by hand" config.standin.spec.units '[Unit]\nX-OnlyManualStart=true\nX-StopOnRemoval=false\n' <<'N'
{ systemd.services.x = { unitConfig = { X-OnlyManualStart = true; X-StopOnRemoval = false; }; serviceConfig.ExecStart = "/a"; }; }
N
is "specialisation: it has the configuration that it is one of" "$spec.specialisations.a.label" '"23.11 (stand-in, Debian 12)"' <<'N'
{ system.stateVersion = "23.11"; system.activationScripts.x = "echo"; specialisation.a.configuration.system.activationScripts.y = "echo"; }
N
is "specialisation: its own beside the inherited ones" "$spec.specialisations.a.activationScripts" '[{"name":"x","supportsDryActivation":false,"text":"1"},{"name":"y","supportsDryActivation":false,"text":"2"}]' <<'N'
{ system.activationScripts.x = "1"; specialisation.a.configuration.system.activationScripts.y = "2"; }
N
is "specialisation: nothing is inherited, where that is asked" "$spec.specialisations.a.activationScripts" '[{"name":"y","supportsDryActivation":false,"text":"2"}]' <<'N'
{ system.activationScripts.x = "1"; specialisation.a = { inheritParentConfig = false; configuration.system.activationScripts.y = "2"; }; }
N
is "specialisation: it has none itself" "$spec.specialisations.a.specialisations" '{}' <<'N'
{ specialisation.a.configuration = { }; specialisation.b.configuration = { }; }
N
fails "specialisation: its assertions hold too" vm "specialisation.a: no" <<'N'
{ specialisation.a.configuration.assertions = [ { assertion = false; message = "no"; } ]; }
N
has "boot loader: the installer is the configuration's" "$spec.installBootLoader" '-install"' <<'N'
{ pkgs, ... }: { system.build.installBootLoader = pkgs.writeScript "install" "#!/bin/sh"; }
N
is "boot loader: none by default, and quiet" "$spec.installBootLoader" '"/bin/true"' <<'N'
{ }
N
has "fstab: file systems of the VM" config.environment.etc.fstab.text '/dev/disk/by-label/nixos / ext4 x-initrd.mount,defaults 0 0\n/dev/vdb /data ext4 noatime,ro 0 2\n/dev/disk/by-label/more\\040room /more auto defaults 0 0\n' <<'N'
{ virtualisation.fileSystems = { "/data" = { device = "/dev/vdb"; fsType = "ext4"; options = [ "noatime" "ro" ]; }; "/more" = { label = "more room"; noCheck = true; }; }; }
N
fails "fstab: the store is the stand-in's own" vm 'virtualisation.fileSystems."/nix/store": the stand-in mounts that itself' <<'N'
{ virtualisation.fileSystems."/nix/store" = { device = "x"; }; }
N
config other.nix <<'N'
{ pkgs, ... }: { environment.systemPackages = [ pkgs.figlet ]; virtualisation.vmVariant.environment.systemPackages = [ pkgs.cowsay ]; }
N
# The key of the image: its derivation is evaluated, not built.
image_of() {
    config configuration.nix
    eval nix-instantiate $nix "'<nixpkgs/nixos>'" -A config.system.build.standin.image -I nixpkgs="$nixpkgs" -I nixos-config="$work/configuration.nix" 2>"$work/stderr" |
        sed 's/!.*//' | xargs -r nix-store -q --binding groups 2>>"$work/stderr"
}
if wanted "packages: those of another configuration are in the image"; then
    got=$(image_of <<'N'
{ pkgs, ... }: { environment.systemPackages = [ pkgs.lolcat ]; standin.alsoPackagesOf = [ ./other.nix ]; }
N
    )
    if [ "$got" = "cowsay figlet lolcat" ]; then ok "packages: those of another configuration are in the image"
    else bad "packages: those of another configuration are in the image" "got: $got" "$(tail -n 8 "$work/stderr")"; fi
fi

# --- Generations.

if wanted "generations: set, rollback, list"; then
    mkdir -p "$work/profiles"
    first=$(readlink -f "$(eval nix-instantiate --eval --strict --read-write-mode $nix -E "'builtins.toFile \"first\" \"1\"'" | tr -d '"')")
    second=$(readlink -f "$(eval nix-instantiate --eval --strict --read-write-mode $nix -E "'builtins.toFile \"second\" \"2\"'" | tr -d '"')")
    generations() { perl "$switch/nix-env.pl" -p "$work/profiles/system" "$@" 2>&1 | sed 's/20..-..-.. ..:..:../DATE/'; }
    got=$(
        generations --set "$first"
        generations --set "$second"
        generations --set "$second"
        generations --rollback
        generations --rollback
        generations --list-generations
        generations --switch-generation 2
        generations --set "$work/profiles"
        generations --delete-generations 1
        generations --install x
        readlink "$work/profiles/system"
    )
    expected="switching profile from version 2 to 1
error: no generation older than the current (1) exists
   1   DATE   (current)
   2   DATE   
switching profile from version 1 to 2
error: path '$work/profiles' is not valid
error: the stand-in's nix-env knows generations only, and not \`--install'
system-2-link"
    if [ "$got" = "$expected" ]; then ok "generations: set, rollback, list"; else bad "generations: set, rollback, list" "expected: $expected" "got:      $got"; fi
fi
