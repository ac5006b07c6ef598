# A router between VLAN 1 and VLAN 2 that translates addresses, and a DHCP server on a tagged sub-interface (802.1Q).
{ ... }:
{
  imports = [ ../../configuration.nix ];

  networking.nat = {
    enable = true;
    enableIPv6 = true;
    internalInterfaces = [ "eth1" ];
    externalInterface = "eth2";
  };

  networking.vlans.tagged = {
    id = 42;
    interface = "eth1";
  };
  networking.interfaces.tagged.ipv4.addresses = [{ address = "10.42.0.1"; prefixLength = 24; }];

  networking.firewall.interfaces.tagged.allowedUDPPorts = [ 67 ];
  services.dnsmasq = {
    enable = true;
    resolveLocalQueries = false;
    settings = {
      port = 0; # DHCP alone
      interface = "tagged";
      bind-dynamic = true;
      dhcp-range = [ "10.42.0.100,10.42.0.150,1h" ];
    };
  };
}
