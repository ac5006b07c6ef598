# What scenarios/screen.rs looks at: tty1 on a screen.
{ ... }:
{
  imports = [ ../configuration.nix ];

  # The driver of QEMU's graphics card. NixOS loads it by itself, the stand-in when it is asked to.
  boot.kernelModules = [ "bochs" ];
}
