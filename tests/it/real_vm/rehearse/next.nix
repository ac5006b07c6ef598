{ ... }:
let
  runs = { wantedBy = [ "multi-user.target" ]; script = "sleep infinity"; };
in
{
  imports = [ ./both.nix ];
  systemd.services = {
    changes = runs // { environment.WHICH = "next"; };
    driver = runs // { environment.WHICH = "next"; };
    skipped = runs // { script = "sleep 9999"; restartIfChanged = false; environment.WHICH = "next"; };
    fresh = runs;
    cloud.environment.VERSION = "2";
  };
  # As a newer stateVersion moves it: the database is empty, and nothing fails.
  services.postgresql.dataDir = "/var/lib/postgresql/17";
  # A client that has the old address does not reach the machine any more.
  networking.interfaces.eth0.ipv4.addresses = [{ address = "10.0.2.99"; prefixLength = 24; }];
  users.users.bob = { isNormalUser = true; initialPassword = "bob"; };
  users.users.dora = { isNormalUser = true; uid = 1600; };
  boot.kernelParams = [ "panic=7" ];
  system.switch.inhibitors.dbus-implementation = "broker";
}
