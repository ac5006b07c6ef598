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

# --- What an option of a group does, beside those above.

spec=config.standin.spec
has "sudo: execWheelOnly reaches the activation" "$spec.sudoForWheelOnly" 'true' <<'N'
{ security.sudo.execWheelOnly = true; }
N
fails "sudo: execWheelOnly, and a rule for somebody else" vm "refer to users other than 'root'" <<'N'
{ security.sudo = { execWheelOnly = true; extraRules = [ { users = [ "bob" ]; commands = [ "ALL" ]; } ]; }; }
N
has "IPv6: off by sysctl" "$spec.etc" 'net.ipv6.conf.all.disable_ipv6=1' <<'N'
{ networking.enableIPv6 = false; }
N
fails "host id: eight digits of sixteen" vm 'networking.hostId' '[0-9a-f]{8}' <<'N'
{ networking.hostId = "1234"; }
N
# The file itself: made by the builder, which costs a moment.
if wanted "host id: as this processor has it in memory"; then
    config configuration.nix <<'N'
{ networking.hostId = "007f0101"; }
N
    built=$(eval nix-build --no-out-link $nix "'<nixpkgs/nixos>'" -A config.environment.etc.hostid.source \
        -I nixpkgs="$nixpkgs" -I nixos-config="$work/configuration.nix" 2>"$work/stderr")
    got=$(od -An -tx1 "$built" | tr -d ' ')
    if [ "$got" = 01017f00 ]; then ok "host id: as this processor has it in memory"; else bad "host id: as this processor has it in memory" "got: $got" "$(tail -n 5 "$work/stderr")"; fi
fi
has "nano: nanorc" "$etc.nanorc.text" 'set tabsize 4' <<'N'
{ programs.nano.nanorc = "set tabsize 4"; }
N
is "vim: the default editor" config.environment.variables.EDITOR '"vim"' <<'N'
{ programs.vim.defaultEditor = true; }
N
is "neovim: the default editor" config.environment.variables.EDITOR '"nvim"' <<'N'
{ programs.neovim = { enable = true; defaultEditor = true; }; }
N
has "neovim: vi and vim are names of it" "$spec.systemPackages" '-vim"' <<'N'
{ programs.neovim = { enable = true; viAlias = true; vimAlias = true; }; }
N
has "zsh: aliases" "$etc.\"zsh/zshrc\".text" "alias -- up='cd ..'" <<'N'
{ programs.zsh = { enable = true; shellAliases.up = "cd .."; }; }
N
has "fish: aliases" "$spec.etc" "alias up 'cd ..'" <<'N'
{ programs.fish = { enable = true; shellAliases.up = "cd .."; }; }
N
is "tags are in the label, sorted" config.system.nixos.label '"blue-red-23.11 (stand-in, Debian 12)"' <<'N'
{ system.nixos.tags = [ "red" "blue" ]; system.stateVersion = "23.11"; }
N
is "activation scripts: each after its deps" "$spec.activationScripts" '[{"name":"c","supportsDryActivation":false,"text":"echo c"},{"name":"b","supportsDryActivation":true,"text":"echo b"},{"name":"a","supportsDryActivation":false,"text":"echo a"}]' <<'N'
{ system.activationScripts = { a = { text = "echo a"; deps = [ "users" "b" ]; }; b = { text = "echo b"; deps = [ "c" ]; supportsDryActivation = true; }; c = "echo c"; }; }
N
fails "activation scripts: in a circle" vm 'a needs b needs a' <<'N'
{ system.activationScripts = { a = { text = ""; deps = [ "b" ]; }; b = { text = ""; deps = [ "a" ]; }; }; }
N
fails "activation scripts: after one that is not there" vm "system.activationScripts.a.deps names \`b'" <<'N'
{ system.activationScripts.a = { text = ""; deps = [ "b" ]; }; }
N
has "emergency mode: off" "$spec.maskedUnits" '"emergency.target"' <<'N'
{ systemd.enableEmergencyMode = false; }
N
has "systemd: what switch-to-configuration reads" "$(unit)" 'ExecStart=/bin/true\nX-RestartIfChanged=false\nX-StopIfChanged=false\n' <<'N'
{ systemd.services.x = { restartTriggers = [ "one" "two" ]; restartIfChanged = false; stopIfChanged = false; serviceConfig.ExecStart = "/bin/true"; }; }
N
has "systemd: triggers of a restart are a file that the unit names" "$(unit)" '-X-Restart-Triggers-x\n\n[Service]' <<'N'
{ systemd.services.x = { restartTriggers = [ "one" "two" ]; serviceConfig.ExecStart = "/bin/true"; }; }
N
has "systemd: the manager of users" "$spec.etc" 'DefaultTimeoutStopSec=3s' <<'N'
{ systemd.user.extraConfig = "DefaultTimeoutStopSec=3s"; }
N
has "subordinate ids: a range of one's own, and those that NixOS gives" "$etc.subuid.text" '"bob:100000:65536\nalice:5000:10\n"' <<'N'
{ users.users = { alice = { isNormalUser = true; subUidRanges = [ { startUid = 5000; count = 10; } ]; }; bob.isNormalUser = true; }; }
N
fails "users: one id for two" vm 'UIDs and GIDs must be unique' <<'N'
{ users.users = { alice = { isNormalUser = true; uid = 1000; }; bob = { isNormalUser = true; uid = 1000; }; }; }
N
fails "users: nobody could log in" vm 'Neither the root account nor any wheel user' <<'N'
{ users.mutableUsers = false; users.users.alice = { isNormalUser = true; extraGroups = [ "wheel" ]; hashedPassword = "!"; }; }
N
fails "users: a shell whose program is not enabled" vm 'users.users.alice.shell is set to zsh, but programs.zsh.enable is not true' <<'N'
{ pkgs, ... }: { users.users.alice = { isNormalUser = true; shell = pkgs.zsh; }; }
N
fails "platform: another processor" vm 'nixpkgs.hostPlatform is aarch64-linux' <<'N'
{ nixpkgs.hostPlatform = "aarch64-linux"; }
N

# nginx_has NAME TEXT|!TEXT... < configuration: the text of nginx.conf, which is a file of the store otherwise, has each
# TEXT and none of those with a "!".
config text.nix <<'N'
{ nixpkgs.overlays = [ (final: prev: { writeText = name: text: text; }) ]; services.nginx.enable = true; }
N
nginx_has() {
    config configuration.nix
    wanted "$1" || return 0
    got=$(value config.systemd.services.nginx.serviceConfig.ExecStart)
    name=$1
    shift
    for text; do
        case $text in
            !*) case $got in *"${text#!}"*) bad "$name" "expected not in it: ${text#!}" "$got"; return ;; esac ;;
            *) case $got in *"$text"*) ;; *) bad "$name" "expected in it: $text" "got: $got" "$(head -c 1500 "$work/stderr")"; return ;; esac ;;
        esac
    done
    ok "$name"
}
nginx_has "nginx: a proxy passes its own headers unless the recommended ones are asked for" 'proxy_pass http://a;' '!X-Forwarded-For' <<'N'
{ imports = [ ./text.nix ]; services.nginx = { enable = true; virtualHosts.a.locations."/".proxyPass = "http://a"; }; }
N
nginx_has "nginx: recommended settings, and a port with TLS" 'proxy_set_header X-Forwarded-Host $host;' 'ssl_session_timeout 1d;' 'listen 127.0.0.1:443 ssl;' <<'N'
{ imports = [ ./text.nix ]; services.nginx = {
  enable = true; recommendedProxySettings = true; recommendedTlsSettings = true;
  virtualHosts.a = { listen = [ { addr = "127.0.0.1"; ssl = true; } ]; locations."/".proxyPass = "http://a"; };
}; }
N
nginx_has "nginx: no address of IPv6 where that is off" 'listen 0.0.0.0:80;' '![::0]' <<'N'
{ imports = [ ./text.nix ]; networking.enableIPv6 = false; services.nginx = { enable = true; virtualHosts.a = { }; }; }
N

is "vmVariant: who reads it gets the whole configuration" config.virtualisation.vmVariant.networking.hostName '"a"' <<'N'
{ networking.hostName = "a"; virtualisation.vmVariant.users.users.alice = { isNormalUser = true; initialPassword = "test"; }; }
N
has "passwords: clear text goes before a hash" "$spec.users" '"password":{"clear":"test"}' <<'N'
{ users.users.alice = { isNormalUser = true; password = "test"; hashedPassword = "!"; initialHashedPassword = "!"; }; }
N

# --- Networks.

network() { echo "$etc.'\"systemd/network/$1\"'.text"; }
has "network: a VLAN on a card" "$(network 40-lan.netdev)" 'Kind=vlan\n[VLAN]\nId=10' <<'N'
{ networking.vlans.lan = { id = 10; interface = "eth1"; }; }
N
has "network: the card knows its VLAN" "$(network 40-eth1.network)" 'DHCP=ipv4\nVLAN=lan\n' <<'N'
{ networking.vlans.lan = { id = 10; interface = "eth1"; }; }
N
has "network: members of a bridge ask for no address" "$(network 40-eth1.network)" 'DHCP=no\nBridge=br0\n' <<'N'
{ networking.bridges.br0.interfaces = [ "eth1" ]; }
N
has "network: a bond" "$(network 40-bond0.netdev)" 'Kind=bond\n[Bond]\nMode=active-backup\nMIIMonitorSec=100ms' <<'N'
{ networking.bonds.bond0 = { interfaces = [ "eth1" "eth2" ]; driverOptions = { mode = "active-backup"; miimon = "100"; }; }; }
N
has "network: addresses and routes of both families" "$(network 40-eth1.network)" 'DHCP=no\nAddress=10.0.0.1/24\nAddress=fd00::1/64\n[Route]\nDestination=10.1.0.0/16\nGateway=10.0.0.9' <<'N'
{ networking.interfaces.eth1 = { ipv6.addresses = [ { address = "fd00::1"; prefixLength = 64; } ]; ipv4 = {
  addresses = [ { address = "10.0.0.1"; prefixLength = 24; } ]; routes = [ { address = "10.1.0.0"; prefixLength = 16; via = "10.0.0.9"; } ];
}; }; }
N
is "network: a card without an address asks for one only where cards do" "$(network 40-eth1.network)" '"[Match]\nName=eth1\n[Link]\n[Network]\nDHCP=no\n"' <<'N'
{ networking.useDHCP = false; networking.interfaces.eth1 = { }; }
N
fails "network: an address of IPv4 with a prefix of IPv6" vm 'networking.interfaces.eth1.ipv4.addresses' 'between 0 and 32' <<'N'
{ networking.interfaces.eth1.ipv4.addresses = [ { address = "10.0.0.1"; prefixLength = 64; } ]; }
N
fails "network: what the stand-in can't do is refused" vm "networking.bridges.br0.rstp" <<'N'
{ networking.bridges.br0 = { interfaces = [ ]; rstp = true; }; }
N
has "network: a default gateway, whose card may have no address yet" "$(unit)" 'network-setup.service' <<'N'
{ networking.defaultGateway = "192.168.1.1"; }
N
fails "nat: forwarded ports of no network" vm 'networking.nat.forwardPorts requires networking.nat.externalInterface' <<'N'
{ networking.nat = { enable = true; forwardPorts = [ { sourcePort = 80; destination = "10.0.0.1:80"; } ]; }; }
N
has "nat: the machine forwards" "$spec.etc" 'net.ipv4.conf.all.forwarding=1' <<'N'
{ networking.nat = { enable = true; internalInterfaces = [ "eth1" ]; }; }
N
fails "keepalived: a script that is not there" vm 'trackscript x is not defined' <<'N'
{ services.keepalived = { enable = true; vrrpInstances.a = { interface = "eth1"; virtualRouterId = 1; trackScripts = [ "x" ]; }; }; }
N

# rules NAME UNIT TEXT... < configuration: the file that a unit of nftables loads has each TEXT.
rules() {
    config configuration.nix
    wanted "$1" || return 0
    name=$1
    got=$(value "config.systemd.services.$2.serviceConfig.ExecStart")
    shift 2
    for text; do
        case $got in *"$text"*) ;; *) bad "$name" "expected in it: $text" "got: $got" "$(head -c 1500 "$work/stderr")"; return ;; esac
    done
    ok "$name"
}
rules "firewall: ports of one card" firewall 'iifname \"eth1\" tcp dport { 80 } accept' 'fib saddr . mark . iif oif exists accept' <<'N'
{ imports = [ ./text.nix ]; networking.firewall.interfaces.eth1.allowedTCPPorts = [ 80 ]; virtualisation.vlans = [ 1 2 ]; }
N
rules "firewall: what is forwarded, with NAT" firewall 'type filter hook forward' 'iifname { \"eth1\" } oifname \"eth2\" accept' <<'N'
{ imports = [ ./text.nix ]; networking.firewall.filterForward = true; networking.nat = { enable = true; internalInterfaces = [ "eth1" ]; externalInterface = "eth2"; }; }
N
rules "nat: of both families, and forwarded ports" nat 'iifname { \"eth1\" } oifname \"eth2\" masquerade' 'table ip6 nixos-nat' 'map { tcp . 8080 : 10.0.0.1 . 80 }' 'map { udp . 60-70 : fd00::2 . 80 }' <<'N'
{ imports = [ ./text.nix ]; networking.nat = { enable = true; enableIPv6 = true; internalInterfaces = [ "eth1" ]; externalInterface = "eth2"; forwardPorts = [
  { sourcePort = 8080; destination = "10.0.0.1:80"; } { sourcePort = "60:70"; destination = "[fd00::2]:80"; proto = "udp"; }
]; }; }
N
rules "keepalived: an address that moves" keepalived 'virtual_router_id 7' 'virtual_ipaddress {\n    192.168.1.100/24 dev eth1' <<'N'
{ imports = [ ./text.nix ]; services.keepalived = { enable = true; vrrpInstances.a = { interface = "eth1"; virtualRouterId = 7; virtualIps = [ { addr = "192.168.1.100/24"; dev = "eth1"; } ]; }; }; }
N
rules "dnsmasq: settings" dnsmasq 'dhcp-range=10.0.0.2,10.0.0.9\n' 'bind-interfaces\n' '# setting `expand-hosts`' <<'N'
{ imports = [ ./text.nix ]; services.dnsmasq = { enable = true; settings = { bind-interfaces = true; expand-hosts = false; dhcp-range = [ "10.0.0.2,10.0.0.9" ]; }; }; }
N
