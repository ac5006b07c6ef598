# What scenarios/services.rs, web.rs and timers.rs look at: a service of systemd, a timer, a service of alice's own manager,
# and nginx. One machine has them all, so that it boots once for all of them.
{ ... }:
{
  imports = [ ../configuration.nix ];

  systemd.services.greeting = {
    wantedBy = [ "multi-user.target" ];
    script = "echo hello from systemd > /run/greeting";
    serviceConfig = {
      Type = "oneshot";
      RemainAfterExit = true;
    };
  };

  # Started by the scenario.
  systemd.services.tick = {
    script = "echo tick";
    serviceConfig.Type = "oneshot";
  };
  systemd.timers.tick.timerConfig = {
    OnActiveSec = "1s";
    OnUnitActiveSec = "2s";
    AccuracySec = "100ms";
  };

  systemd.user.services.tea = {
    wantedBy = [ "default.target" ];
    script = "echo tea for $USER; exec sleep infinity";
  };

  networking.firewall.allowedTCPPorts = [ 80 ];
  services.nginx = {
    enable = true;
    virtualHosts.localhost.locations."/".return = "200 'hello from nginx'";
  };
}
