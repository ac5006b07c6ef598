# virtualisation.*: the machine that QEMU makes, also under virtualisation.vmVariant; and the vm itself.
{ config, lib, pkgs, options, ... }:

let
  inherit (lib) mkOption types;
  cfg = config.virtualisation;

  forward = types.submodule {
    options = {
      from = mkOption { type = types.enum [ "host" "guest" ]; default = "host"; };
      proto = mkOption { type = types.enum [ "tcp" "udp" ]; default = "tcp"; };
      host.address = mkOption { type = types.str; default = ""; };
      host.port = mkOption { type = types.port; };
      guest.address = mkOption { type = types.str; default = ""; };
      guest.port = mkOption { type = types.port; };
    };
  };
  fileSystem = types.submodule ({ name, config, ... }: {
    options = {
      mountPoint = mkOption { type = types.str; default = name; };
      device = mkOption { type = types.nullOr types.str; default = null; };
      label = mkOption { type = types.nullOr types.str; default = null; };
      fsType = mkOption { type = types.str; default = "auto"; };
      options = mkOption { type = types.listOf types.str; default = [ "defaults" ]; };
      noCheck = mkOption { type = types.bool; default = false; };
    };
    config.device = lib.mkIf (config.label != null) (lib.mkDefault "/dev/disk/by-label/${escape config.label}");
  });
  mounts = builtins.attrValues cfg.fileSystems;
  ofTheMachine = path: path == "/" || path == "/nix" || lib.hasPrefix "/nix/" path || path == "/tmp/shared";
  # NixOS's escapes.
  escape = lib.replaceStrings [ " " "\t" ] [ "\\040" "\\011" ];
  fstabLine = m: "${escape m.device} ${escape m.mountPoint} ${m.fsType} ${
    escape (lib.concatStringsSep "," m.options)} 0 ${if m.noCheck then "0" else "2"}\n";

  # A configuration that is merged into this one when a VM is built; here that is always.
  variant = mkOption { type = types.deferredModule; default = { }; };
  accepted = type: default: lib.mkIgnored type default "";
in
{
  options.virtualisation = {
    memorySize = mkOption { type = types.ints.positive; default = 1024; description = "MiB."; };
    cores = mkOption { type = types.ints.positive; default = 1; };
    diskSize = mkOption { type = types.coercedTo (types.enum [ "auto" ]) (_: 1024) types.ints.positive; default = 1024; description = "MiB; at least what the image needs."; };
    diskImage = mkOption { type = types.nullOr types.str; default = "./${config.system.name}.qcow2"; };
    graphics = mkOption { type = types.bool; default = true; };
    resolution = accepted (types.attrsOf types.int) { };
    forwardPorts = mkOption { type = types.listOf forward; default = [ ]; };
    vlans = mkOption {
      type = types.listOf types.ints.unsigned;
      default = if cfg.interfaces == { } then [ 1 ] else [ ];
      description = "Networks of a scenario: card ethI is on the I-th.";
    };
    interfaces = mkOption {
      default = { };
      type = types.attrsOf (types.submodule {
        options.vlan = mkOption { type = types.ints.unsigned; };
        options.assignIP = mkOption { type = types.bool; default = false; };
      });
      description = "Cards on networks of a scenario, by name.";
    };
    restrictNetwork = mkOption { type = types.bool; default = false; };
    qemu = {
      options = mkOption { type = types.listOf types.str; default = [ ]; };
      networkingOptions = mkOption { type = types.listOf types.str; default = [ ]; };
      consoles = mkOption {
        type = types.listOf types.str;
        default = if cfg.graphics then [ "ttyS0,115200n8" "tty0" ] else [ "tty0" "ttyS0,115200n8" ];
        apply = map (c: "console=${c}");
      };
      package = accepted types.raw null;
      guestAgent.enable = accepted types.bool false;
      drives = accepted (types.listOf types.raw) [ ];
      diskInterface = accepted types.str "virtio";
    };
    useNixStoreImage = accepted types.bool false;
    writableStore = accepted types.bool true;
    writableStoreUseTmpfs = accepted types.bool true;
    mountHostNixStore = accepted types.bool false;
    sharedDirectories = accepted (types.attrsOf types.anything) { };
    fileSystems = mkOption {
      type = types.attrsOf fileSystem;
      default = { };
      description = "Beside the root: in /etc/fstab.";
    };
    useBootLoader = accepted types.bool false;
    useEFIBoot = accepted types.bool false;
    useSecureBoot = accepted types.bool false;
    tpm = accepted (types.attrsOf types.anything) { };
    emptyDiskImages = mkOption { type = types.listOf types.ints.positive; default = [ ]; description = "MiB, each a disk more: /dev/vdb …"; };
    msize = mkOption { type = types.int; default = 16384; };
    additionalPaths = accepted (types.listOf types.path) [ ];
    docker = accepted (types.attrsOf types.anything) { };

    vmVariant = variant;
    vmVariantWithBootLoader = variant;
  };

  config = {
    assertions = lib.concatMap
      (m: [
        {
          assertion = !(ofTheMachine m.mountPoint);
          message = "virtualisation.fileSystems.\"${m.mountPoint}\": the stand-in mounts that itself, and it can't be changed. A real nixpkgs can (--nixpkgs).";
        }
        {
          assertion = m.device != null;
          message = "virtualisation.fileSystems.\"${m.mountPoint}\" has neither `device' nor `label'.";
        }
      ])
      mounts;
    environment.etc = {
      fstab.text = ''
        # This is a generated file.  Do not edit!
        #
        # To make changes, edit the virtualisation.fileSystems option.
        #
        # <file system> <mount point>   <type>  <options>       <dump>  <pass>
        /dev/disk/by-label/nixos / ext4 x-initrd.mount,defaults 0 0
        ${lib.concatMapStrings fstabLine mounts}'';
      # Off in the base (trim.sh), for it costs time at every boot.
      "systemd/system-generators/systemd-fstab-generator".source =
        if mounts == [ ] then "/dev/null" else "/usr/lib/systemd/system-generators/systemd-fstab-generator";
    };

    # The host's SHARED_DIR, if it was set when the run script started.
    systemd.mounts = [{
      what = "shared";
      where = "/tmp/shared";
      type = "9p";
      options = "trans=virtio,version=9p2000.L,msize=${toString cfg.msize}";
      wantedBy = [ "multi-user.target" ];
      unitConfig.ConditionKernelCommandLine = "standin.shared";
    }];
    system.build = import ../image { inherit lib pkgs config; };
  };
}
