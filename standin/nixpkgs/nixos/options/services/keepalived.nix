# keepalived: VRRP, with addresses that move to another machine.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types optionalString concatStrings concatMapStrings mapAttrsToList;
  cfg = config.services.keepalived;

  bool = mkOption { type = types.bool; default = false; };
  int = default: mkOption { type = types.int; inherit default; };
  lines = mkOption { type = types.lines; default = ""; };
  strings = mkOption { type = types.listOf types.str; default = [ ]; };
  str = mkOption { type = types.str; };
  nullOrStr = mkOption { type = types.nullOr types.str; default = null; };

  script = types.submodule {
    options = {
      script = str;
      interval = int 1;
      timeout = int 5;
      weight = int 0;
      rise = int 5;
      fall = int 3;
      user = mkOption { type = types.str; default = "keepalived_script"; };
      group = nullOrStr;
      extraConfig = lines;
    };
  };
  instance = types.submodule {
    options = {
      interface = mkOption { type = types.nonEmptyStr; };
      state = mkOption { type = types.enum [ "MASTER" "BACKUP" ]; default = "BACKUP"; };
      virtualRouterId = mkOption { type = types.ints.between 1 255; };
      priority = mkOption { type = types.ints.between 0 255; default = 100; };
      noPreempt = bool;
      unicastSrcIp = nullOrStr;
      unicastPeers = strings;
      virtualIps = mkOption {
        default = [ ];
        type = types.listOf (types.submodule {
          options = { addr = str; brd = nullOrStr; dev = nullOrStr; scope = nullOrStr; label = nullOrStr; };
        });
      };
      trackScripts = strings;
      trackInterfaces = strings;
      extraConfig = lines;
    };
  };

  line = key: value: optionalString (value != null && value != "") " ${key} ${toString value}";
  block = name: values: optionalString (values != [ ]) "  ${name} {\n${concatMapStrings (value: "    ${value}\n") values}  }\n";
  showScript = name: s: ''
    vrrp_script ${name} {
      script "${s.script}"
      interval ${toString s.interval}
      timeout ${toString s.timeout}
      weight ${toString s.weight}
      rise ${toString s.rise}
      fall ${toString s.fall}
      user ${s.user}${optionalString (s.group != null) " ${s.group}"}
      ${s.extraConfig}
    }
  '';
  showInstance = name: i: ''
    vrrp_instance ${name} {
      interface ${i.interface}
      state ${i.state}
      virtual_router_id ${toString i.virtualRouterId}
      priority ${toString i.priority}
      ${optionalString i.noPreempt "nopreempt"}
     ${line "unicast_src_ip" i.unicastSrcIp}
    ${block "unicast_peer" i.unicastPeers}${block "virtual_ipaddress"
      (map (ip: ip.addr + line "brd" ip.brd + line "dev" ip.dev + line "scope" ip.scope + line "label" ip.label) i.virtualIps)}${
      block "track_script" i.trackScripts}${block "track_interface" i.trackInterfaces}  ${i.extraConfig}
    }
  '';
  configFile = pkgs.writeText "keepalived.conf" ''
    # Written by the stand-in, from services.keepalived.
    global_defs {
      ${optionalString cfg.enableScriptSecurity "enable_script_security"}
      ${cfg.extraGlobalDefs}
    }
    ${concatStrings (mapAttrsToList showScript cfg.vrrpScripts)}${concatStrings (mapAttrsToList showInstance cfg.vrrpInstances)}${cfg.extraConfig}
  '';
in
{
  options.services.keepalived = {
    enable = bool;
    openFirewall = bool;
    enableScriptSecurity = bool;
    vrrpScripts = mkOption { type = types.attrsOf script; default = { }; };
    vrrpInstances = mkOption { type = types.attrsOf instance; default = { }; };
    extraGlobalDefs = lines;
    extraConfig = lines;
  };

  config = lib.mkIf cfg.enable {
    assertions = lib.concatLists (mapAttrsToList
      (name: i: map
        (script: {
          assertion = cfg.vrrpScripts ? ${script};
          message = "services.keepalived.vrrpInstances.${name} trackscript ${script} is not defined in services.keepalived.vrrpScripts.";
        })
        i.trackScripts)
      cfg.vrrpInstances);
    # VRRP and AH.
    networking.firewall.extraInputRules = lib.mkIf cfg.openFirewall "meta l4proto { 112, 51 } accept\n";
    systemd.services.keepalived = {
      description = "Keepalive Daemon (LVS and VRRP)";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" "network-online.target" ];
      wants = [ "network-online.target" ];
      # Brings the package into the image.
      path = [ pkgs.keepalived ];
      serviceConfig = {
        Type = "forking";
        PIDFile = "/run/keepalived.pid";
        KillMode = "process";
        RuntimeDirectory = "keepalived";
        ExecStart = "/usr/sbin/keepalived -f ${configFile} -p /run/keepalived.pid";
        ExecReload = "/bin/kill -HUP $MAINPID";
        Restart = "always";
        RestartSec = "1s";
      };
    };
  };
}
