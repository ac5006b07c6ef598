# What scenarios/services.rs looks at: a service of systemd, and nginx.
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

  networking.firewall.allowedTCPPorts = [ 80 ];
  services.nginx = {
    enable = true;
    virtualHosts.localhost.locations."/".return = "200 'hello from nginx'";
  };
}
