# Switching to another system: what switch-to-configuration asks and calls, and specialisations.
{ config, lib, pkgs, extendModules, noUserModules, ... }:

let
  inherit (lib) mkOption types;
  cfg = config.system;

  # The configurations that specialisations make. They have none of their own.
  children = lib.mapAttrs
    (_: s: ((if s.inheritParentConfig then extendModules else noUserModules.extendModules) {
      modules = [ s.configuration { specialisation = lib.mkOverride 0 { }; } ];
    }).config)
    config.specialisation;

  # There is no Nix in the machine: as much of nix-env as generations need.
  nixEnv = pkgs.writeScriptBin "nix-env" (builtins.readFile ../image/switch/nix-env.pl);
in
{
  options = {
    system.switch.enable = mkOption { type = types.bool; default = true; description = "Whether the system has bin/switch-to-configuration."; };
    system.switch.enableNg = lib.mkIgnored types.bool true "there is one program, which says and does what the newer one does";
    system.switch.inhibitors = mkOption {
      type = types.attrsOf types.str;
      default = { };
      description = "Components that can't be changed by a switch: one whose text differs from the current system's refuses it.";
    };
    system.preSwitchChecks = mkOption { type = types.attrsOf types.str; default = { }; description = "Shell; each gets the new system and the action, and refuses the switch by its status."; };

    specialisation = mkOption {
      default = { };
      type = types.attrsOf (types.submodule {
        options.inheritParentConfig = mkOption { type = types.bool; default = true; };
        options.configuration = mkOption { type = types.deferredModule; default = { }; };
      });
    };

    # Assertions of specialisations that do not hold. They are looked at once the configuration's own do.
    standin.failed = mkOption { type = types.listOf types.str; default = [ ]; internal = true; };
    standin.alsoPackagesOf = mkOption {
      type = types.listOf types.raw;
      default = [ ];
      description = "Configurations whose packages the disk image has too, so that the machine can be switched to them.";
    };
  };

  config = {
    # NixOS installs a boot loader here. These machines have none, and its installer says nothing.
    system.build.installBootLoader = lib.mkDefault "/bin/true";
    system.switch.inhibitors.dbus-implementation = lib.mkDefault "dbus";
    system.preSwitchChecks.switchInhibitors = ''
      /usr/bin/perl ${../image/switch/inhibitors.pl} "$@"
    '';
    environment.systemPackages = [ nixEnv ];

    standin.spec = {
      inherit (cfg) preSwitchChecks;
      installBootLoader = "${cfg.build.installBootLoader}";
      switchInhibitors = cfg.switch.inhibitors;
      switchable = cfg.switch.enable;
      specialisations = lib.mapAttrs (_: child: child.standin.spec) children;
    };
    standin.failed = lib.concatLists (lib.mapAttrsToList
      (name: child: map (a: "specialisation.${name}: ${a.message}") (builtins.filter (a: !a.assertion) child.assertions))
      children);
  };
}
