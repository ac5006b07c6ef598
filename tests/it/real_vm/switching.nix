# A system with others to switch to, one for each kind of outcome. They are specialisations, so that one disk and one boot
# have them all.
{ lib, pkgs, ... }:
let
  service = word: { wantedBy = [ "multi-user.target" ]; environment.WORD = word; serviceConfig.ExecStart = "/bin/sleep infinity"; };
in
{
  users.users.alice = { isNormalUser = true; initialPassword = "test"; extraGroups = [ "wheel" ]; };
  systemd.services = {
    stays = service "one";
    changed = service "one";
    follows = service "one" // { partOf = [ "changed.service" ]; };
    late = service "one" // { stopIfChanged = false; };
    reloaded = service "one" // { reloadIfChanged = true; reload = "true"; };
    skipped = service "one" // { restartIfChanged = false; };
    gone = service "one";
  };

  # A unit of each kind changes, a unit of the base by a drop-in too, and one part of the activation fails.
  specialisation.tomorrow.configuration = {
    systemd.services = {
      changed.environment.WORD = lib.mkForce "two";
      late.environment.WORD = lib.mkForce "two";
      reloaded.environment.WORD = lib.mkForce "two";
      skipped.environment.WORD = lib.mkForce "two";
      gone.enable = false;
      fresh = service "one";
      systemd-networkd.environment.WORD = "two";
    };
    users.users.bob = { isNormalUser = true; initialPassword = "test"; };
    environment.systemPackages = [ (pkgs.writeShellScriptBin "of-tomorrow" "echo hello") ];
    system.activationScripts.bad = { text = "echo $NIXOS_ACTION; false"; supportsDryActivation = true; };
  };
  specialisation.fails.configuration.systemd.services.broken = service "one" // { serviceConfig = { Type = "oneshot"; ExecStart = "/bin/false"; }; };
  specialisation.inhibited.configuration.system.switch.inhibitors.dbus-implementation = "broker";
  specialisation.loader.configuration.system.build.installBootLoader = pkgs.writeScript "loader" "#!/bin/sh\necho loader $1; exit 5";
  specialisation.init.configuration.system.extraSystemBuilderCmds = "chmod u+w $out/init-interface-version; printf other >$out/init-interface-version";
}
