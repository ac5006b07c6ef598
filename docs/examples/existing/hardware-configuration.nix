# As nixos-generate-config wrote it on the server, with an encrypted disk.
{ lib, ... }:
{
  boot.initrd.availableKernelModules = [
    "nvme"
    "xhci_pci"
    "ahci"
  ];
  boot.kernelModules = [ "kvm-amd" ];

  boot.initrd.luks.devices.crypted.device = "/dev/disk/by-uuid/6f4b8a1e-0d0c-4c57-9b52-2a8f6c1f7d11";
  fileSystems."/" = {
    device = "/dev/mapper/crypted";
    fsType = "btrfs";
    options = [ "subvol=root" ];
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/boot";
    fsType = "vfat";
  };
  fileSystems."/srv" = {
    device = "/dev/disk/by-label/srv";
    fsType = "ext4";
  };
  swapDevices = [ { device = "/dev/disk/by-label/swap"; } ];

  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
}
