# dnsmasq: a server for DHCP and DNS.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types concatMapStrings concatStrings mapAttrsToList;
  cfg = config.services.dnsmasq;

  # true is the name alone, false a comment, a list a line each.
  line = name: value:
    if value == true then "${name}\n"
    else if value == false then "# setting `${name}` explicitly set to false\n"
    else "${name}=${toString value}\n";
  configFile = pkgs.writeText "dnsmasq.conf" ("# Written by the stand-in, from services.dnsmasq.\n"
    + concatStrings (mapAttrsToList (name: value: concatMapStrings (line name) (lib.toList value)) cfg.settings)
    + cfg.extraConfig);
  scalar = types.oneOf [ types.bool types.int types.str types.path ];
in
{
  options.services.dnsmasq = {
    enable = mkOption { type = types.bool; default = false; };
    resolveLocalQueries = mkOption { type = types.bool; default = true; };
    alwaysKeepRunning = mkOption { type = types.bool; default = false; };
    settings = mkOption { type = types.attrsOf (types.either scalar (types.listOf scalar)); default = { }; };
    extraConfig = mkOption { type = types.lines; default = ""; };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ pkgs.dnsmasq ];
    services.dnsmasq.settings = {
      dhcp-leasefile = lib.mkDefault "/var/lib/dnsmasq/dnsmasq.leases";
      # Its own machine asks it, and it asks the name server of QEMU's user network.
      resolv-file = lib.mkIf cfg.resolveLocalQueries (lib.mkDefault "/etc/dnsmasq-resolv.conf");
    };
    networking.nameservers = lib.mkIf cfg.resolveLocalQueries [ "127.0.0.1" ];
    environment.etc = lib.mkIf cfg.resolveLocalQueries { "dnsmasq-resolv.conf".text = "nameserver 10.0.2.3\n"; };
    users.users.dnsmasq = { isSystemUser = true; group = "dnsmasq"; description = "Dnsmasq daemon user"; };
    users.groups.dnsmasq = { };
    systemd.services.dnsmasq = {
      description = "Dnsmasq Daemon";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      path = [ pkgs.dnsmasq ];
      serviceConfig = {
        ExecStart = "/usr/sbin/dnsmasq -k --user=dnsmasq -C ${configFile}";
        ExecReload = "/bin/kill -HUP $MAINPID";
        StateDirectory = "dnsmasq";
        Restart = if cfg.alwaysKeepRunning then "always" else "on-failure";
      };
    };
  };
}
