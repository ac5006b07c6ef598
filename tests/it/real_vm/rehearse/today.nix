{ lib, ... }:
let
  runs = { wantedBy = [ "multi-user.target" ]; script = "sleep infinity"; };
in
{
  imports = [ ./both.nix ];
  systemd.services = {
    changes = runs // { environment.WHICH = "today"; };
    driver = runs // { environment.WHICH = "today"; };
    skipped = runs // { restartIfChanged = false; environment.WHICH = "today"; };
    goes = runs;
    cloud.environment.VERSION = "1";
    # Nothing starts them.
    fails.serviceConfig = { Type = "oneshot"; ExecStart = "/bin/false"; };
    slow = { serviceConfig.Type = "oneshot"; serviceConfig.TimeoutStartSec = "infinity"; script = "echo waits for nothing; sleep infinity"; };
    # It does not stop once the file is there.
    sticky = runs // { serviceConfig.TimeoutStopSec = "infinity"; preStop = "[ ! -e /run/sticks ] || sleep infinity"; };
  };
  systemd.sockets.old = { wantedBy = [ "sockets.target" ]; listenStreams = [ "8081" ]; socketConfig.Accept = true; };
  virtualisation.fileSystems."/var/lib/data" = { device = "tmpfs"; fsType = "tmpfs"; };
  users.users.carol.isNormalUser = true;
  users.users.dora = { isNormalUser = true; uid = 1500; };

  # What breaks deploys, one system for each kind. They share the machine's disk.
  specialisation = {
    # Its switch is killed in the middle.
    dies.configuration = {
      systemd.services.changes.environment.WHICH = lib.mkForce "dies";
      system.activationScripts.dies = "/usr/bin/systemctl kill -s KILL nixos-rebuild-switch-to-configuration.service";
    };
    init.configuration.system.extraSystemBuilderCmds = "chmod u+w $out/init-interface-version; printf other >$out/init-interface-version";
    # Its settings restart PostgreSQL, and everything else fails.
    broken.configuration = {
      services.postgresql.settings.max_connections = 50;
      systemd.services.broken = { wantedBy = [ "multi-user.target" ]; script = "sleep 1; exit 3"; };
      system.activationScripts.setupSecrets = "echo 'no key decrypts /run/secrets'; rm /etc/ssh/ssh_host_test_key; false";
      virtualisation.fileSystems = lib.mkForce { };
    };
    # The server finds files of another version.
    older.configuration.services.postgresql.dataDir = "/var/lib/postgresql/14";
    hangs.configuration.systemd.services.sticky.environment.WHICH = "hangs";
  };
}
