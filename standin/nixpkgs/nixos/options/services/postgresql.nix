# PostgreSQL 15, Debian's; its data folder is made with the image and has no more than initdb puts there.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types mkIf optionalString;
  cfg = config.services.postgresql;
  bin = "/usr/lib/postgresql/15/bin";
  text = mkOption { type = types.lines; default = ""; };

  show = v:
    if builtins.isBool v then (if v then "on" else "off")
    else if builtins.isString v then "'${lib.replaceStrings [ "'" ] [ "''" ] v}'"
    else toString v;
  hba = pkgs.writeText "pg_hba.conf" cfg.authentication;
  ident = pkgs.writeText "pg_ident.conf" cfg.identMap;
  configFile = pkgs.writeText "postgresql.conf" (lib.concatStrings (lib.mapAttrsToList
    (name: v: optionalString (v != null) "${name} = ${show v}\n")
    cfg.settings));

  # What is to be there, as one script for one psql: each psql of its own takes half a second under emulation.
  unless = query: statement: "SELECT $$${statement}$$ WHERE NOT EXISTS (${query})\\gexec\n";
  ensureUser = u:
    unless "SELECT FROM pg_roles WHERE rolname = '${u.name}'" "CREATE USER \"${u.name}\""
    + optionalString u.ensureDBOwnership "ALTER DATABASE \"${u.name}\" OWNER TO \"${u.name}\";\n"
    + lib.concatStrings (lib.mapAttrsToList (on: what: "GRANT ${what} ON ${on} TO \"${u.name}\";\n") u.ensurePermissions)
    + lib.concatStrings (lib.mapAttrsToList
      (clause: on: optionalString (on != null) "ALTER ROLE \"${u.name}\" ${optionalString (!on) "NO"}${clause};\n")
      u.ensureClauses);
  ensure = pkgs.writeText "postgresql-ensure.sql" (
    lib.concatMapStrings (db: unless "SELECT FROM pg_database WHERE datname = '${db}'" "CREATE DATABASE \"${db}\"") cfg.ensureDatabases
    + lib.concatMapStrings ensureUser cfg.ensureUsers);
in
{
  options.services.postgresql = {
    enable = mkOption { type = types.bool; default = false; };
    package = mkOption { type = types.package; default = pkgs.postgresql; };
    dataDir = mkOption { type = types.path; default = "/var/lib/postgresql/15"; };
    port = mkOption { type = types.port; default = 5432; };
    enableTCPIP = mkOption { type = types.bool; default = false; };
    ensureDatabases = mkOption { type = types.listOf types.str; default = [ ]; };
    ensureUsers = mkOption {
      default = [ ];
      type = types.listOf (types.submodule {
        options = {
          name = mkOption { type = types.str; };
          ensureDBOwnership = mkOption { type = types.bool; default = false; };
          ensurePermissions = mkOption { type = types.attrsOf types.str; default = { }; };
          ensureClauses = mkOption { type = types.attrsOf (types.nullOr types.bool); default = { }; };
        };
      });
    };
    authentication = text;
    identMap = text;
    initialScript = mkOption { type = types.nullOr types.path; default = null; };
    settings = mkOption { type = types.attrsOf (types.nullOr (types.oneOf [ types.bool types.int types.float types.str ])); default = { }; };
    checkConfig = lib.mkIgnored types.bool true "";
  };

  config = mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    services.postgresql = {
      authentication = lib.mkAfter ''
        # Written by the stand-in, as NixOS has it.
        local all all              peer
        host  all all 127.0.0.1/32 md5
        host  all all ::1/128      md5
      '';
      settings = {
        hba_file = "${hba}";
        ident_file = "${ident}";
        log_destination = "stderr";
        listen_addresses = if cfg.enableTCPIP then "*" else "localhost";
        unix_socket_directories = "/run/postgresql";
        port = cfg.port;
        jit = false;
      };
    };

    systemd.services.postgresql = {
      description = "PostgreSQL Server";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      environment.PGDATA = cfg.dataDir;
      path = [ cfg.package ];
      # Only for a data folder of one's own: the usual one comes with the image.
      preStart = ''
        if ! test -e ${cfg.dataDir}/PG_VERSION; then
          ${bin}/initdb -U postgres -E UTF8 --locale=C.UTF-8 -D ${cfg.dataDir}
        fi
      '';
      postStart = ''
        psql() { ${bin}/psql -d postgres --port=${toString cfg.port} "$@"; }
        while ! psql -c "" 2>/dev/null; do
          if ! kill -0 "$MAINPID"; then exit 1; fi
          sleep 0.1
        done
        ${lib.optionalString (cfg.initialScript != null) ''
          if ! test -e "${cfg.dataDir}/.initial-script-done"; then
            psql -f ${cfg.initialScript}
            touch "${cfg.dataDir}/.initial-script-done"
          fi
        ''}
        ${optionalString (cfg.ensureDatabases != [ ] || cfg.ensureUsers != [ ]) "psql -v ON_ERROR_STOP=1 -q -f ${ensure}"}
      '';
      serviceConfig = {
        ExecStart = "${bin}/postgres -D ${cfg.dataDir} -c config_file=${configFile}";
        ExecReload = "/bin/kill -HUP $MAINPID";
        User = "postgres";
        Group = "postgres";
        RuntimeDirectory = "postgresql";
        Type = "notify";
        # Clients that hang on must not keep the machine from going down.
        KillSignal = "SIGINT";
        KillMode = "mixed";
        TimeoutSec = 120;
      };
      unitConfig.RequiresMountsFor = cfg.dataDir;
    };
  };
}
