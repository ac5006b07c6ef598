# Network cards, what is made of them (VLANs, bridges, bonds), addresses and routes: files for systemd-networkd.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types mkIf optionalString concatMapStrings;
  cfg = config.networking;
  nullOr = type: mkOption { type = types.nullOr type; default = null; };
  int = types.ints.unsigned;

  address = longest: {
    options.address = mkOption { type = types.str; };
    options.prefixLength = mkOption { type = types.ints.between 0 longest; };
  };
  addresses = longest: mkOption { type = types.listOf (types.submodule (address longest)); default = [ ]; };
  routes = longest: mkOption {
    default = [ ];
    type = types.listOf (types.submodule {
      imports = [ (address longest) ];
      options.via = nullOr types.str;
    });
  };
  family = longest: { addresses = addresses longest; routes = routes longest; };
  interface = types.submodule ({ name, ... }: {
    options = {
      useDHCP = nullOr types.bool;
      ipv4 = family 32;
      ipv6 = family 128;
      macAddress = nullOr types.str;
      mtu = nullOr types.int;
      virtual = mkOption { type = types.bool; default = false; };
      virtualType = mkOption { type = types.enum [ "tun" "tap" ]; default = if lib.hasPrefix "tun" name then "tun" else "tap"; };
      virtualOwner = mkOption { type = types.str; default = "root"; };
    };
  });
  gateway = mkOption {
    default = null;
    type = types.nullOr (types.coercedTo types.str (address: { inherit address; }) (types.submodule {
      options.address = mkOption { type = types.str; };
      options.interface = nullOr types.str;
      options.metric = nullOr types.int;
    }));
    description = "Beside the default route of QEMU's user network, which has metric 1024.";
  };
  group = options: mkOption {
    default = { };
    type = types.attrsOf (types.submodule { inherit options; });
  };
  members = mkOption { type = types.listOf types.str; };

  both = get: interface: get interface.ipv4 ++ lib.optionals cfg.enableIPv6 (get interface.ipv6);
  line = key: value: optionalString (value != null) "${key}=${toString value}\n";
  yes = value: if value then "yes" else "no";
  # Who has a card as a member: the lines for the card's own file.
  ofMember = name:
    concatMapStrings (vlan: "VLAN=${vlan.name}\n") (builtins.filter (vlan: vlan.value.interface == name) (lib.attrsToList cfg.vlans))
    + concatMapStrings (bridge: "Bridge=${bridge.name}\n") (builtins.filter (bridge: builtins.elem name bridge.value.interfaces) (lib.attrsToList cfg.bridges))
    + concatMapStrings (bond: "Bond=${bond.name}\n") (builtins.filter (bond: builtins.elem name bond.value.interfaces) (lib.attrsToList cfg.bonds));
  enslaved = lib.concatMap (group: group.interfaces) (builtins.attrValues cfg.bridges ++ builtins.attrValues cfg.bonds);

  network = name: interface: ''
    [Match]
    Name=${name}
    [Link]
    ${line "MACAddress" interface.macAddress}${line "MTUBytes" interface.mtu}[Network]
    DHCP=${if builtins.elem name enslaved then "no"
      else if if interface.useDHCP != null then interface.useDHCP else cfg.useDHCP && interface.ipv4.addresses == [ ] then "ipv4" else "no"}
    ${ofMember name}${concatMapStrings (a: "Address=${a.address}/${toString a.prefixLength}\n") (both (f: f.addresses) interface)}${
      # A bridge or a bond is there for its own sake, with members that have no carrier yet, too.
      optionalString (cfg.bridges ? ${name} || cfg.bonds ? ${name}) "ConfigureWithoutCarrier=yes\n"}${concatMapStrings
      (route: "[Route]\nDestination=${route.address}/${toString route.prefixLength}\n${line "Gateway" route.via}")
      (both (f: f.routes) interface)}'';

  netdevs = builtins.zipAttrsWith (_: lib.concatStrings) [
    (lib.mapAttrs (_: vlan: "Kind=vlan\n[VLAN]\nId=${toString vlan.id}\n") cfg.vlans)
    (lib.mapAttrs (_: _: "Kind=bridge\n") cfg.bridges)
    (lib.mapAttrs
      (_: { driverOptions, ... }: "Kind=bond\n[Bond]\n${line "Mode" driverOptions.mode}${
        line "MIIMonitorSec" (if driverOptions.miimon == null then null else "${driverOptions.miimon}ms")}${
        line "LACPTransmitRate" driverOptions.lacp_rate}${line "TransmitHashPolicy" driverOptions.xmit_hash_policy}")
      cfg.bonds)
    (lib.mapAttrs
      (_: interface: "Kind=${interface.virtualType}\n[${if interface.virtualType == "tun" then "Tun" else "Tap"}]\nUser=${interface.virtualOwner}\n")
      (lib.filterAttrs (_: interface: interface.virtual) cfg.interfaces))
  ];

  file = name: text: { "systemd/network/${name}".text = text; };
  files = lib.concatMapAttrs (name: interface: file "40-${name}.network" (network name interface)) cfg.interfaces
    // lib.concatMapAttrs (name: text: file "40-${name}.netdev" "[NetDev]\nName=${name}\n${text}") netdevs
    // lib.optionalAttrs cfg.useDHCP (file "90-dhcp.network" ''
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
  '');

  gateways = lib.optional (cfg.defaultGateway != null) { flag = "-4"; inherit (cfg) defaultGateway; }
    ++ lib.optional (cfg.enableIPv6 && cfg.defaultGateway6 != null) { flag = "-6"; defaultGateway = cfg.defaultGateway6; };
  setGateway = { flag, defaultGateway }: ''
    until ip ${flag} route replace default via ${defaultGateway.address}${
      optionalString (defaultGateway.interface != null) " dev ${defaultGateway.interface}"}${
      optionalString (defaultGateway.metric != null) " metric ${toString defaultGateway.metric}"} proto static; do
      # Its card has no address yet.
      if [ $((++tries)) -gt 100 ]; then exit 1; fi
      sleep 0.2
    done
  '';
in
{
  options.networking = {
    interfaces = mkOption { type = types.attrsOf interface; default = { }; };
    useDHCP = mkOption { type = types.bool; default = true; };
    vlans = group { id = mkOption { type = types.ints.between 1 4094; }; interface = mkOption { type = types.str; }; };
    bridges = group { interfaces = members; };
    bonds = group {
      interfaces = members;
      driverOptions = {
        mode = nullOr types.str;
        miimon = nullOr types.str;
        lacp_rate = nullOr types.str;
        xmit_hash_policy = nullOr types.str;
      };
    };
    defaultGateway = gateway;
    defaultGateway6 = gateway;
    localCommands = mkOption { type = types.lines; default = ""; description = "Run as root when the network is up."; };
    useNetworkd = lib.mkIgnored types.bool true "networkd is what there is";
    usePredictableInterfaceNames = lib.mkIgnored types.bool false "the card is eth0, as in NixOS's VMs";
    networkmanager.enable = lib.mkIgnored types.bool false "networkd asks for an address";
  };

  config = {
    # Members have files of their own.
    networking.interfaces = lib.genAttrs (enslaved ++ map (vlan: vlan.interface) (builtins.attrValues cfg.vlans)) (_: { });

    environment.etc = files // {
      # Routes that a person sets by hand stay.
      "systemd/networkd.conf".text = "[Network]\nManageForeignRoutes=no\n";
    };

    # Debian's base has networkd, and it is quick.
    systemd.services.systemd-networkd = mkIf (files != { }) {
      wantedBy = [ "multi-user.target" ];
      restartTriggers = map (name: config.environment.etc.${name}.text)
        (builtins.filter (lib.hasPrefix "systemd/network/") (builtins.attrNames config.environment.etc));
      # Addresses stay while it restarts.
      stopIfChanged = false;
    };
    systemd.services.network-setup = mkIf (gateways != [ ]) {
      description = "Networking Setup";
      wantedBy = [ "multi-user.target" ];
      after = [ "network-pre.target" "systemd-networkd.service" ];
      before = [ "network.target" ];
      stopIfChanged = false;
      path = [ pkgs.iproute2 ];
      serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
      script = "tries=0\n${concatMapStrings setGateway gateways}";
    };
    systemd.services.network-local-commands = mkIf (cfg.localCommands != "") {
      description = "Extra networking commands.";
      wantedBy = [ "multi-user.target" ];
      after = [ "network-pre.target" "systemd-networkd.service" ];
      before = [ "network.target" ];
      path = [ pkgs.iproute2 ];
      serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
      script = cfg.localCommands;
    };
  };
}
