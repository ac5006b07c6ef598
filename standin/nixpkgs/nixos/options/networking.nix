# The machine's name, its names for others, and its name servers.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types mkIf;
  cfg = config.networking;
in
{
  options.networking = {
    hostName = mkOption { type = types.strMatching "$|^[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?$"; default = "nixos"; };
    domain = mkOption { type = types.nullOr types.str; default = null; };
    hostId = mkOption { type = types.nullOr (types.strMatching "[0-9a-f]{8}"); default = null; };
    hosts = mkOption { type = types.attrsOf (types.listOf types.str); default = { }; };
    extraHosts = mkOption { type = types.lines; default = ""; };
    nameservers = mkOption { type = types.listOf types.str; default = [ ]; };
    enableIPv6 = mkOption { type = types.bool; default = true; };
    wireless.enable = lib.mkIgnored types.bool false "there is no radio";
  };

  config = {
    environment.etc = {
      hostname.text = cfg.hostName + "\n";
      hosts = {
        # A copy: the machine's owner may want to add a line.
        mode = "0644";
        text = ''
          127.0.0.1 localhost
          ${lib.optionalString cfg.enableIPv6 "::1 localhost"}
          127.0.0.2 ${lib.optionalString (cfg.domain != null) "${cfg.hostName}.${toString cfg.domain} "}${cfg.hostName}
          ${lib.concatStrings (lib.mapAttrsToList (address: names: "${address} ${toString names}\n") cfg.hosts)}${cfg.extraHosts}
        '';
      };
      # QEMU's user network has its name server there.
      "resolv.conf" = {
        mode = "0644";
        text = lib.concatMapStrings (s: "nameserver ${s}\n") (if cfg.nameservers != [ ] then cfg.nameservers else [ "10.0.2.3" ])
          + lib.optionalString (cfg.domain != null) "search ${toString cfg.domain}\n";
      };
    } // lib.optionalAttrs (cfg.hostId != null) {
      hostid.source = pkgs.runCommand "hostid" { inherit (cfg) hostId; } ''
        # The number as this processor has it in memory: the last digits first.
        printf "\\x''${hostId:6:2}\\x''${hostId:4:2}\\x''${hostId:2:2}\\x''${hostId:0:2}" >$out
      '';
    };

    boot.kernel.sysctl = mkIf (!cfg.enableIPv6) {
      "net.ipv6.conf.all.disable_ipv6" = lib.mkDefault true;
      "net.ipv6.conf.default.disable_ipv6" = lib.mkDefault true;
    };
  };
}
