# Options that a usual configuration sets and that mean nothing on a test machine: accepted, without effect.
{ lib, ... }:

let
  inherit (lib) mkOption types;
  group = mkOption { type = types.attrsOf types.anything; default = { }; description = "Accepted, no effect."; };
  switch = default: mkOption { type = types.bool; inherit default; description = "Accepted, no effect."; };
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
    system.configurationRevision = mkOption { type = types.nullOr types.str; default = null; description = "Accepted, no effect."; };
    services.timesyncd.enable = switch false;
    services.qemuGuest.enable = switch false;
    services.fstrim.enable = switch false;
    services.resolved.enable = switch false;
    services.dbus.enable = switch true;
    services.udisks2.enable = switch false;
  };
}
