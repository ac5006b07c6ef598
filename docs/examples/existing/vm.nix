# What is different in the VM, and nowhere else.
{ lib, ... }:
{
  virtualisation.vmVariant = {
    # A password that tests know, in place of a hash.
    users.users.kim = {
      hashedPasswordFile = lib.mkForce null;
      initialPassword = "test";
    };

    # The VM's one card is eth0, and QEMU gives it an address.
    networking.interfaces = lib.mkForce { };
    networking.useDHCP = lib.mkForce true;

    # Secrets of the tests, where the services look for them, and what /srv has on the server.
    systemd.tmpfiles.rules = [
      "f /run/secrets/report 0400 root root - REPORT_KEY=of-the-tests"
      "f /srv/www/index.html 0444 root root - hello"
    ];

    # The other host is not there. This one answers instead.
    systemd.services.report.environment.REPORT_TO = lib.mkForce "http://localhost:8080";
    services.nginx.virtualHosts."reports.example" = {
      listen = [
        {
          addr = "127.0.0.1";
          port = 8080;
        }
      ];
      locations."/".return = "204";
    };
    systemd.services.report.after = [ "nginx.service" ];
  };
}
