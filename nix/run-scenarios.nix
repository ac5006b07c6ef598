# A folder of scenarios as a derivation: it is built when every scenario passes, and holds the record of the run.
#
# No Nix runs within a build, so the machines are built before and handed over: `vm` is that of all scenarios that name no
# configuration, `vms` has those of the others, by the file that a scenario names.
#
#   checks.x86_64-linux.web = nixvm-test.lib.runScenarios {
#     pkgs = nixpkgs.legacyPackages.x86_64-linux;
#     name = "web";
#     src = ./.;                                       # with scenarios/ in it
#     vm = self.nixosConfigurations.web;
#     vms."client.nix" = self.nixosConfigurations.client;
#   };
{
  pkgs,
  # The folder that the scenarios are in, with all that they read.
  src,
  # What the check is called.
  name ? "scenarios",
  # Files of scenarios, or folders of such files, in `src`.
  scenarios ? [ "scenarios" ],
  # A NixOS configuration (of `nixosConfigurations`), or a built VM.
  vm ? null,
  # The same, by the names of configurations in scenarios: { "server.nix" = …; }
  vms ? { },
  # More flags of nixvm-test: [ "--retries" "1" ].
  flags ? [ ],
  nixvm-test ? pkgs.callPackage ./package.nix { },
  # The crates that scenarios are compiled with. Scenarios with dependencies of their own (in a block at their top)
  # need a folder that has those, too: rustPlatform.fetchCargoVendor, importCargoLock.
  cargoDeps ? pkgs.rustPlatform.importCargoLock { lockFile = ../Cargo.lock; },
}:

let
  inherit (pkgs) lib;

  # In the form of which clones can be made, and with what a machine on networks of a scenario needs. Elsewhere the latter
  # does nothing.
  extended = {
    virtualisation.vmVariant.imports = [
      ../src/nix/clonable.nix
      ../src/nix/network.nix
    ];
  };

  built =
    machine:
    if machine ? extendModules then
      (machine.extendModules { modules = [ extended ]; }).config.system.build.vm
    else if machine ? outPath then
      machine
    else
      throw "runScenarios: `vm` and each of `vms` is a NixOS configuration or a built VM, and not ${builtins.typeOf machine}";

  listed = lib.mapAttrsToList (configuration: machine: "${configuration}=${built machine}") vms;
in
pkgs.runCommandCC "nixvm-test-${name}"
  {
    inherit src cargoDeps;
    nativeBuildInputs = [
      nixvm-test
      pkgs.cargo
      pkgs.rustc
      pkgs.qemu
    ];
    requiredSystemFeatures = [
      "kvm"
      "nixos-test"
    ];
    NIXVM_VM = lib.optionalString (vm != null) "${built vm}";
    NIXVM_VMS = lib.concatStringsSep "," listed;
    passthru = { inherit nixvm-test; };
  }
  ''
    export HOME=$TMPDIR CARGO_HOME=$TMPDIR/cargo
    # A builder whose KVM does not work fails, instead of taking ten times as long without a word that anybody reads.
    export NIXVM_ACCELERATOR=kvm
    export NIXVM_CACHE_DIR=$TMPDIR/cache NIXVM_ADMISSION_DIR=$TMPDIR/admission NIXVM_RUNS=$out
    mkdir -p $CARGO_HOME $out
    cat >$CARGO_HOME/config.toml <<END
    [source.crates-io]
    replace-with = "vendored"
    [source.vendored]
    directory = "$cargoDeps"
    [net]
    offline = true
    END
    cp -r $src $TMPDIR/src
    chmod -R u+w $TMPDIR/src
    cd $TMPDIR/src
    nixvm-test ${lib.escapeShellArgs (flags ++ scenarios)}
  ''
