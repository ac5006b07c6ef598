# The machine's name, its network cards, the firewall.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types mkIf;
  cfg = config.networking;
  fw = cfg.firewall;
  ports = types.listOf types.port;
  range = types.submodule { options.from = mkOption { type = types.port; }; options.to = mkOption { type = types.port; }; };

  addresses = longest: mkOption {
    default = [ ];
    type = types.listOf (types.submodule {
      options.address = mkOption { type = types.str; };
      options.prefixLength = mkOption { type = types.ints.between 0 longest; };
    });
  };
  addressesOf = interface: interface.ipv4.addresses ++ lib.optionals cfg.enableIPv6 interface.ipv6.addresses;

  set = ports: ranges: lib.concatStringsSep ", " (map toString ports ++ map (r: "${toString r.from}-${toString r.to}") ranges);
  accept = protocol: ports: ranges: lib.optionalString (ports != [ ] || ranges != [ ])
    "    ${protocol} dport { ${set ports ranges} } accept\n";
  ruleset = pkgs.writeText "firewall.nft" ''
    # Written by the stand-in, from networking.firewall.
    table inet nixos-fw
    delete table inet nixos-fw
    table inet nixos-fw {
      chain input {
        type filter hook input priority filter; policy drop;
        iifname { ${lib.concatMapStringsSep ", " (i: "\"${i}\"") ([ "lo" ] ++ fw.trustedInterfaces)} } accept
        ct state { established, related } accept
    ${lib.optionalString fw.allowPing "    icmp type echo-request accept\n"}    icmpv6 type != { nd-redirect, 139 } accept
        udp sport 67 udp dport 68 accept
    ${accept "tcp" fw.allowedTCPPorts fw.allowedTCPPortRanges}${accept "udp" fw.allowedUDPPorts fw.allowedUDPPortRanges}${fw.extraInputRules}  }
    }
  '';
in
{
  options.networking = {
    hostName = mkOption { type = types.strMatching "$|^[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?$"; default = "nixos"; };
    domain = mkOption { type = types.nullOr types.str; default = null; };
    hostId = mkOption { type = types.nullOr (types.strMatching "[0-9a-f]{8}"); default = null; };
    hosts = mkOption { type = types.attrsOf (types.listOf types.str); default = { }; };
    extraHosts = mkOption { type = types.lines; default = ""; };
    nameservers = mkOption { type = types.listOf types.str; default = [ ]; };
    useDHCP = mkOption { type = types.bool; default = true; };
    useNetworkd = lib.mkIgnored types.bool true "networkd is what there is";
    usePredictableInterfaceNames = lib.mkIgnored types.bool false "the card is eth0, as in NixOS's VMs";
    enableIPv6 = mkOption { type = types.bool; default = true; };
    defaultGateway = lib.mkIgnored (types.nullOr types.anything) null "QEMU's network names its own";
    interfaces = mkOption {
      default = { };
      type = types.attrsOf (types.submodule {
        options.useDHCP = mkOption { type = types.nullOr types.bool; default = null; };
        options.ipv4.addresses = addresses 32;
        options.ipv6.addresses = addresses 128;
      });
    };
    networkmanager.enable = lib.mkIgnored types.bool false "networkd asks for an address";
    wireless.enable = lib.mkIgnored types.bool false "there is no radio";
    nftables.enable = lib.mkIgnored types.bool true "the firewall is nftables either way";
    firewall = {
      enable = mkOption { type = types.bool; default = true; };
      allowedTCPPorts = mkOption { type = ports; default = [ ]; };
      allowedUDPPorts = mkOption { type = ports; default = [ ]; };
      allowedTCPPortRanges = mkOption { type = types.listOf range; default = [ ]; };
      allowedUDPPortRanges = mkOption { type = types.listOf range; default = [ ]; };
      allowPing = mkOption { type = types.bool; default = true; };
      trustedInterfaces = mkOption { type = types.listOf types.str; default = [ ]; };
      extraInputRules = mkOption { type = types.lines; default = ""; };
    };
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
    } // lib.mapAttrs'
      (name: interface: lib.nameValuePair "systemd/network/40-${name}.network" {
        text = ''
          [Match]
          Name=${name}
          [Network]
          DHCP=${if interface.useDHCP == true || (interface.useDHCP == null && interface.ipv4.addresses == [ ]) then "ipv4" else "no"}
          ${lib.concatMapStrings (a: "Address=${a.address}/${toString a.prefixLength}\n") (addressesOf interface)}'';
      })
      cfg.interfaces
    // lib.optionalAttrs (cfg.hostId != null) {
      hostid.source = pkgs.runCommand "hostid" { inherit (cfg) hostId; } ''
        # The number as this processor has it in memory: the last digits first.
        printf "\\x''${hostId:6:2}\\x''${hostId:4:2}\\x''${hostId:2:2}\\x''${hostId:0:2}" >$out
      '';
    } // lib.optionalAttrs cfg.useDHCP {
      "systemd/network/90-dhcp.network".text = ''
        [Match]
        Name=en* eth*
        [Network]
        DHCP=ipv4
        IPv6AcceptRA=no
        LinkLocalAddressing=no
        [DHCPv4]
        # The one server there is answers; no need to look whether someone else has the address.
        SendDecline=no
        UseDNS=no
      '';
    };

    boot.kernel.sysctl = mkIf (!cfg.enableIPv6) {
      "net.ipv6.conf.all.disable_ipv6" = lib.mkDefault true;
      "net.ipv6.conf.default.disable_ipv6" = lib.mkDefault true;
    };

    # DHCP by networkd: Debian's base has it, and it is quick.
    systemd.services.systemd-networkd = mkIf (cfg.useDHCP || cfg.interfaces != { }) {
      wantedBy = [ "multi-user.target" ];
      restartTriggers = map (name: config.environment.etc.${name}.text)
        (builtins.filter (lib.hasPrefix "systemd/network/") (builtins.attrNames config.environment.etc));
      # Addresses stay while it restarts.
      stopIfChanged = false;
    };

    systemd.services.firewall = mkIf fw.enable {
      description = "Firewall";
      wantedBy = [ "sysinit.target" ];
      wants = [ "network-pre.target" ];
      before = [ "network-pre.target" "shutdown.target" ];
      after = [ "systemd-modules-load.service" ];
      conflicts = [ "shutdown.target" ];
      reloadIfChanged = true;
      unitConfig.DefaultDependencies = false;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "/usr/sbin/nft -f ${ruleset}";
        ExecReload = "/usr/sbin/nft -f ${ruleset}";
        ExecStop = "-/usr/sbin/nft delete table inet nixos-fw";
      };
    };
  };
}
