# A server as somebody has it. Its last import is all that is there for tests.
{ pkgs, ... }:
{
  imports = [
    ./hardware-configuration.nix
    ./vm.nix
  ];

  boot.loader.systemd-boot.enable = true;

  networking.hostName = "harbor";
  networking.useDHCP = false;
  networking.interfaces.enp3s0.ipv4.addresses = [
    {
      address = "192.0.2.7";
      prefixLength = 24;
    }
  ];

  users.mutableUsers = false;
  users.users.kim = {
    isNormalUser = true;
    extraGroups = [ "wheel" ];
    hashedPasswordFile = "/run/secrets/kim-password";
  };

  services.nginx.enable = true;
  services.nginx.virtualHosts."harbor.example".root = "/srv/www";

  # Sends a report to another host. The key for it is a secret.
  systemd.services.report = {
    wantedBy = [ "multi-user.target" ];
    wants = [ "network-online.target" ];
    after = [ "network-online.target" ];
    path = [ pkgs.curl ];
    environment.REPORT_TO = "https://reports.example";
    serviceConfig.Type = "oneshot";
    serviceConfig.EnvironmentFile = "/run/secrets/report";
    script = ''
      df /srv | curl --fail --silent --show-error --header "Key: $REPORT_KEY" --data-binary @- "$REPORT_TO"
    '';
  };

  system.stateVersion = "24.11";
}
