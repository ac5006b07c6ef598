# What the module system itself serves: assertions, nixpkgs, versions; and the attributes that are built.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types;
  debian = import ../image/debian.nix;
in
{
  options = {
    assertions = mkOption { type = types.listOf types.unspecified; default = [ ]; };
    warnings = mkOption { type = types.listOf types.str; default = [ ]; };

    system.stateVersion = mkOption {
      type = types.str;
      default = "23.11";
      description = "Accepted; the greeting shows it as the release.";
    };
    system.nixos = {
      distroName = mkOption { type = types.str; default = "NixOS"; };
      release = mkOption { type = types.str; default = lib.versions.majorMinor config.system.stateVersion; };
      version = mkOption { type = types.str; default = config.system.nixos.release; };
      label = mkOption { type = types.str; default = "${config.system.nixos.version} (stand-in, Debian ${debian.release})"; };
      tags = mkOption { type = types.listOf types.str; default = [ ]; };
    };
    system.name = mkOption { type = types.str; default = config.networking.hostName; };
    system.build = mkOption { type = types.lazyAttrsOf types.unspecified; default = { }; };
    system.activationScripts = mkOption {
      type = types.attrsOf (types.coercedTo types.str (text: { inherit text; }) (types.submodule {
        options.text = mkOption { type = types.lines; default = ""; };
        options.deps = mkOption { type = types.listOf types.str; default = [ ]; };
      }));
      default = { };
      description = "Run as root at every boot before systemd, in the order of their names.";
    };
    system.extraDependencies = mkOption { type = types.listOf types.package; default = [ ]; };

    nixpkgs.overlays = mkOption { type = types.listOf types.raw; default = [ ]; };
    nixpkgs.config = mkOption { type = types.attrs; default = { }; };
    nixpkgs.hostPlatform = mkOption { type = types.either types.str types.attrs; default = "x86_64-linux"; };
    nixpkgs.system = mkOption { type = types.str; default = "x86_64-linux"; };

    # Internal: all that the image's builders get to know of a configuration.
    standin.spec = mkOption { type = types.attrsOf types.unspecified; default = { }; internal = true; };
  };

  config.standin.spec = {
    inherit (config.system.nixos) label;
    activationScripts = lib.mapAttrsToList (_: script: script.text) config.system.activationScripts;
    extraDependencies = config.system.extraDependencies;
  };
}
