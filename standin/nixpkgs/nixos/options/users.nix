# Accounts and groups.
{ config, lib, pkgs, utils, ... }:

let
  inherit (lib) mkOption types mkDefault mkIf;
  cfg = config.users;

  password = description: mkOption { type = types.nullOr types.str; default = null; inherit description; };

  user = { name, config, ... }: {
    options = {
      name = mkOption { type = types.passwdEntry types.str; default = name; };
      description = mkOption { type = types.passwdEntry types.str; default = ""; };
      uid = mkOption { type = types.nullOr types.int; default = null; };
      isNormalUser = mkOption { type = types.bool; default = false; };
      isSystemUser = mkOption { type = types.bool; default = false; };
      group = mkOption { type = types.str; default = ""; };
      extraGroups = mkOption { type = types.listOf types.str; default = [ ]; };
      home = mkOption { type = types.passwdEntry types.path; default = "/var/empty"; };
      createHome = mkOption { type = types.bool; default = false; };
      homeMode = mkOption { type = types.strMatching "[0-7]{1,5}"; default = "700"; };
      shell = mkOption { type = types.nullOr (types.either types.shellPackage (types.passwdEntry types.path)); default = "/usr/sbin/nologin"; };
      useDefaultShell = mkOption { type = types.bool; default = false; };
      ignoreShellProgramCheck = mkOption { type = types.bool; default = false; };
      linger = mkOption { type = types.bool; default = false; };
      packages = mkOption { type = types.listOf types.package; default = [ ]; };
      openssh.authorizedKeys.keys = mkOption { type = types.listOf types.singleLineStr; default = [ ]; };
      openssh.authorizedKeys.keyFiles = mkOption { type = types.listOf types.path; default = [ ]; };
      subUidRanges = mkOption { type = types.listOf types.attrs; default = [ ]; internal = true; };
      subGidRanges = mkOption { type = types.listOf types.attrs; default = [ ]; internal = true; };
      autoSubUidGidRange = mkOption { type = types.bool; default = false; internal = true; };

      password = password "In clear.";
      hashedPassword = password "As mkpasswd gives it. \"\" = none is asked for.";
      hashedPasswordFile = password "Read when the account is made.";
      initialPassword = password "In clear; for the account's first boot on a disk.";
      initialHashedPassword = password "As mkpasswd gives it; for the account's first boot on a disk.";
    };
    config = lib.mkMerge [
      (mkIf config.isNormalUser {
        group = mkDefault "users";
        createHome = mkDefault true;
        home = mkDefault "/home/${config.name}";
        useDefaultShell = mkDefault true;
      })
      (mkIf config.useDefaultShell { shell = lib.mkOverride 1400 cfg.defaultUserShell; })
    ];
  };

  group = { name, ... }: {
    options = {
      name = mkOption { type = types.passwdEntry types.str; default = name; };
      gid = mkOption { type = types.nullOr types.int; default = null; };
      members = mkOption { type = types.listOf (types.passwdEntry types.str); default = [ ]; };
    };
  };

  users = builtins.attrValues cfg.users;

  # The password that holds, as NixOS has it: the declared ones go before the initial ones, a hash before clear text.
  passwordOf = u:
    if u.hashedPasswordFile != null then { file = u.hashedPasswordFile; }
    else if u.hashedPassword != null then { hash = u.hashedPassword; }
    else if u.password != null then { clear = u.password; }
    else if u.initialHashedPassword != null then { hash = u.initialHashedPassword; }
    else if u.initialPassword != null then { clear = u.initialPassword; }
    else { };

  keysOf = u: u.openssh.authorizedKeys.keys ++ map (file: lib.fileContents file) u.openssh.authorizedKeys.keyFiles;
in
{
  options.users = {
    users = mkOption { type = types.attrsOf (types.submodule user); default = { }; };
    groups = mkOption { type = types.attrsOf (types.submodule group); default = { }; };
    mutableUsers = mkOption { type = types.bool; default = true; };
    defaultUserShell = mkOption { type = types.either types.path types.shellPackage; default = pkgs.bashInteractive; };
    allowNoPasswordLogin = mkOption { type = types.bool; default = false; };
    enforceIdUniqueness = mkOption { type = types.bool; default = true; };
    motd = mkOption { type = types.nullOr types.lines; default = null; };
    extraUsers = mkOption { type = types.attrsOf types.unspecified; default = { }; internal = true; };
    extraGroups = mkOption { type = types.attrsOf types.unspecified; default = { }; internal = true; };
  };

  config = {
    users.users = lib.mkMerge [
      cfg.extraUsers
      {
        root = {
          uid = 0;
          description = "System administrator";
          home = "/root";
          shell = lib.mkOverride 1400 cfg.defaultUserShell;
          group = "root";
        };
      }
    ];
    users.groups = lib.mkMerge [
      cfg.extraGroups
      { root.gid = 0; wheel = { }; users.gid = 100; }
    ];

    assertions = lib.concatMap
      (u: [
        {
          assertion = u.name == "root" || (u.isNormalUser != u.isSystemUser);
          message = "Exactly one of users.users.${u.name}.isSystemUser and users.users.${u.name}.isNormalUser must be set.";
        }
        {
          assertion = u.group != "";
          message = "users.users.${u.name}.group is unset. This used to default to nogroup, but this is unsafe. For example you can create a group for this user with:\nusers.users.${u.name}.group = \"${u.name}\";\nusers.groups.${u.name} = {};";
        }
        {
          assertion = builtins.all (h: h == null || builtins.match "[^:\n]*" h != null) [ u.hashedPassword u.initialHashedPassword ];
          message = "The password hash of user \"${u.name}\" contains a \":\" or a line break.";
        }
      ])
      users;

    environment.systemPackages = builtins.filter (shell: lib.types.shellPackage.check shell) (map (u: u.shell) users ++ [ cfg.defaultUserShell ]);
    environment.etc = lib.mkMerge (map
      (u: mkIf (keysOf u != [ ]) { "ssh/authorized_keys.d/${u.name}" = { text = lib.concatLines (keysOf u); mode = "0444"; }; })
      users);

    standin.spec = {
      inherit (cfg) mutableUsers;
      users = map
        (u: {
          inherit (u) name description uid group home createHome homeMode linger isNormalUser;
          shell = if u.shell == null then "/usr/sbin/nologin" else utils.toShellPath u.shell;
          password = passwordOf u;
        })
        users;
      groups = map
        (g: {
          inherit (g) name gid;
          members = lib.unique (g.members ++ map (u: u.name) (builtins.filter (u: builtins.elem g.name u.extraGroups) users));
        })
        (builtins.attrValues cfg.groups);
      userPackages = lib.mapAttrs' (_: u: lib.nameValuePair u.name u.packages) (lib.filterAttrs (_: u: u.packages != [ ]) cfg.users);
    };
  };
}
