# What today's system and the next one have in common: services that must not notice the change, and some that will.
{ pkgs, ... }:
let
  runs = { wantedBy = [ "multi-user.target" ]; script = "sleep infinity"; };
in
{
  users.users.alice = { isNormalUser = true; extraGroups = [ "wheel" ]; initialPassword = "test"; };
  # The packages are those of scenarios/database.nix, so that there is one disk image for both.
  environment.systemPackages = [ pkgs.cowsay pkgs.lolcat ];
  system.stateVersion = "26.05";
  services.postgresql = {
    enable = true;
    ensureDatabases = [ "alice" ];
    ensureUsers = [{ name = "alice"; ensureDBOwnership = true; }];
  };
  networking.firewall.allowedTCPPorts = [ 8080 ];

  systemd.services = {
    stays = runs;
    # Their files never change, and they stop with the one that does.
    follows = runs // { partOf = [ "changes.service" ]; after = [ "changes.service" ]; };
    containers = runs // { requires = [ "driver.service" ]; after = [ "driver.service" ]; };
    # A job that has done its work is not active.
    backup = { wantedBy = [ "multi-user.target" ]; serviceConfig.Type = "oneshot"; script = "true"; };
    # It migrates its files at once, and refuses those of a newer version.
    cloud = {
      wantedBy = [ "multi-user.target" ];
      script = ''
        mkdir -p /var/lib/cloud
        had=$(cat /var/lib/cloud/version 2>/dev/null || echo 0)
        if [ "$had" -gt "$VERSION" ]; then
          echo "downgrading from version $had to $VERSION is not supported"
          exit 1
        fi
        echo "$VERSION" >/var/lib/cloud/version
        exec sleep infinity
      '';
    };
    "web@" = { serviceConfig.StandardInput = "socket"; serviceConfig.ExecStart = "/bin/echo hello"; };
    "old@" = { serviceConfig.StandardInput = "socket"; serviceConfig.ExecStart = "/bin/echo old"; };
  };
  systemd.sockets.web = { wantedBy = [ "sockets.target" ]; listenStreams = [ "8080" ]; socketConfig.Accept = true; };
}
