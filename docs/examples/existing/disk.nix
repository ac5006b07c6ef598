# A second disk of 512 MiB in the VM, for a service that needs a file system of its own.
{
  virtualisation.vmVariant.virtualisation = {
    emptyDiskImages = [ 512 ];
    fileSystems."/srv" = {
      device = "/dev/vdb";
      fsType = "ext4";
      autoFormat = true;
    };
  };
}
