# What the module system itself serves: assertions, nixpkgs, versions; and the attributes that are built.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types;
  debian = import ../image/debian.nix;

  # --- Activation scripts, each once, after those that it depends on.

  scripts = config.system.activationScripts;
  # NixOS's own, which activate.pl has done before any of these runs.
  done = [ "binsh" "domain" "etc" "groups" "hostname" "modprobe" "nix" "specialfs" "stdio" "systemd" "tmpfs" "udevd" "users" "usrbinenv" "var" "wrappers" ];
  after = above: name: earlier:
    if builtins.elem name earlier then earlier
    else if builtins.elem name above then throw "system.activationScripts: ${lib.concatStringsSep " needs " (above ++ [ name ])}"
    else if scripts ? ${name} then lib.foldl (order: dep: after (above ++ [ name ]) dep order) earlier scripts.${name}.deps ++ [ name ]
    else if builtins.elem name done then earlier
    else throw "system.activationScripts.${lib.last above}.deps names `${name}', and there is no such script.";
  inOrder = lib.foldl (order: name: after [ ] name order) [ ] (builtins.attrNames scripts);

  platform = config.nixpkgs.hostPlatform;

  # nixos/modules/installer/tools/nixos-version.sh
  revision = config.system.configurationRevision;
  nixosVersion = pkgs.writeShellScriptBin "nixos-version" ''
    case "''${1:-}" in
      --hash|--revision)
        echo "$0: Nixpkgs commit hash is unknown" >&2
        exit 1
        ;;
      --configuration-revision)
        ${if revision == null then ''
        echo "$0: configuration revision is unknown" >&2
        exit 1'' else "echo ${lib.escapeShellArg revision}"}
        ;;
      --json)
        echo ${lib.escapeShellArg (builtins.toJSON ({ nixosVersion = config.system.nixos.version; }
          // lib.optionalAttrs (revision != null) { configurationRevision = revision; }))}
        ;;
      *)
        echo ${lib.escapeShellArg config.system.nixos.label}
        ;;
    esac
  '';
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
      label = mkOption {
        type = types.str;
        default = "${lib.concatStringsSep "-" (builtins.sort (a: b: a < b) config.system.nixos.tags ++ [ config.system.nixos.version ])} (stand-in, Debian ${debian.release})";
      };
      tags = mkOption { type = types.listOf types.str; default = [ ]; };
    };
    system.name = mkOption { type = types.str; default = config.networking.hostName; };
    system.build = mkOption { type = types.lazyAttrsOf types.unspecified; default = { }; };
    system.activationScripts = mkOption {
      type = types.attrsOf (types.coercedTo types.str (text: { inherit text; }) (types.submodule {
        options.text = mkOption { type = types.lines; default = ""; };
        options.deps = mkOption { type = types.listOf types.str; default = [ ]; };
        options.supportsDryActivation = mkOption { type = types.bool; default = false; description = "Also run by dry-activate, which NIXOS_ACTION tells."; };
      }));
      default = { };
      description = "Run as root at every boot before systemd and at every switch, each after its deps.";
    };
    system.extraSystemBuilderCmds = mkOption { type = types.lines; default = ""; description = "Run in bash when the system is built; $out is its folder."; };
    system.configurationRevision = mkOption { type = types.nullOr types.str; default = null; description = "What nixos-version --configuration-revision prints."; };
    system.extraDependencies = mkOption { type = types.listOf types.package; default = [ ]; };

    nixpkgs.overlays = mkOption { type = types.listOf types.raw; default = [ ]; };
    nixpkgs.config = lib.mkIgnored types.attrs { } "no package here asks for leave, and none can be overridden";
    nixpkgs.hostPlatform = mkOption { type = types.either types.str types.attrs; default = "x86_64-linux"; };
    nixpkgs.system = mkOption { type = types.str; default = "x86_64-linux"; };

    # Internal: all that the image's builders get to know of a configuration.
    standin.spec = mkOption { type = types.attrsOf types.unspecified; default = { }; internal = true; };
  };

  config.assertions = map
    ({ option, value }: {
      assertion = value == "x86_64-linux";
      message = "${option} is ${value}, and the stand-in makes machines for x86_64-linux only: others need a real nixpkgs (--nixpkgs).";
    })
    [
      { option = "nixpkgs.hostPlatform"; value = if builtins.isString platform then platform else platform.system or "unknown"; }
      { option = "nixpkgs.system"; value = config.nixpkgs.system; }
    ];

  config.environment.systemPackages = [ nixosVersion ];

  config.standin.spec = {
    inherit (config.system) name extraSystemBuilderCmds extraDependencies;
    inherit (config.system.nixos) label;
    activationScripts = map (name: { inherit name; inherit (scripts.${name}) text supportsDryActivation; }) inOrder;
  };
}
