# Options that a usual configuration sets and that mean nothing on a test machine: accepted, and never read.
{ lib, ... }:

let
  inherit (lib) mkIgnored types;
  group = mkIgnored (types.attrsOf types.anything) { } "";
  switch = default: mkIgnored types.bool default "";
in
{
  options = {
    documentation = group;
    nix = group;
    qt = group;
    gtk = group;
    sound = group;
    xdg = group;
    system.autoUpgrade = group;
    system.copySystemConfiguration = switch false;
    services.timesyncd.enable = switch false;
    services.qemuGuest.enable = switch false;
    services.fstrim.enable = switch false;
    services.resolved.enable = switch false;
    services.dbus.enable = switch true;
    services.udisks2.enable = switch false;
  };
}
