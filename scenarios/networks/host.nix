# A machine with a page behind a firewall: port 80 is open, and the program on port 8080 is for the machine itself.
{ ... }:
{
  imports = [ ../../configuration.nix ];

  networking.firewall.allowedTCPPorts = [ 80 ];
  services.nginx = {
    enable = true;
    virtualHosts.localhost = {
      listen = [
        { addr = "0.0.0.0"; port = 80; }
        { addr = "[::]"; port = 80; }
        { addr = "0.0.0.0"; port = 8080; }
      ];
      # The address from which a request comes shows whether a router translates it.
      locations."/".return = "200 'hello $remote_addr'";
      # What a scenario writes there.
      locations."/large".root = "/srv";
    };
  };
}
