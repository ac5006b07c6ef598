# What a VM needs so that clones of it can be made: no folder of the host is mounted in it, since QEMU can't save a
# machine that has one. The Nix store comes as an image, and the two folders that every VM shares with its host are
# left out (nixpkgs: nixos/modules/virtualisation/qemu-vm.nix). What a configuration says of the image itself holds,
# and so do folders that it shares of its own.
{ lib, ... }:

{
  options.virtualisation.sharedDirectories =
    lib.mkOption { apply = shares: removeAttrs shares [ "xchg" "shared" ]; };
  config.virtualisation.useNixStoreImage = lib.mkDefault true;
}
