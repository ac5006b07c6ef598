# What a VM needs so that it can be cloned: no folder of the host is mounted in it, since QEMU can't save a machine with
# such a mount. The Nix store comes as an image, and the two folders that every VM shares with its host are left out
# (nixpkgs: nixos/modules/virtualisation/qemu-vm.nix). The configuration's own options for the image take precedence,
# and folders that it shares itself stay.
#
# A VM that boots without a boot loader has none that a switch could install, and installing one fails before the switch
# begins (nixpkgs: nixos/modules/system/boot/loader). So its installer does nothing.
{ config, lib, pkgs, ... }:

{
  options.virtualisation.sharedDirectories =
    lib.mkOption { apply = shares: removeAttrs shares [ "xchg" "shared" ]; };
  config.virtualisation.useNixStoreImage = lib.mkDefault true;
  config.system.build.installBootLoader = lib.mkIf (!config.virtualisation.useBootLoader)
    (lib.mkForce (pkgs.writeScript "nixvm-no-boot-loader" "#!/bin/sh"));
}
