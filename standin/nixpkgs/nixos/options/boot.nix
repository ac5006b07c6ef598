# Kernel parameters and modules. Boot loaders, file systems and hardware are accepted: the machine is what QEMU gives it.
{ config, lib, ... }:

let
  inherit (lib) mkOption types;
  cfg = config.boot;
  accepted = type: default: lib.mkIgnored type default "";
in
{
  options = {
    boot = {
      kernelParams = mkOption { type = types.listOf types.str; default = [ ]; };
      consoleLogLevel = mkOption { type = types.int; default = 4; };
      kernelModules = mkOption { type = types.listOf types.str; default = [ ]; };
      blacklistedKernelModules = mkOption { type = types.listOf types.str; default = [ ]; };
      extraModprobeConfig = mkOption { type = types.lines; default = ""; };
      kernel.sysctl = mkOption { type = types.attrsOf (types.nullOr (types.oneOf [ types.bool types.str types.int ])); default = { }; };
      tmp.useTmpfs = mkOption { type = types.bool; default = false; };
      tmp.cleanOnBoot = mkOption { type = types.bool; default = false; };

      loader = accepted (types.attrsOf types.anything) { };
      initrd = accepted (types.attrsOf types.anything) { };
      plymouth = accepted (types.attrsOf types.anything) { };
      kernelPackages = accepted types.raw null;
      extraModulePackages = accepted (types.listOf types.raw) [ ];
      supportedFilesystems = accepted (types.either (types.listOf types.str) (types.attrsOf types.bool)) [ ];
      growPartition = accepted types.bool false;
      swraid = accepted (types.attrsOf types.anything) { };
      zfs = accepted (types.attrsOf types.anything) { };
      binfmt = accepted (types.attrsOf types.anything) { };
      isContainer = accepted types.bool false;
    };
    fileSystems = lib.mkIgnored (types.attrsOf types.anything) { } "as in every VM of NixOS, where virtualisation.fileSystems holds";
    swapDevices = accepted (types.listOf types.anything) [ ];
    zramSwap = accepted (types.attrsOf types.anything) { };
    hardware = accepted (types.attrsOf types.anything) { };
    powerManagement = accepted (types.attrsOf types.anything) { };
  };

  config = {
    standin.spec.kernelParams = toString cfg.kernelParams;
    boot.kernelParams = lib.mkMerge [
      (lib.mkBefore [ "loglevel=${toString cfg.consoleLogLevel}" "net.ifnames=0" ])
      # For speed under emulation: no audit records, no work-arounds for processors that aren't there. An emulated kernel
      # that a busy host holds up takes its timer for broken ("8254 timer not connected to IO-APIC") and boots no further.
      [ "audit=0" "mitigations=off" "no_timer_check" "random.trust_cpu=on" ]
    ];
    # NixOS's VMs draw with bochs; here tty1 is on no screen, which is faster, until a module is asked for by name
    # (boot.kernelModules).
    # The IDE controller with its empty CD drive, the mouse and the speaker cost two seconds of looking at them.
    boot.blacklistedKernelModules = builtins.filter (module: !(builtins.elem module cfg.kernelModules))
      [ "bochs" "ata_piix" "ata_generic" "pcspkr" "psmouse" ];
    environment.etc = {
      "modprobe.d/nixos.conf".text = lib.concatMapStrings (m: "blacklist ${m}\n") cfg.blacklistedKernelModules + cfg.extraModprobeConfig;
    } // lib.optionalAttrs (cfg.kernelModules != [ ]) {
      "modules-load.d/nixos.conf".text = lib.concatLines cfg.kernelModules;
    } // lib.optionalAttrs (cfg.kernel.sysctl != { }) {
      "sysctl.d/60-nixos.conf".text = lib.concatStrings (lib.mapAttrsToList
        (name: value: lib.optionalString (value != null) "${name}=${if builtins.isBool value then (if value then "1" else "0") else toString value}\n")
        cfg.kernel.sysctl);
    };
    systemd.tmpfiles.rules = lib.optional cfg.tmp.cleanOnBoot "D! /tmp 1777 root root";
    systemd.mounts = lib.mkIf cfg.tmp.useTmpfs [{
      what = "tmpfs"; where = "/tmp"; type = "tmpfs"; mountConfig.Options = "mode=1777,strictatime,nosuid,nodev,size=50%";
      wantedBy = [ "local-fs.target" ];
    }];
  };
}
