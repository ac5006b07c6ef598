# The login prompt: what it says, and on which lines.
{ config, lib, ... }:

let
  inherit (lib) mkOption types;
  cfg = config.services.getty;
  baseArgs = [ "--login-program" cfg.loginProgram ]
    ++ lib.optionals (cfg.autologinUser != null) [ "--autologin" cfg.autologinUser ]
    ++ lib.optionals (cfg.loginOptions != null) [ "--login-options" "'${cfg.loginOptions}'" ]
    ++ cfg.extraArgs;
  getty = args: "@/usr/sbin/agetty agetty ${toString baseArgs} ${args}";
in
{
  options.services.getty = {
    autologinUser = mkOption { type = types.nullOr types.str; default = null; };
    loginProgram = mkOption { type = types.path; default = "/bin/login"; };
    loginOptions = mkOption { type = types.nullOr types.str; default = null; };
    extraArgs = mkOption { type = types.listOf types.str; default = [ ]; };
    greetingLine = mkOption { type = types.str; default = "<<< Welcome to ${config.system.nixos.distroName} ${config.system.nixos.label} (\\m) - \\l >>>"; };
    helpLine = mkOption { type = types.lines; default = "\nRun 'nixos-help' for the NixOS manual."; };
  };

  config = {
    # Byte for byte where NixOS's has its lines.
    environment.etc.issue = lib.mkDefault { text = "\n${cfg.greetingLine}\n${cfg.helpLine}\n\n"; };

    systemd.services = {
      "getty@" = {
        serviceConfig.ExecStart = [ "" (getty "--noclear --keep-baud %I 115200,38400,9600 $TERM") ];
        restartIfChanged = false;
      };
      "serial-getty@" = {
        serviceConfig.ExecStart = [ "" (getty "%I --keep-baud $TERM") ];
        restartIfChanged = false;
      };
      "console-getty" = {
        serviceConfig.ExecStart = [ "" (getty "--noclear --keep-baud console 115200,38400,9600 $TERM") ];
        restartIfChanged = false;
      };
    };
    # On tty1, as NixOS: logind starts the others when someone switches to them.
    systemd.targets.getty.wants = [ "getty@tty1.service" ];
  };
}
