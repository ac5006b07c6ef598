# The module system: merging, priorities, conditions, imports.

is "merging: lists are appended" config.users.users.alice.extraGroups '["wheel","video"]' <<'N'
{ lib, ... }: { imports = [ { users.users.alice.extraGroups = lib.mkAfter [ "video" ]; } ]; users.users.alice = { isNormalUser = true; extraGroups = [ "wheel" ]; }; }
N

is "merging: mkBefore comes first" config.boot.kernelModules '["a","b"]' <<'N'
{ lib, ... }: { config = lib.mkMerge [ { boot.kernelModules = [ "b" ]; } { boot.kernelModules = lib.mkBefore [ "a" ]; } ]; }
N

is "merging: text is joined by lines" config.networking.extraHosts '"1.2.3.4 a\n5.6.7.8 b"' <<'N'
{ lib, ... }: { config = lib.mkMerge [ { networking.extraHosts = "1.2.3.4 a"; } { networking.extraHosts = "5.6.7.8 b"; } ]; }
N

fails "merging: two values for one option" config.networking.hostName 'conflicting definition values' '`networking.hostName' 'mkForce' '"a"' '"b"' <<'N'
{ imports = [ { networking.hostName = "a"; } { networking.hostName = "b"; } ]; }
N

is "priorities: mkForce wins" config.networking.hostName '"forced"' <<'N'
{ lib, ... }: { imports = [ { networking.hostName = "plain"; } { networking.hostName = lib.mkForce "forced"; } { networking.hostName = lib.mkDefault "default"; } ]; }
N

is "priorities: mkDefault gives way" config.networking.hostName '"plain"' <<'N'
{ lib, ... }: { imports = [ { networking.hostName = lib.mkDefault "default"; } ]; networking.hostName = "plain"; }
N

is "priorities: mkForce empties a list" config.networking.firewall.allowedTCPPorts '[]' <<'N'
{ lib, ... }: { imports = [ { networking.firewall.allowedTCPPorts = [ 80 ]; } ]; networking.firewall.allowedTCPPorts = lib.mkForce [ ]; }
N

is "conditions: mkIf, and config refers to itself" config.networking.hostName '"tcp-80"' <<'N'
{ config, lib, ... }: {
  networking.firewall.allowedTCPPorts = lib.mkIf config.services.nginx.enable [ 80 ];
  services.nginx.enable = true;
  networking.hostName = "tcp-${toString (builtins.head config.networking.firewall.allowedTCPPorts)}";
}
N

is "conditions: mkIf false leaves the rest" 'config.users.users.alice.uid' '1234' <<'N'
{ lib, ... }: { users.users.alice = lib.mkMerge [ { isNormalUser = true; uid = 1234; } (lib.mkIf false { uid = 99; }) ]; }
N

config other.nix <<'N'
{ imports = [ ./deep.nix ]; networking.hostName = "from-other"; }
N
config deep.nix <<'N'
{ boot.kernelParams = [ "deep" ]; }
N
is "imports: files, and files they import" config.networking.hostName '"from-other"' <<'N'
{ imports = [ ./other.nix ./deep.nix ]; }
N

config counted.nix <<'N'
{ boot.kernelModules = [ "once" ]; }
N
is "imports: a file imported twice counts once" config.boot.kernelModules '["once"]' <<'N'
{ imports = [ ./counted.nix { imports = [ ./counted.nix ]; } ]; }
N

is "imports: hardware-configuration.nix as nixos-generate-config writes it" config.networking.useDHCP 'true' <<'N'
{ config, lib, pkgs, modulesPath, ... }: {
  imports = [ (modulesPath + "/profiles/qemu-guest.nix") (modulesPath + "/installer/scan/not-detected.nix") ];
  boot.initrd.availableKernelModules = [ "ahci" "xhci_pci" ];
  boot.initrd.kernelModules = [ ];
  boot.extraModulePackages = [ ];
  boot.loader.grub.device = "/dev/sda";
  fileSystems."/" = { device = "/dev/disk/by-uuid/x"; fsType = "ext4"; };
  swapDevices = [ ];
  networking.useDHCP = lib.mkDefault true;
  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
  hardware.cpu.intel.updateMicrocode = lib.mkDefault config.hardware.enableRedistributableFirmware or false;
}
N

is "options of one's own: mkOption, mkEnableOption, submodules" config.my.hosts.a.port '8080' <<'N'
{ config, lib, ... }: {
  options.my = {
    enable = lib.mkEnableOption "mine";
    hosts = lib.mkOption { type = lib.types.attrsOf (lib.types.submodule ({ name, ... }: { options.port = lib.mkOption { type = lib.types.port; default = 8080; }; })); default = { }; };
  };
  config = lib.mkIf config.my.enable { networking.hostName = "mine"; };
  imports = [ { my.enable = true; my.hosts.a = { }; } ];
}
N

is "arguments: _module.args" config.networking.hostName '"given"' <<'N'
{ imports = [ { _module.args.mine = "given"; } ({ mine, ... }: { networking.hostName = mine; }) ]; }
N

fails "arguments: one that nobody gives" config.networking.hostName 'asks for the argument `inputs' <<'N'
{ inputs, ... }: { networking.hostName = inputs.name; }
N

fails "assertions: fail with their message" vm 'Failed assertions' 'nobody may' <<'N'
{ assertions = [ { assertion = false; message = "nobody may"; } ]; }
N

fails "a module that mixes config and plain options" config.networking.hostName 'unsupported attribute `networking' <<'N'
{ config = { }; networking.hostName = "x"; }
N
