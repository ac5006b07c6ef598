# nginx: virtual hosts with files, redirects, answers and proxies.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types mkIf concatStrings mapAttrsToList optionalString;
  cfg = config.services.nginx;

  text = mkOption { type = types.lines; default = ""; };
  nullOrStr = mkOption { type = types.nullOr types.str; default = null; };
  return = mkOption { type = types.nullOr (types.oneOf [ types.str types.int ]); default = null; };
  root = mkOption { type = types.nullOr types.path; default = null; };
  bool = default: mkOption { type = types.bool; inherit default; };

  location = types.submodule {
    options = {
      inherit root return;
      recommendedProxySettings = bool cfg.recommendedProxySettings;
      proxyPass = nullOrStr;
      proxyWebsockets = bool false;
      index = nullOrStr;
      tryFiles = nullOrStr;
      alias = mkOption { type = types.nullOr types.path; default = null; };
      extraConfig = text;
      priority = mkOption { type = types.int; default = 1000; };
    };
  };
  listen = types.submodule {
    options = {
      addr = mkOption { type = types.str; default = "0.0.0.0"; };
      port = mkOption { type = types.nullOr types.port; default = null; };
      ssl = bool false;
      extraParameters = mkOption { type = types.listOf types.str; default = [ ]; };
    };
  };
  virtualHost = types.submodule ({ name, ... }: {
    options = {
      inherit root return;
      serverName = mkOption { type = types.nullOr types.str; default = null; };
      serverAliases = mkOption { type = types.listOf types.str; default = [ ]; };
      default = bool false;
      listen = mkOption { type = types.listOf listen; default = [ ]; };
      locations = mkOption { type = types.attrsOf location; default = { }; };
      globalRedirect = nullOrStr;
      extraConfig = text;
    };
  });

  directive = name: value: optionalString (value != null) "${name} ${toString value};\n";
  # As NixOS's nginx-recommended-proxy-headers.conf.
  proxyHeaders = ''
    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $host;
    proxy_set_header X-Forwarded-Server $hostname;
  '';
  showLocation = path: l: ''
    location ${path} {
      ${directive "root" l.root}${directive "alias" l.alias}${directive "index" l.index}${directive "try_files" l.tryFiles}${directive "return" l.return}${
      directive "proxy_pass" l.proxyPass}${optionalString (l.proxyPass != null && l.recommendedProxySettings) proxyHeaders}${optionalString l.proxyWebsockets "proxy_http_version 1.1;\nproxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection \"upgrade\";\n"}${l.extraConfig}
    }
  '';
  # NixOS's port for an address without one: 443 with TLS.
  portOf = l: if l.port != null then l.port else if l.ssl then 443 else cfg.defaultHTTPListenPort;
  showListen = host: l: "listen ${l.addr}:${toString (portOf l)}${optionalString l.ssl " ssl"}${
    optionalString host.default " default_server"}${lib.concatMapStrings (p: " ${p}") l.extraParameters};\n";
  showHost = name: host: ''
    server {
      ${if host.listen != [ ] then lib.concatMapStrings (showListen host) host.listen
        else "listen 0.0.0.0:${toString cfg.defaultHTTPListenPort}${optionalString host.default " default_server"};\n${
          optionalString config.networking.enableIPv6 "listen [::0]:${toString cfg.defaultHTTPListenPort}${optionalString host.default " default_server"};\n"}"}server_name ${if host.serverName == null then name else host.serverName} ${toString host.serverAliases};
      ${directive "root" host.root}${optionalString (host.globalRedirect != null) "location / { return 301 http://${host.globalRedirect}$request_uri; }\n"}${directive "return" host.return}${
        lib.concatMapStrings (l: showLocation l.name l.value) (builtins.sort (a: b: a.value.priority < b.value.priority) (lib.attrsToList host.locations))}${host.extraConfig}
    }
  '';

  configFile = pkgs.writeText "nginx.conf" ''
    # Written by the stand-in, from services.nginx.
    pid /run/nginx/nginx.pid;
    error_log stderr;
    daemon off;
    ${cfg.appendConfig}
    events {
      ${cfg.eventsConfig}
    }
    http {
      include /etc/nginx/mime.types;
      default_type application/octet-stream;
      access_log /var/log/nginx/access.log;
      client_max_body_size ${cfg.clientMaxBodySize};
      client_body_temp_path /var/cache/nginx/client_body;
      proxy_temp_path /var/cache/nginx/proxy;
      fastcgi_temp_path /var/cache/nginx/fastcgi;
      uwsgi_temp_path /var/cache/nginx/uwsgi;
      scgi_temp_path /var/cache/nginx/scgi;
      ${optionalString cfg.recommendedOptimisation "sendfile on;\ntcp_nopush on;\ntcp_nodelay on;\nkeepalive_timeout 65;\n"}${
        optionalString cfg.recommendedGzipSettings "gzip on;\n"}${
        optionalString cfg.recommendedTlsSettings "ssl_session_timeout 1d;\nssl_session_cache shared:SSL:10m;\nssl_session_tickets off;\nssl_prefer_server_ciphers off;\n"}${
        optionalString cfg.recommendedProxySettings "proxy_redirect off;\nproxy_connect_timeout 60s;\nproxy_send_timeout 60s;\nproxy_read_timeout 60s;\nproxy_http_version 1.1;\nproxy_set_header Connection \"\";\n${proxyHeaders}"}${cfg.commonHttpConfig}
      ${concatStrings (mapAttrsToList showHost cfg.virtualHosts)}
      ${cfg.appendHttpConfig}
    }
  '';
in
{
  options.services.nginx = {
    enable = bool false;
    virtualHosts = mkOption { type = types.attrsOf virtualHost; default = { }; };
    defaultHTTPListenPort = mkOption { type = types.port; default = 80; };
    user = mkOption { type = types.str; default = "nginx"; };
    group = mkOption { type = types.str; default = "nginx"; };
    clientMaxBodySize = mkOption { type = types.str; default = "10m"; };
    recommendedGzipSettings = bool false;
    recommendedOptimisation = bool false;
    recommendedProxySettings = bool false;
    recommendedTlsSettings = bool false;
    statusPage = bool false;
    eventsConfig = text;
    commonHttpConfig = text;
    appendHttpConfig = text;
    appendConfig = text;
  };

  config = mkIf cfg.enable {
    users.users = lib.optionalAttrs (cfg.user == "nginx") { nginx = { isSystemUser = true; inherit (cfg) group; uid = 60; }; };
    users.groups = lib.optionalAttrs (cfg.group == "nginx") { nginx.gid = 60; };
    services.nginx.virtualHosts = mkIf cfg.statusPage {
      localhost.locations."/nginx_status".extraConfig = "stub_status on;\naccess_log off;\nallow 127.0.0.1;\ndeny all;\n";
    };
    systemd.tmpfiles.rules = [ "Z /var/log/nginx 0750 ${cfg.user} ${cfg.group}" ];

    systemd.services.nginx = {
      description = "Nginx Web Server";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      stopIfChanged = false;
      # Brings the package into the image.
      path = [ pkgs.nginx ];
      serviceConfig = {
        ExecStart = "/usr/sbin/nginx -c ${configFile}";
        ExecReload = "/bin/kill -HUP $MAINPID";
        Restart = "always";
        RestartSec = "10s";
        User = cfg.user;
        Group = cfg.group;
        RuntimeDirectory = "nginx";
        RuntimeDirectoryMode = "0750";
        CacheDirectory = "nginx";
        CacheDirectoryMode = "0750";
        LogsDirectory = "nginx";
        LogsDirectoryMode = "0750";
        UMask = "0027";
        AmbientCapabilities = [ "CAP_NET_BIND_SERVICE" ];
        CapabilityBoundingSet = [ "CAP_NET_BIND_SERVICE" ];
        NoNewPrivileges = true;
      };
    };
  };
}
