# What a VM needs so that it can be cloned: no folder of the host is mounted in it, since QEMU can't save a machine with
# such a mount. The Nix store comes as an image, and the two folders that every VM shares with its host are left out
# (nixpkgs: nixos/modules/virtualisation/qemu-vm.nix). The configuration's own options for the image take precedence,
# and folders that it shares itself stay.
{ lib, ... }:

{
  options.virtualisation.sharedDirectories =
    lib.mkOption { apply = shares: removeAttrs shares [ "xchg" "shared" ]; };
  config.virtualisation.useNixStoreImage = lib.mkDefault true;
}
