# The firewall and NAT: tables of nftables, with the rules of NixOS's own (nixos/modules/services/networking).
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types mkIf optionalString concatStrings concatMapStrings mapAttrsToList concatStringsSep;
  cfg = config.networking;
  fw = cfg.firewall;
  nat = cfg.nat;

  bool = default: mkOption { type = types.bool; inherit default; };
  strings = mkOption { type = types.listOf types.str; default = [ ]; };
  lines = mkOption { type = types.lines; default = ""; };
  nullOrStr = mkOption { type = types.nullOr types.str; default = null; };
  range = types.submodule { options.from = mkOption { type = types.port; }; options.to = mkOption { type = types.port; }; };
  ports = mkOption { type = types.listOf types.port; default = [ ]; };
  ranges = mkOption { type = types.listOf range; default = [ ]; };
  open = {
    allowedTCPPorts = ports;
    allowedUDPPorts = ports;
    allowedTCPPortRanges = ranges;
    allowedUDPPortRanges = ranges;
  };

  set = values: concatStringsSep ", " values;
  named = interfaces: set (map (name: "\"${name}\"") interfaces);
  accept = from: protocol: ports: ranges: optionalString (ports != [ ] || ranges != [ ])
    "    ${from}${protocol} dport { ${set (map toString ports ++ map (r: "${toString r.from}-${toString r.to}") ranges)} } accept\n";
  acceptAll = from: group: accept from "tcp" group.allowedTCPPorts group.allowedTCPPortRanges + accept from "udp" group.allowedUDPPorts group.allowedUDPPortRanges;

  firewall = pkgs.writeText "firewall.nft" ''
    # Written by the stand-in, from networking.firewall.
    table inet nixos-fw
    delete table inet nixos-fw
    table inet nixos-fw {
    ${optionalString (fw.checkReversePath != false) ''
      chain rpfilter {
        type filter hook prerouting priority mangle + 10; policy drop;
        meta nfproto ipv4 udp sport . udp dport { 67 . 68, 68 . 67 } accept
        fib saddr . mark ${optionalString (fw.checkReversePath != "loose") ". iif"} oif exists accept
        ${fw.extraReversePathFilterRules}
      }
    ''}  chain input {
        type filter hook input priority filter; policy drop;
        iifname { ${named ([ "lo" ] ++ fw.trustedInterfaces)} } accept
        ct state { established, related } accept
    ${optionalString fw.allowPing "    icmp type echo-request accept\n"}    icmpv6 type != { nd-redirect, 139 } accept
        udp sport 67 udp dport 68 accept
    ${acceptAll "" fw}${concatStrings (mapAttrsToList (name: acceptAll "iifname \"${name}\" ") fw.interfaces)}${fw.extraInputRules}
    ${optionalString fw.rejectPackets "    meta l4proto tcp reject with tcp reset\n    reject\n"}  }
    ${optionalString fw.filterForward ''
      chain forward {
        type filter hook forward priority filter; policy drop;
        ct state { established, related } accept
        icmpv6 type != { router-renumbering, 139 } accept
        ct status dnat accept
        ${fw.extraForwardRules}
      }
    ''}}
  '';

  # --- NAT.

  isIPv6 = address: builtins.length (lib.splitString ":" address) > 2;
  # "10.0.0.1:80" or "[fc00::2]:80" -> [ address ports ]
  destinationOf = text:
    let found = builtins.match (if isIPv6 text then "[[]([0-9a-fA-F:]+)[]]:([0-9-]+)" else "([0-9.]+):([0-9-]+)") text; in
    if found == null then throw "networking.nat.forwardPorts: `${text}' is no destination: ADDRESS:PORT or [ADDRESS]:PORT" else found;
  external = optionalString (nat.externalInterface != null) " oifname \"${nat.externalInterface}\"";
  forward = f: let to = destinationOf f.destination; in
    "${f.proto} . ${lib.replaceStrings [ ":" ] [ "-" ] (toString f.sourcePort)} : ${builtins.elemAt to 0} . ${builtins.elemAt to 1}";
  table = family: { address, addresses, forwards }: ''
    table ${family} nixos-nat
    delete table ${family} nixos-nat
    table ${family} nixos-nat {
      chain pre {
        type nat hook prerouting priority dstnat;
        ${optionalString (forwards != [ ]) "iifname \"${toString nat.externalInterface}\" meta l4proto { tcp, udp } dnat meta l4proto . th dport map { ${set (map forward forwards)} }"}
      }
      chain post {
        type nat hook postrouting priority srcnat;
        ${optionalString (nat.internalInterfaces != [ ]) "iifname { ${named nat.internalInterfaces} }${external} ${address}"}
        ${optionalString (addresses != [ ]) "${family} saddr { ${set addresses} }${external} ${address}"}
      }
    }
  '';
  to = address: if address == null then "masquerade" else "snat to ${address}";
  translation = pkgs.writeText "nat.nft" ("# Written by the stand-in, from networking.nat.\n"
    + table "ip" { address = to nat.externalIP; addresses = nat.internalIPs; forwards = builtins.filter (f: !(isIPv6 f.destination)) nat.forwardPorts; }
    + optionalString nat.enableIPv6 (table "ip6" { address = to nat.externalIPv6; addresses = nat.internalIPv6s; forwards = builtins.filter (f: isIPv6 f.destination) nat.forwardPorts; }));

  tables = description: file: remove: {
    inherit description;
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
      ExecStart = "/usr/sbin/nft -f ${file}";
      ExecReload = "/usr/sbin/nft -f ${file}";
      ExecStop = map (table: "-/usr/sbin/nft delete table ${table}") remove;
    };
  };
in
{
  options.networking = {
    nftables.enable = lib.mkIgnored types.bool true "the firewall is nftables either way";
    firewall = open // {
      enable = bool true;
      allowPing = bool true;
      rejectPackets = bool false;
      trustedInterfaces = strings;
      interfaces = mkOption { type = types.attrsOf (types.submodule { options = open; }); default = { }; };
      checkReversePath = mkOption {
        type = types.either types.bool (types.enum [ "strict" "loose" ]);
        # Its modules take a second of a boot, and on one network it refuses nothing.
        default = nat.enable || cfg.interfaces != { } || builtins.length config.virtualisation.vlans > 1;
        description = "The default is true where a machine has cards of its own or is on several networks.";
      };
      extraReversePathFilterRules = lines;
      extraInputRules = lines;
      filterForward = bool false;
      extraForwardRules = lines;
    };
    nat = {
      enable = bool false;
      enableIPv6 = bool false;
      internalInterfaces = strings;
      internalIPs = strings;
      internalIPv6s = strings;
      externalInterface = nullOrStr;
      externalIP = nullOrStr;
      externalIPv6 = nullOrStr;
      forwardPorts = mkOption {
        default = [ ];
        type = types.listOf (types.submodule {
          options.sourcePort = mkOption { type = types.either types.port (types.strMatching "[[:digit:]]+:[[:digit:]]+"); };
          options.destination = mkOption { type = types.str; };
          options.proto = mkOption { type = types.enum [ "tcp" "udp" ]; default = "tcp"; };
        });
      };
    };
  };

  config = {
    systemd.services.firewall = mkIf fw.enable (tables "Firewall" firewall [ "inet nixos-fw" ]);
    systemd.services.nat = mkIf nat.enable (tables "Network Address Translation" translation ([ "ip nixos-nat" ] ++ lib.optional nat.enableIPv6 "ip6 nixos-nat"));

    assertions = lib.optionals nat.enable [
      { assertion = nat.enableIPv6 -> cfg.enableIPv6; message = "networking.nat.enableIPv6 requires networking.enableIPv6"; }
      { assertion = nat.forwardPorts != [ ] -> nat.externalInterface != null; message = "networking.nat.forwardPorts requires networking.nat.externalInterface"; }
    ];
    networking.firewall.extraForwardRules = mkIf (nat.enable && fw.filterForward) (
      optionalString (nat.internalInterfaces != [ ]) "iifname { ${named nat.internalInterfaces} }${external} accept\n"
      + optionalString (nat.internalIPs != [ ]) "ip saddr { ${set nat.internalIPs} }${external} accept\n"
      + optionalString (nat.internalIPv6s != [ ]) "ip6 saddr { ${set nat.internalIPv6s} }${external} accept\n");
    boot.kernel.sysctl = mkIf nat.enable ({
      "net.ipv4.conf.all.forwarding" = lib.mkOverride 99 true;
      "net.ipv4.conf.default.forwarding" = lib.mkOverride 99 true;
    } // lib.optionalAttrs nat.enableIPv6 {
      "net.ipv6.conf.all.accept_ra" = lib.mkOverride 99 2;
      "net.ipv6.conf.default.accept_ra" = lib.mkOverride 99 2;
      "net.ipv6.conf.all.forwarding" = lib.mkOverride 99 true;
      "net.ipv6.conf.default.forwarding" = lib.mkOverride 99 true;
    });
  };
}
