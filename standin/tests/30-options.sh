# What options turn into.

etc='config.environment.etc'

is "the tutorial's configuration" config.users.users.alice.home '"/home/alice"' <"$here/../../configuration.nix"

is "sudo: wheel needs a password" 'config.security.sudo.wheelNeedsPassword' 'true' <<'N'
{ }
N

is "a module that is asked for by name is not kept from loading" config.boot.blacklistedKernelModules '["ata_piix","ata_generic","pcspkr","psmouse","floppy"]' <<'N'
{ boot.kernelModules = [ "bochs" ]; boot.blacklistedKernelModules = [ "floppy" ]; }
N

has() {
    config configuration.nix
    wanted "$1" || return 0
    got=$(value "$2")
    case $got in
        *"$3"*) ok "$1" ;;
        *) bad "$1" "expected in it: $3" "got: $got" "$(grep -v '^warning' "$work/stderr" | head -n 12)" ;;
    esac
}

has "sudo: without a password" "$etc.sudoers.text" '%wheel ALL=(ALL:ALL) NOPASSWD:SETENV: ALL' <<'N'
{ security.sudo.wheelNeedsPassword = false; }
N

has "greeting: as NixOS's, and honest" "$etc.issue.text" '"\n<<< Welcome to NixOS 23.11 (stand-in, Debian 12) (\\m) - \\l >>>\n\nRun '"'"'nixos-help'"'"' for the NixOS manual.\n\n"' <<'N'
{ system.stateVersion = "23.11"; }
N

has "prompt: NixOS's escapes" "$etc.bashrc.text" '\\n\\[\\033[$PROMPT_COLOR\\][\\[\\e]0;\\u@\\h: \\w\\a\\]\\u@\\h:\\w]\\\\$\\[\\033[0m\\] ' <<'N'
{ }
N

has "sshd: settings" "$etc.\"ssh/sshd_config\".text" 'PasswordAuthentication no\n' <<'N'
{ services.openssh.enable = true; services.openssh.settings.PasswordAuthentication = false; }
N

is "sshd: opens the firewall" config.networking.firewall.allowedTCPPorts '[2222]' <<'N'
{ services.openssh = { enable = true; ports = [ 2222 ]; }; }
N

has "sshd: authorized keys" config.standin.spec.etc 'ssh-ed25519 AAAA' <<'N'
{ users.users.alice = { isNormalUser = true; openssh.authorizedKeys.keys = [ "ssh-ed25519 AAAA alice" ]; }; }
N

unit() { echo "config.standin.spec.units"; }

has "systemd: lists are lines, booleans words" "$(unit)" 'Environment=\"A=b c\"' <<'N'
{ systemd.services.x = { environment.A = "b c"; serviceConfig = { ExecStart = "/bin/true"; RemainAfterExit = true; }; }; }
N
has "systemd: repeated lines" "$(unit)" 'ExecStartPre=/bin/a\nExecStartPre=/bin/b\n' <<'N'
{ systemd.services.x.serviceConfig = { ExecStart = "/bin/true"; ExecStartPre = [ "/bin/a" "/bin/b" ]; }; }
N
has "systemd: after, requires, wants, before" "$(unit)" '[Unit]\nAfter=a.service\nBefore=b.service\nRequires=c.service d.service\nWants=e.service\n' <<'N'
{ systemd.services.x = { after = [ "a.service" ]; before = [ "b.service" ]; requires = [ "c.service" "d.service" ]; wants = [ "e.service" ]; serviceConfig.ExecStart = "/bin/true"; }; }
N
has "systemd: startAt makes a timer" 'config.systemd.timers.x.timerConfig' '{"OnCalendar":"daily"}' <<'N'
{ systemd.services.x = { startAt = "daily"; script = "true"; }; }
N
has "systemd: units of users" 'config.standin.spec.userUnits' '"name":"mine.service"' <<'N'
{ systemd.user.services.mine = { wantedBy = [ "default.target" ]; script = "true"; }; }
N
has "systemd: a script is a path in the store" "$(unit)" 'ExecStart=/nix/store/' <<'N'
{ systemd.services.x.script = "true"; }
N

is "packages: a path that the machine has" config.networking.extraHosts '"yes"' <<'N'
{ pkgs, lib, ... }: { networking.extraHosts = if builtins.match "/nix/store/.*-curl-debian/bin/curl" (lib.getExe pkgs.curl) != null then "yes" else "no"; }
N
