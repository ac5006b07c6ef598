# What a person reads when a configuration asks for what is not there.

fails "unknown option: its path, file, and what there is" vm 'The option `services.foo.enable' 'does not exist' 'configuration.nix' 'nginx.virtualHosts.<name>' 'openssh.settings' <<'N'
{ services.foo.enable = true; }
N

fails "unknown option: a near miss" vm 'Did you mean `services.nginx' <<'N'
{ services.ngnix.enable = true; }
N

fails "unknown option: inside a submodule" vm 'users.users.alice.initialPasword' 'Did you mean `users.users.alice.initialPassword' <<'N'
{ users.users.alice = { isNormalUser = true; initialPasword = "test"; }; }
N

fails "unknown option: also behind mkIf" vm 'services.foo.enable' <<'N'
{ lib, ... }: { config = lib.mkIf true { services.foo = { enable = true; }; }; }
N

fails "type: option, file, expected and found" vm '`networking.hostName' 'configuration.nix' 'Expected: string' 'Found: an integer' <<'N'
{ networking.hostName = 5; }
N

fails "type: in a list of ports" vm 'networking.firewall.allowedTCPPorts' 'between 0 and 65535' 'Found: a string' <<'N'
{ networking.firewall.allowedTCPPorts = [ "80" ]; }
N

fails "type: a group is not an option" vm '`services.nginx' 'is a group of options' <<'N'
{ services.nginx = true; }
N

fails "unknown package: with pkgs" vm "'frobnicate'" 'pkgs.frobnicate' 'has no such package' 'cowsay' <<'N'
{ pkgs, ... }: { environment.systemPackages = with pkgs; [ cowsay frobnicate ]; }
N

fails "unknown package: pkgs.name, and a near miss" vm "'cowsai'" 'did you mean cowsay?' <<'N'
{ pkgs, ... }: { environment.systemPackages = [ pkgs.cowsai ]; }
N

fails "packages from source say that they need nixpkgs" vm 'pkgs.stdenv.mkDerivation' 'a real nixpkgs' <<'N'
{ pkgs, ... }: { environment.systemPackages = [ (pkgs.stdenv.mkDerivation { name = "x"; }) ]; }
N

fails "users: neither normal nor system" vm 'Exactly one of users.users.alice.isSystemUser' <<'N'
{ users.users.alice = { }; }
N

# warns NAME TEXT < configuration: building the VM prints a warning with TEXT; without a TEXT, none.
warns() {
    config configuration.nix
    wanted "$1" || return 0
    if ! value config.system.build.standin.specFile.drvPath >/dev/null; then bad "$1" "$(head -c 1500 "$work/stderr")"; return; fi
    got=$(grep '^trace: warning' "$work/stderr")
    case $2 in
        "") if [ -z "$got" ]; then ok "$1"; else bad "$1" "$got"; fi ;;
        *) case $got in *"$2"*) ok "$1" ;; *) bad "$1" "no warning with: $2" "got: $got" ;; esac ;;
    esac
}

warns "no effect: options are named, in one line" 'they have no effect in its machines: boot.loader, fileSystems (' <<'N'
{ boot.loader.grub.device = "/dev/sda"; fileSystems."/" = { device = "/dev/sda1"; }; }
N
warns "no effect: a value that only a real nixpkgs has" 'machines: boot.kernelPackages (' <<'N'
{ pkgs, ... }: { boot.kernelPackages = pkgs.linuxPackages_of_nowhere; }
N
warns "no effect: in the variant for VMs" 'machines: virtualisation.writableStore (' <<'N'
{ virtualisation.vmVariant.virtualisation.writableStore = false; }
N
warns "no effect: nothing is said of what acts, nor of what a condition leaves out" "" <<'N'
{ lib, ... }: { imports = [ { config = lib.mkIf false { boot.loader.grub.enable = true; }; } ]; networking.enableIPv6 = false; services.openssh.enable = true; }
N

fails "assertions: those of the variant for VMs hold too" vm 'Failed assertions' 'not in a VM' <<'N'
{ virtualisation.vmVariant.assertions = [ { assertion = false; message = "not in a VM"; } ]; }
N
