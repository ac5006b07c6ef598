# etcd: a store of keys that several machines keep together.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types concatStringsSep;
  cfg = config.services.etcd;

  str = default: mkOption { type = types.str; inherit default; };
  strings = default: mkOption { type = types.listOf types.str; inherit default; };
in
{
  options.services.etcd = {
    enable = mkOption { type = types.bool; default = false; };
    package = mkOption { type = types.package; default = pkgs.etcd; };
    name = str config.networking.hostName;
    listenClientUrls = strings [ "http://127.0.0.1:2379" ];
    listenPeerUrls = strings [ "http://127.0.0.1:2380" ];
    advertiseClientUrls = strings cfg.listenClientUrls;
    initialAdvertisePeerUrls = strings cfg.listenPeerUrls;
    initialCluster = strings [ "${cfg.name}=http://127.0.0.1:2380" ];
    initialClusterState = mkOption { type = types.enum [ "new" "existing" ]; default = "new"; };
    initialClusterToken = str "etcd-cluster";
    extraConf = mkOption { type = types.attrsOf types.str; default = { }; };
    dataDir = mkOption { type = types.path; default = "/var/lib/etcd"; };
    openFirewall = mkOption { type = types.bool; default = false; };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    networking.firewall.allowedTCPPorts = lib.mkIf cfg.openFirewall [ 2379 2380 ];
    users.users.etcd = { isSystemUser = true; group = "etcd"; home = cfg.dataDir; description = "Etcd daemon user"; };
    users.groups.etcd = { };
    systemd.tmpfiles.settings."10-etcd".${cfg.dataDir}.d = { user = "etcd"; mode = "0700"; };
    systemd.services.etcd = {
      description = "etcd key-value store";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" "network-online.target" ];
      wants = [ "network-online.target" ];
      environment = {
        ETCD_NAME = cfg.name;
        ETCD_DATA_DIR = cfg.dataDir;
        ETCD_ADVERTISE_CLIENT_URLS = concatStringsSep "," cfg.advertiseClientUrls;
        ETCD_LISTEN_CLIENT_URLS = concatStringsSep "," cfg.listenClientUrls;
        ETCD_LISTEN_PEER_URLS = concatStringsSep "," cfg.listenPeerUrls;
        ETCD_INITIAL_ADVERTISE_PEER_URLS = concatStringsSep "," cfg.initialAdvertisePeerUrls;
        ETCD_INITIAL_CLUSTER = concatStringsSep "," cfg.initialCluster;
        ETCD_INITIAL_CLUSTER_STATE = cfg.initialClusterState;
        ETCD_INITIAL_CLUSTER_TOKEN = cfg.initialClusterToken;
      } // lib.mapAttrs' (name: lib.nameValuePair "ETCD_${name}") cfg.extraConf;
      serviceConfig = {
        Type = "notify";
        ExecStart = "${lib.getExe cfg.package}";
        User = "etcd";
        LimitNOFILE = 40000;
        Restart = "always";
        RestartSec = "30s";
      };
    };
  };
}
