# What scenarios/timers.rs looks at: a timer of the system, and a service of alice's own manager.
{ ... }:
{
  imports = [ ../configuration.nix ];

  systemd.services.tick = {
    script = "echo tick";
    serviceConfig.Type = "oneshot";
  };
  systemd.timers.tick = {
    wantedBy = [ "timers.target" ];
    timerConfig = {
      OnActiveSec = "1s";
      OnUnitActiveSec = "2s";
      AccuracySec = "100ms";
    };
  };

  systemd.user.services.tea = {
    wantedBy = [ "default.target" ];
    script = "echo tea for $USER; exec sleep infinity";
  };
}
