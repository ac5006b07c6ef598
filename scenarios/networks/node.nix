# One of three nodes: each can have the virtual address (VRRP), and each has a PostgreSQL that can be copied.
{ pkgs, ... }:
{
  imports = [ ../../configuration.nix ];

  environment.systemPackages = [ pkgs.curl ];

  services.keepalived = {
    enable = true;
    openFirewall = true;
    # All have the same priority, so the node with the highest address has the virtual one.
    vrrpInstances.page = {
      interface = "eth1";
      state = "BACKUP";
      virtualRouterId = 7;
      priority = 100;
      virtualIps = [{ addr = "192.168.1.100/24"; }];
    };
  };

  networking.firewall.allowedTCPPorts = [ 5432 ];
  services.postgresql = {
    enable = true;
    enableTCPIP = true;
    settings = {
      wal_level = "replica";
      max_wal_senders = 4;
      hot_standby = true;
      wal_keep_size = "128MB";
    };
    authentication = ''
      host all postgres 192.168.1.0/24 trust
      host replication postgres 192.168.1.0/24 trust
      host replication postgres 2001:db8:1::/64 trust
    '';
  };
}
