# bin/run-NAME-vm, as NixOS's virtualisation/qemu-vm.nix makes it.
{ lib, pkgs, config, base, image, initrd, toplevel }:

let
  cfg = config.virtualisation;
  name = config.system.name;

  # NixOS's order and form: hostfwd=tcp:HOST:PORT-GUEST:PORT, each with a comma in front.
  forwards = lib.concatMapStrings
    (f:
      if f.from == "host" then ",hostfwd=${f.proto}:${f.host.address}:${toString f.host.port}-${f.guest.address}:${toString f.guest.port}"
      else ",guestfwd=${f.proto}:${f.guest.address}:${toString f.guest.port}-cmd:netcat ${f.host.address} ${toString f.host.port}")
    cfg.forwardPorts;

  replacements = {
    machine = name;
    inherit base image initrd toplevel;
    memory = toString cfg.memorySize;
    cores = toString cfg.cores;
    disk = toString cfg.diskSize;
    diskImage = if cfg.diskImage == null then "" else cfg.diskImage;
    forwards = lib.optionalString cfg.restrictNetwork ",restrict=on" + forwards;
    consoles = toString cfg.qemu.consoles;
    options = lib.concatMapStrings (o: " \\\n    ${o}") (cfg.qemu.networkingOptions ++ cfg.qemu.options ++ lib.optional (!cfg.graphics) "-nographic");
    emptyDisks = toString cfg.emptyDiskImages;
    # What a variable of the shell may be called: NIXPKGS_QEMU_KERNEL_<name>.
    variable = lib.replaceStrings [ "-" "." ] [ "_" "_" ] name;
  };

  scriptWith = replacements:
    let names = builtins.attrNames replacements; in
    lib.replaceStrings (map (n: "@${n}@") names) (map (n: "${replacements.${n}}") names) (builtins.readFile ./run-vm.sh);
in
{
  # For the tests: the script as it would be, with its files at `folder`.
  scriptFor = folder: scriptWith (replacements // lib.genAttrs [ "base" "image" "initrd" "toplevel" ] (n: "${folder}/${n}"));

  package = pkgs.runCommand "nixos-vm"
    {
      run = scriptWith replacements;
      passAsFile = [ "run" ];
      inherit toplevel initrd base;
      meta.mainProgram = "run-${name}-vm";
    }
    ''
      mkdir -p "$out/bin"
      ln -s "$toplevel" "$out/system"
      cp "$runPath" "$out/bin/run-${name}-vm"
      chmod 755 "$out/bin/run-${name}-vm"
      # The system's own boot.json can't name them: the initrd has the system in it.
      python3 ${./bootspec.py} "$toplevel/boot.json" "$base/vmlinux" "$initrd" >"$out/boot.json"
    '';
}
