# systemd.*: units of the system and of its users, written as files.
{ config, lib, pkgs, utils, ... }:

let
  inherit (lib) mkOption types optional concatStringsSep concatStrings mapAttrsToList;
  cfg = config.systemd;

  scalar = types.nullOr (types.oneOf [ types.bool types.int types.float types.str types.path types.package ]);
  # Lines of a section: a list makes the line again and again, true is "true".
  section = mkOption {
    default = { };
    type = types.attrsOf (types.either scalar (types.listOf scalar) // {
      merge = loc: defs:
        let merged = map (d: d.value) defs; in
        if builtins.any builtins.isList merged then lib.concatMap lib.toList merged else types.anything.merge loc defs;
    });
  };
  names = mkOption { type = types.listOf types.str; default = [ ]; };
  lines = mkOption { type = types.lines; default = ""; };
  nullOrStr = mkOption { type = types.nullOr types.str; default = null; };
  bool = default: mkOption { type = types.bool; inherit default; };

  common = {
    enable = bool true;
    description = mkOption { type = types.singleLineStr; default = ""; };
    documentation = names;
    requires = names;
    requisite = names;
    wants = names;
    after = names;
    before = names;
    bindsTo = names;
    partOf = names;
    upholds = names;
    conflicts = names;
    onFailure = names;
    onSuccess = names;
    wantedBy = names;
    requiredBy = names;
    upheldBy = names;
    aliases = names;
    startLimitBurst = mkOption { type = types.nullOr types.int; default = null; };
    startLimitIntervalSec = mkOption { type = types.nullOr types.int; default = null; };
    overrideStrategy = mkOption { type = types.enum [ "asDropinIfExists" "asDropin" ]; default = "asDropinIfExists"; };
    unitConfig = section;
  };

  serviceOptions = {
    environment = mkOption { type = types.attrsOf (types.nullOr (types.oneOf [ types.str types.path types.package types.int ])); default = { }; };
    path = mkOption { type = types.listOf (types.oneOf [ types.package types.str ]); default = [ ]; };
    serviceConfig = section;
    script = lines;
    scriptArgs = mkOption { type = types.str; default = ""; };
    preStart = lines;
    postStart = lines;
    reload = lines;
    preStop = lines;
    postStop = lines;
    startAt = mkOption { type = types.either types.str (types.listOf types.str); default = [ ]; };
    restartIfChanged = bool true;
    reloadIfChanged = bool false;
    stopIfChanged = bool true;
    notSocketActivated = bool false;
    restartTriggers = mkOption { type = types.listOf types.unspecified; default = [ ]; };
    reloadTriggers = mkOption { type = types.listOf types.unspecified; default = [ ]; };
  };

  kind = options: mkOption { type = types.attrsOf (types.submodule { options = common // options; }); default = { }; };
  kinds = {
    services = kind serviceOptions;
    timers = kind { timerConfig = section; };
    sockets = kind { socketConfig = section; listenStreams = names; listenDatagrams = names; };
    paths = kind { pathConfig = section; };
    targets = kind { };
    slices = kind { sliceConfig = section; };
  };
  listed = options: mkOption { type = types.listOf (types.submodule { options = common // options; }); default = [ ]; };

  # --- Text of a unit.

  show = value: if builtins.isBool value then lib.boolToString value else toString value;
  line = name: value: if value == null then "" else "${name}=${show value}\n";
  showSection = name: set:
    let body = concatStrings (mapAttrsToList (key: value: concatStrings (map (line key) (lib.toList value))) set); in
    if body == "" then "" else "[${name}]\n${body}\n";
  list = key: values: lib.optionalAttrs (values != [ ]) { ${key} = toString values; };

  unitSection = u:
    list "Documentation" u.documentation // list "Requires" u.requires // list "Requisite" u.requisite // list "Wants" u.wants
    // list "After" u.after // list "Before" u.before // list "BindsTo" u.bindsTo // list "PartOf" u.partOf
    // list "Upholds" u.upholds // list "Conflicts" u.conflicts // list "OnFailure" u.onFailure // list "OnSuccess" u.onSuccess
    // lib.optionalAttrs (u.description != "") { Description = u.description; }
    // lib.optionalAttrs (u.startLimitBurst != null) { StartLimitBurst = u.startLimitBurst; }
    // lib.optionalAttrs (u.startLimitIntervalSec != null) { StartLimitIntervalSec = u.startLimitIntervalSec; }
    // u.unitConfig;

  # The path of a file that holds the list, so that a line of the unit is short and changes with each of them.
  triggers = key: name: values:
    let
      text = toString (map (value: if builtins.isPath value then "${value}" else value) (lib.flatten values));
      file = "${key}-${lib.strings.sanitizeDerivationName name}";
    in
    lib.optionalAttrs (values != [ ]) { ${key} = if builtins.hasContext text then "${pkgs.writeText file text}" else builtins.toFile file text; };

  scriptOf = name: suffix: text:
    pkgs.writeShellScript "unit-script-${lib.strings.sanitizeDerivationName name}-${suffix}" "set -e\n\n${text}\n";

  serviceSection = name: s:
    let
      script = suffix: text: "${scriptOf name suffix text}";
      # For switch-to-configuration, as NixOS's lib/systemd-lib.nix has it.
      switching = (if s.reloadIfChanged then { X-ReloadIfChanged = true; } else lib.optionalAttrs (!s.restartIfChanged) { X-RestartIfChanged = false; })
        // lib.optionalAttrs (!s.stopIfChanged) { X-StopIfChanged = false; }
        // lib.optionalAttrs s.notSocketActivated { X-NotSocketActivated = true; };
      exec = key: suffix: text: lib.optionalAttrs (text != "") { ${key} = [ (script suffix text) ] ++ lib.toList (s.serviceConfig.${key} or [ ]); };
      # As NixOS: the packages of `path` first, then the few that every service has; Debian's own folders last, for
      # Debian's programs call each other from there.
      path = lib.makeBinPath s.path + optionalColon s.path
        + "/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin";
      optionalColon = l: lib.optionalString (l != [ ]) ":";
      environment' = lib.filterAttrs (_: v: v != null) s.environment;
      environment = { PATH = path; } // environment';
      # A drop-in to a unit of Debian's says only what is to change.
      runs = s.script != "" || s.path != [ ] || s.serviceConfig ? ExecStart;
      quote = lib.replaceStrings [ "\\" "\"" "%" "\n" ] [ "\\\\" "\\\"" "%%" "\\n" ];
    in
    s.serviceConfig // switching
    // lib.optionalAttrs (runs || environment' != { }) { Environment = mapAttrsToList (n: v: "\"${n}=${quote (toString v)}\"") environment ++ lib.toList (s.serviceConfig.Environment or [ ]); }
    // exec "ExecStartPre" "pre-start" s.preStart
    // lib.optionalAttrs (s.script != "") { ExecStart = script "start" s.script + lib.optionalString (s.scriptArgs != "") " ${s.scriptArgs}"; }
    // exec "ExecStartPost" "post-start" s.postStart
    // lib.optionalAttrs (s.reload != "") { ExecReload = script "reload" s.reload; }
    // exec "ExecStop" "pre-stop" s.preStop
    // exec "ExecStopPost" "post-stop" s.postStop;

  texts = {
    services = name: u: showSection "Unit" (triggers "X-Restart-Triggers" name u.restartTriggers // triggers "X-Reload-Triggers" name u.reloadTriggers // unitSection u) + showSection "Service" (serviceSection name u);
    timers = _: u: showSection "Unit" (unitSection u) + showSection "Timer" u.timerConfig;
    sockets = _: u: showSection "Unit" (unitSection u) + showSection "Socket" (u.socketConfig
      // lib.optionalAttrs (u.listenStreams != [ ]) { ListenStream = u.listenStreams; }
      // lib.optionalAttrs (u.listenDatagrams != [ ]) { ListenDatagram = u.listenDatagrams; });
    paths = _: u: showSection "Unit" (unitSection u) + showSection "Path" u.pathConfig;
    targets = _: u: showSection "Unit" (unitSection u);
    slices = _: u: showSection "Unit" (unitSection u) + showSection "Slice" u.sliceConfig;
  };
  suffixes = { services = "service"; timers = "timer"; sockets = "socket"; paths = "path"; targets = "target"; slices = "slice"; };

  unit = name: u: text: {
    inherit name text;
    inherit (u) enable wantedBy requiredBy upheldBy aliases overrideStrategy;
  };
  mountName = path: if path == "/" then "-" else utils.escapeSystemdPath path;

  unitsOf = scope:
    lib.concatMap
      (kind: mapAttrsToList (name: u: unit "${name}.${suffixes.${kind}}" u (texts.${kind} name u)) scope.${kind})
      (builtins.attrNames kinds);

  timersFromStartAt = services: lib.mapAttrs
    (_: s: { wantedBy = [ "timers.target" ]; timerConfig.OnCalendar = s.startAt; })
    (lib.filterAttrs (_: s: s.enable && s.startAt != [ ]) services);

  accepted = lib.mkIgnored (types.attrsOf types.anything) { } "";
in
{
  options.systemd = kinds // {
    mounts = listed { what = mkOption { type = types.str; }; where = mkOption { type = types.str; }; type = mkOption { type = types.str; default = ""; }; options = nullOrStr; mountConfig = section; };
    automounts = listed { where = mkOption { type = types.str; }; automountConfig = section; };
    user = kinds // { tmpfiles = accepted; extraConfig = lines; };
    tmpfiles.rules = names;
    tmpfiles.settings = mkOption { type = types.attrsOf (types.attrsOf (types.attrsOf (types.attrsOf types.anything))); default = { }; };
    packages = lib.mkIgnored (types.listOf types.package) [ ] "Debian's packages bring their units";
    globalEnvironment = mkOption { type = types.attrsOf types.str; default = { }; };
    extraConfig = lines;
    network = accepted;
    coredump = accepted;
    oomd = accepted;
    enableEmergencyMode = bool true;
    services = kinds.services;
    defaultUnit = mkOption { type = types.str; default = "multi-user.target"; };
    # Units of Debian that would only take time.
    maskedUnits = mkOption { type = types.listOf types.str; default = [ ]; internal = true; };
  };
  options.services.journald = {
    extraConfig = lines;
    console = mkOption { type = types.str; default = ""; };
    storage = mkOption { type = types.enum [ "persistent" "volatile" "auto" "none" ]; default = "persistent"; };
  };
  options.services.logind = accepted;

  config = {
    systemd.timers = timersFromStartAt cfg.services;
    systemd.user.timers = timersFromStartAt cfg.user.services;

    # Looked at with systemd-analyze under emulation: each costs a tenth of a second to a second of every boot, and none
    # does anything for a machine of an hour's life on a virtual disk.
    systemd.maskedUnits = [
      "apt-daily.timer" "apt-daily-upgrade.timer" "dpkg-db-backup.timer" "e2scrub_all.timer" "e2scrub_reap.service" "fstrim.timer"
      "ldconfig.service" "systemd-binfmt.service" "systemd-boot-system-token.service" "systemd-firstboot.service"
      "systemd-hwdb-update.service" "systemd-machine-id-commit.service" "systemd-network-generator.service"
      "systemd-networkd-wait-online.service" "systemd-pcrphase.service" "systemd-pcrphase-initrd.service"
      "systemd-pcrphase-sysinit.service" "systemd-pstore.service" "systemd-sysusers.service" "systemd-update-done.service"
      "systemd-update-utmp.service" "systemd-update-utmp-runlevel.service" "systemd-random-seed.service"
      # The initrd mounts the root read-write and makes the static nodes.
      "systemd-remount-fs.service" "kmod-static-nodes.service" "systemd-tmpfiles-setup-dev.service"
      "systemd-repart.service" "systemd-initctl.socket" "systemd-journald-audit.socket" "getty-static.service"
      "systemd-ask-password-console.path" "systemd-ask-password-wall.path" "cryptsetup.target" "integritysetup.target"
      "veritysetup.target" "dev-mqueue.mount" "sys-kernel-config.mount" "dev-hugepages.mount" "sys-kernel-debug.mount" "sys-kernel-tracing.mount"
      "proc-sys-fs-binfmt_misc.automount" "sys-fs-fuse-connections.mount" "modprobe@.service" "keyboard-setup.service"
      "console-setup.service" "systemd-backlight@.service" "systemd-rfkill.socket" "systemd-battery-check.service"
    ] ++ optional (config.boot.kernelModules == [ ]) "systemd-modules-load.service"
    ++ optional (config.boot.kernel.sysctl == { }) "systemd-sysctl.service"
    ++ lib.optionals (!cfg.enableEmergencyMode) [ "emergency.service" "emergency.target" ];

    # What a switch does to units of the base that must not be stopped, or that read what a configuration writes into /etc.
    systemd.services = {
      dbus = {
        reloadIfChanged = true;
        # NixOS's bus looks for services in the system's packages, so that any change of them reloads it.
        restartTriggers = [ (builtins.hashString "sha256" (builtins.unsafeDiscardStringContext (toString config.environment.systemPackages))) ];
      };
      systemd-journald = {
        restartTriggers = [ config.environment.etc."systemd/journald.conf".text ];
        stopIfChanged = false;
      };
      systemd-logind = { restartIfChanged = false; stopIfChanged = false; };
      systemd-user-sessions.restartIfChanged = false;
      "user@".restartIfChanged = false;
      "user-runtime-dir@" = { restartIfChanged = false; stopIfChanged = false; };
      systemd-tmpfiles-resetup = {
        description = "Re-setup tmpfiles on a system that is already running.";
        requiredBy = [ "sysinit-reactivation.target" ];
        after = [ "local-fs.target" "systemd-sysusers.service" "systemd-journald.service" ];
        before = [ "sysinit-reactivation.target" "shutdown.target" ];
        conflicts = [ "shutdown.target" ];
        restartTriggers = [ config.environment.etc."tmpfiles.d/00-nixos.conf".text ];
        unitConfig.DefaultDependencies = false;
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = "/usr/bin/systemd-tmpfiles --create --remove --exclude-prefix=/dev";
          SuccessExitStatus = "DATAERR CANTCREAT";
        };
      };
    } // lib.optionalAttrs (config.boot.kernel.sysctl != { }) {
      systemd-sysctl.restartTriggers = [ config.environment.etc."sysctl.d/60-nixos.conf".text ];
    } // lib.optionalAttrs (config.boot.kernelModules != [ ]) {
      systemd-modules-load.restartTriggers = [ config.environment.etc."modules-load.d/nixos.conf".text ];
    };
    # Started by switches alone: what is ordered before sysinit.target is started again in its order.
    systemd.targets.sysinit-reactivation.description = "Reactivate sysinit units";

    environment.etc = {
      "systemd/journald.conf".text = "[Journal]\nStorage=${config.services.journald.storage}\n${
        lib.optionalString (config.services.journald.console != "") "ForwardToConsole=yes\nTTYPath=${config.services.journald.console}\n"}${config.services.journald.extraConfig}";
      "systemd/system.conf".text = ''
        [Manager]
        # A test waits for the power to go: stop jobs that hang are not worth a minute and a half.
        DefaultTimeoutStopSec=20s
        ManagerEnvironment=PATH=/run/current-system/sw/bin:/usr/sbin:/usr/bin
        ${concatStrings (mapAttrsToList (n: v: "DefaultEnvironment=\"${n}=${v}\"\n") cfg.globalEnvironment)}${cfg.extraConfig}'';
    } // lib.optionalAttrs (cfg.user.extraConfig != "") {
      "systemd/user.conf".text = "[Manager]\n${cfg.user.extraConfig}";
    } // {
      "tmpfiles.d/00-nixos.conf".text = lib.concatLines (cfg.tmpfiles.rules
        ++ lib.concatLists (mapAttrsToList
        (_: paths: lib.concatLists (mapAttrsToList
          (path: types: mapAttrsToList
            (type: s: "${type} ${path} ${s.mode or "-"} ${s.user or "-"} ${s.group or "-"} ${s.age or "-"} ${s.argument or ""}")
            types)
          paths))
        cfg.tmpfiles.settings));
    };

    standin.spec = {
      units = unitsOf cfg
        ++ map (m: unit "${mountName m.where}.mount" m (showSection "Unit" (unitSection m) + showSection "Mount" ({ What = m.what; Where = m.where; } // lib.optionalAttrs (m.type != "") { Type = m.type; } // lib.optionalAttrs (m.options != null) { Options = m.options; } // m.mountConfig))) cfg.mounts
        ++ map (m: unit "${mountName m.where}.automount" m (showSection "Unit" (unitSection m) + showSection "Automount" ({ Where = m.where; } // m.automountConfig))) cfg.automounts;
      userUnits = unitsOf cfg.user;
      inherit (cfg) maskedUnits defaultUnit;
    };
  };
}
