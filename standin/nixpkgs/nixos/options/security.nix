# sudo, PAM and the programs that run as root.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types mkIf optionalString;
  cfg = config.security.sudo;

  rule = types.submodule {
    options = {
      users = mkOption { type = types.listOf (types.either types.str types.int); default = [ ]; };
      groups = mkOption { type = types.listOf (types.either types.str types.int); default = [ ]; };
      host = mkOption { type = types.str; default = "ALL"; };
      runAs = mkOption { type = types.str; default = "ALL:ALL"; };
      commands = mkOption {
        default = [ ];
        type = types.listOf (types.either types.str (types.submodule {
          options.command = mkOption { type = types.str; };
          options.options = mkOption { type = types.listOf types.str; default = [ ]; };
        }));
      };
    };
  };
  showCommand = c: if builtins.isString c then c else "${lib.concatMapStrings (o: "${o}: ") c.options}${c.command}";
  showRule = r: lib.concatMapStringsSep "\n"
    (who: "${who} ${r.host}=(${r.runAs}) ${lib.concatMapStringsSep ", " showCommand r.commands}")
    (map toString r.users ++ map (g: "%${toString g}") r.groups);

  # As NixOS's, without what a machine on a test bench never has (Kerberos, fingerprints, …).
  pam = { auth ? "", session ? "", password ? "" }: ''
    account required pam_unix.so
    ${auth}auth sufficient pam_unix.so likeauth nullok try_first_pass
    auth required pam_deny.so
    password sufficient pam_unix.so nullok yescrypt
    session required pam_env.so conffile=/etc/pam/environment readenv=0
    session required pam_unix.so
    ${session}'';
  loginSession = ''
    session required pam_loginuid.so
    session optional pam_systemd.so
  '' + optionalString (config.users.motd != null) "session optional pam_motd.so motd=/etc/motd\n";
  # The three seconds before "Login incorrect".
  delay = "auth optional pam_faildelay.so delay=3000000\n";
in
{
  options.security = {
    sudo = {
      enable = mkOption { type = types.bool; default = true; };
      wheelNeedsPassword = mkOption { type = types.bool; default = true; };
      execWheelOnly = mkOption { type = types.bool; default = false; };
      extraConfig = mkOption { type = types.lines; default = ""; };
      extraRules = mkOption { type = types.listOf rule; default = [ ]; };
    };
    polkit.enable = lib.mkIgnored types.bool false "";
    rtkit.enable = lib.mkIgnored types.bool false "";
    pam.services = mkOption {
      default = { };
      type = types.attrsOf (types.submodule {
        options.text = mkOption { type = types.nullOr types.lines; default = null; };
      });
    };
  };

  config = {
    assertions = [{
      assertion = cfg.execWheelOnly -> builtins.all
        (rule: builtins.all (user: user == "root") rule.users && builtins.all (group: group == "wheel") rule.groups)
        cfg.extraRules;
      message = "Some definitions in `security.sudo.extraRules` refer to users other than 'root' or groups other than 'wheel'. Disable `config.security.sudo.execWheelOnly`, or adjust the rules.";
    }];

    environment.etc = lib.mkMerge [
      (mkIf cfg.enable {
        sudoers = {
          mode = "0440";
          text = ''
            # Written by the stand-in, from security.sudo.
            Defaults:root,%wheel env_keep+=TERMINFO_DIRS
            Defaults:root,%wheel env_keep+=TERMINFO
            # Debian builds sudo without the lecture; NixOS's gives it once.
            Defaults lecture=once
            root ALL=(ALL:ALL) SETENV: ALL
            %wheel ALL=(ALL:ALL) ${optionalString (!cfg.wheelNeedsPassword) "NOPASSWD:"}SETENV: ALL
            ${lib.concatMapStringsSep "\n" showRule cfg.extraRules}
            ${cfg.extraConfig}
          '';
        };
      })
      {
        "pam/environment".text = "# Nothing: /etc/profile sets the environment.\n";
        "pam.d/login".text = lib.mkDefault (pam { auth = delay; session = loginSession; });
        "pam.d/sshd".text = lib.mkDefault (pam { auth = delay; session = loginSession; });
        "pam.d/sudo".text = lib.mkDefault (pam { });
        "pam.d/su".text = lib.mkDefault (pam { auth = "auth sufficient pam_rootok.so\n"; });
        "pam.d/su-l".text = lib.mkDefault (pam { auth = "auth sufficient pam_rootok.so\n"; session = "session optional pam_systemd.so\n"; });
        "pam.d/systemd-user".text = lib.mkDefault ''
          account required pam_unix.so
          session required pam_loginuid.so
          session optional pam_keyinit.so force revoke
          session required pam_unix.so
          session optional pam_systemd.so
        '';
      }
      (lib.mapAttrs' (name: service: lib.nameValuePair "pam.d/${name}" { inherit (service) text; })
        (lib.filterAttrs (_: service: service.text != null) config.security.pam.services))
      (mkIf (config.users.motd != null) { motd.text = config.users.motd; })
    ];
    standin.spec.sudoForWheelOnly = cfg.execWheelOnly;
    standin.spec.wrappers = [ "chsh" "mount" "newgrp" "passwd" "ping" "su" "umount" ] ++ lib.optional cfg.enable "sudo" ++ lib.optional cfg.enable "sudoedit";
  };
}
