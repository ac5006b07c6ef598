# sshd.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types mkIf;
  cfg = config.services.openssh;
  value = types.oneOf [ types.bool types.int types.str (types.listOf types.str) ];
  show = v: if builtins.isBool v then (if v then "yes" else "no") else if builtins.isList v then lib.concatStringsSep "," v else toString v;
  option = default: mkOption { type = types.nullOr value; inherit default; };
in
{
  options.services.openssh = {
    enable = mkOption { type = types.bool; default = false; };
    ports = mkOption { type = types.listOf types.port; default = [ 22 ]; };
    openFirewall = mkOption { type = types.bool; default = true; };
    listenAddresses = mkOption {
      default = [ ];
      type = types.listOf (types.submodule {
        options.addr = mkOption { type = types.str; };
        options.port = mkOption { type = types.nullOr types.port; default = null; };
      });
    };
    startWhenNeeded = lib.mkIgnored types.bool false "sshd always runs";
    settings = mkOption {
      default = { };
      type = types.submodule {
        freeformType = types.attrsOf (types.nullOr value);
        options = {
          PasswordAuthentication = option true;
          PermitRootLogin = option "prohibit-password";
          KbdInteractiveAuthentication = option true;
          X11Forwarding = option false;
          UseDns = option false;
        };
      };
    };
    extraConfig = mkOption { type = types.lines; default = ""; };
    authorizedKeysFiles = mkOption { type = types.listOf types.str; default = [ ]; };
    hostKeys = mkOption { type = types.listOf (types.attrsOf types.anything); default = [{ type = "ed25519"; path = "/etc/ssh/ssh_host_ed25519_key"; }]; };
    allowSFTP = mkOption { type = types.bool; default = true; };
  };

  config = mkIf cfg.enable {
    environment.systemPackages = [ pkgs.standinServices.openssh-server ];
    networking.firewall.allowedTCPPorts = lib.optionals cfg.openFirewall cfg.ports;
    services.openssh.authorizedKeysFiles = lib.mkBefore [ "%h/.ssh/authorized_keys" "/etc/ssh/authorized_keys.d/%u" ];

    environment.etc."ssh/sshd_config".text = ''
      # Written by the stand-in, from services.openssh.
      UsePAM yes
      PrintMotd no
      ${lib.concatMapStrings (port: "Port ${toString port}\n") cfg.ports}${lib.concatMapStrings
        (l: "ListenAddress ${l.addr}${lib.optionalString (l.port != null) ":${toString l.port}"}\n") cfg.listenAddresses}${
        lib.concatMapStrings (key: "HostKey ${key.path}\n") cfg.hostKeys}AuthorizedKeysFile ${toString cfg.authorizedKeysFiles}
      ${lib.optionalString cfg.allowSFTP "Subsystem sftp /usr/lib/openssh/sftp-server"}
      ${lib.concatStrings (lib.mapAttrsToList (name: v: lib.optionalString (v != null) "${name} ${show v}\n") cfg.settings)}${cfg.extraConfig}
    '';

    systemd.services.sshd = {
      description = "SSH Daemon";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      restartTriggers = [ config.environment.etc."ssh/sshd_config".text ];
      # Connections go on.
      stopIfChanged = false;
      # Made by the machine that uses them. NixOS also makes an RSA key, which takes half a minute under emulation.
      preStart = lib.concatMapStrings
        (key: ''
          if ! [ -s "${key.path}" ]; then
            rm -f "${key.path}"
            mkdir -m 0755 -p "$(dirname '${key.path}')"
            ssh-keygen -q -t "${key.type}" ${lib.optionalString (key ? bits) "-b ${toString key.bits}"} -f "${key.path}" -N ""
          fi
        '')
        cfg.hostKeys;
      serviceConfig = {
        ExecStart = "/usr/sbin/sshd -D -f /etc/ssh/sshd_config";
        ExecReload = "/bin/kill -HUP $MAINPID";
        KillMode = "process";
        Restart = "always";
        Type = "notify";
        RuntimeDirectory = "sshd";
        RuntimeDirectoryMode = "0755";
      };
    };
    # Debian's name of it.
    systemd.services.ssh.enable = false;
  };
}
