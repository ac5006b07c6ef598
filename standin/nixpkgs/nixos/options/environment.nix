# The system's packages, /etc, and what a shell starts with.
{ config, lib, pkgs, ... }:

let
  inherit (lib) mkOption types;
  cfg = config.environment;

  entry = { name, config, ... }: {
    options = {
      enable = mkOption { type = types.bool; default = true; };
      target = mkOption { type = types.str; default = name; };
      text = mkOption { type = types.nullOr types.lines; default = null; };
      source = mkOption { type = types.nullOr types.path; default = null; };
      mode = mkOption { type = types.str; default = "symlink"; };
      uid = mkOption { type = types.int; default = 0; };
      gid = mkOption { type = types.int; default = 0; };
      user = mkOption { type = types.str; default = "+${toString config.uid}"; };
      group = mkOption { type = types.str; default = "+${toString config.gid}"; };
    };
  };

  variables = types.attrsOf (types.oneOf [ (types.listOf (types.oneOf [ types.int types.str types.path ])) types.int types.str types.path ]);
  showVariable = value: if builtins.isList value then lib.concatMapStringsSep ":" toString value else toString value;
  exports = set: lib.concatStrings (lib.mapAttrsToList (name: value: "export ${name}=\"${showVariable value}\"\n") set);
in
{
  options.environment = {
    systemPackages = mkOption { type = types.listOf types.package; default = [ ]; };
    defaultPackages = mkOption { type = types.listOf types.package; default = [ ]; };
    etc = mkOption { type = types.attrsOf (types.submodule entry); default = { }; };
    variables = mkOption { type = variables; default = { }; };
    sessionVariables = mkOption { type = variables; default = { }; };
    shellAliases = mkOption { type = types.attrsOf (types.nullOr (types.either types.str types.path)); default = { }; };
    shellInit = mkOption { type = types.lines; default = ""; };
    loginShellInit = mkOption { type = types.lines; default = ""; };
    interactiveShellInit = mkOption { type = types.lines; default = ""; };
    extraInit = mkOption { type = types.lines; default = ""; };
    localBinInPath = mkOption { type = types.bool; default = false; };
    homeBinInPath = mkOption { type = types.bool; default = false; };
    pathsToLink = lib.mkIgnored (types.listOf types.str) [ ] "";
    shells = lib.mkIgnored (types.listOf (types.either types.shellPackage types.path)) [ ] "every shell of the machine is in /etc/shells";
    stub-ld.enable = lib.mkIgnored types.bool true "programs of other distributions run";
  };

  config = {
    environment.variables = {
      NIXPKGS_CONFIG = lib.mkDefault "/etc/nix/nixpkgs-config.nix";
      EDITOR = lib.mkDefault "nano";
      PAGER = lib.mkDefault "less -R";
    };
    environment.sessionVariables = {
      XDG_CONFIG_DIRS = [ "/etc/xdg" ];
      XDG_DATA_DIRS = [ "/etc/profiles/per-user/$USER/share" "/run/current-system/sw/share" "/usr/local/share" "/usr/share" ];
    };

    environment.etc = {
      "set-environment".text = ''
        # Written by the stand-in. Sourced by every shell, once.
        export __NIXOS_SET_ENVIRONMENT_DONE=1
        ${exports (cfg.sessionVariables // cfg.variables)}
        export NIX_USER_PROFILE_DIR="/nix/var/nix/profiles/per-user/$USER"
        export NIX_PROFILES="/nix/var/nix/profiles/default /run/current-system/sw /etc/profiles/per-user/$USER $HOME/.nix-profile"
        export PATH="/run/wrappers/bin:$HOME/.nix-profile/bin:/nix/profile/bin:$HOME/.local/state/nix/profile/bin:/etc/profiles/per-user/$USER/bin:/nix/var/nix/profiles/default/bin:/run/current-system/sw/bin"
        ${lib.optionalString cfg.localBinInPath "export PATH=\"$HOME/.local/bin:$PATH\""}
        ${lib.optionalString cfg.homeBinInPath "export PATH=\"$HOME/bin:$PATH\""}
        ${cfg.extraInit}
      '';
    };

    standin.spec = {
      systemPackages = cfg.systemPackages ++ cfg.defaultPackages;
      etc = map
        (e: {
          inherit (e) target mode user group;
        } // (if e.text != null then { inherit (e) text; } else if e.source != null then { source = "${e.source}"; }
        else throw "environment.etc.\"${e.target}\" has neither `text' nor `source'."))
        (builtins.filter (e: e.enable) (builtins.attrValues cfg.etc));
    };
  };
}
