# Accounts and groups.
{ config, lib, pkgs, utils, ... }:

let
  inherit (lib) mkOption types mkDefault mkIf;
  cfg = config.users;

  password = description: mkOption { type = types.nullOr types.str; default = null; inherit description; };

  ranges = start: mkOption {
    default = [ ];
    type = types.listOf (types.submodule {
      options = { ${start} = mkOption { type = types.int; }; count = mkOption { type = types.int; default = 1; }; };
    });
  };
  # /etc/subuid and /etc/subgid. Ranges that the configuration leaves out are NixOS's: 65536 ids each, from 100000 on.
  subIds = key: start:
    let
      automatic = lib.imap0 (n: u: { inherit (u) name; ${start} = 100000 + 65536 * n; count = 65536; }) (builtins.filter (u: u.autoSubUidGidRange) users);
      chosen = lib.concatMap (u: map (range: range // { inherit (u) name; }) u.${key}) users;
    in
    lib.concatMapStrings (range: "${range.name}:${toString range.${start}}:${toString range.count}\n") (automatic ++ chosen);

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
      subUidRanges = ranges "startUid";
      subGidRanges = ranges "startGid";
      autoSubUidGidRange = mkOption { type = types.bool; default = false; };

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
        autoSubUidGidRange = lib.mkIf (config.subUidRanges == [ ] && config.subGidRanges == [ ]) (mkDefault true);
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

  # The password that holds on a fresh disk where several are set, as in NixOS's update-users-groups.pl.
  passwordOf = u:
    if u.hashedPasswordFile != null then { file = u.hashedPasswordFile; }
    else if u.password != null then { clear = u.password; }
    else if u.hashedPassword != null then { hash = u.hashedPassword; }
    else if u.initialPassword != null then { clear = u.initialPassword; }
    else if u.initialHashedPassword != null then { hash = u.initialHashedPassword; }
    else { };

  hasKeys = u: u.openssh.authorizedKeys.keys != [ ] || u.openssh.authorizedKeys.keyFiles != [ ];
  opensNobody = password: password ? hash && builtins.match "!.*|\\*" password.hash != null;
  # Those who can make changes: root and users whom sudo lets become root.
  canBeReached = u: (u.name == "root" || builtins.elem "wheel" u.extraGroups || builtins.elem u.name (cfg.groups.wheel.members or [ ]))
    && (hasKeys u || (passwordOf u != { } && !(opensNobody (passwordOf u))));
  unique = ids: let given = builtins.filter (id: id != null) ids; in builtins.length given == builtins.length (lib.unique given);
  # NixOS's shells that a user needs `programs.<name>.enable` for, and have it here.
  shellName = u: if lib.types.shellPackage.check u.shell then lib.findFirst (name: u.shell == pkgs.${name}) null [ "fish" "zsh" ] else null;

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

    assertions = [
      {
        assertion = !cfg.enforceIdUniqueness || (unique (map (u: u.uid) users) && unique (map (g: g.gid) (builtins.attrValues cfg.groups)));
        message = "UIDs and GIDs must be unique!";
      }
      {
        assertion = cfg.mutableUsers || cfg.allowNoPasswordLogin || builtins.any canBeReached users;
        message = "Neither the root account nor any wheel user has a password or SSH authorized key.\nYou must set one to prevent being locked out of your system.\nIf you really want to be locked out of your system, set users.allowNoPasswordLogin = true;\nHowever you are most probably better off by setting users.mutableUsers = true; and\nmanually running passwd root to set the root password.";
      }
    ] ++ lib.concatMap
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
          assertion = u.ignoreShellProgramCheck || shellName u == null || config.programs.${shellName u}.enable;
          message = "users.users.${u.name}.shell is set to ${toString (shellName u)}, but programs.${toString (shellName u)}.enable is not true. This will cause the ${toString (shellName u)} shell to lack the basic nix directories in its PATH and might make logging in as that user impossible. You can fix it with:\nprograms.${toString (shellName u)}.enable = true;\nIf you know what you're doing and you are fine with the behavior, set users.users.${u.name}.ignoreShellProgramCheck = true; instead.";
        }
        {
          assertion = builtins.all (h: h == null || builtins.match "[^:\n]*" h != null) [ u.hashedPassword u.initialHashedPassword ];
          message = "The password hash of user \"${u.name}\" contains a \":\" or a line break.";
        }
      ])
      users;

    environment.systemPackages = builtins.filter (shell: lib.types.shellPackage.check shell) (map (u: u.shell) users ++ [ cfg.defaultUserShell ]);
    environment.etc = lib.mkMerge ([{
      # Files and not links, as NixOS's activation writes them.
      subuid = mkIf (subIds "subUidRanges" "startUid" != "") { mode = "0644"; text = subIds "subUidRanges" "startUid"; };
      subgid = mkIf (subIds "subGidRanges" "startGid" != "") { mode = "0644"; text = subIds "subGidRanges" "startGid"; };
    }] ++ map
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
