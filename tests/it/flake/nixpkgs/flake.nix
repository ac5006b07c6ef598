# Stands in for nixpkgs where the flake is tested: as much of it as flake.nix and nix/ use, with programs of the host.
{
  outputs =
    { self }:
    let
      system = "x86_64-linux";

      # A derivation whose script is run by the host's bash; no sandbox.
      script =
        name: attributes: text:
        derivation (
          removeAttrs attributes [
            "passthru"
            "meta"
            "nativeBuildInputs"
          ]
          // {
            inherit name system;
            builder = "/bin/bash";
            args = [
              "-euc"
              ''
                for input in $nativeBuildInputs; do PATH=$input/bin:$PATH; done
                export TMPDIR=$NIX_BUILD_TOP
                ${text}
                # The shell itself is the last to run: coreutils close their output before they end, and Nix kills a builder
                # that has closed its output and still runs.
                :
              ''
            ];
            nativeBuildInputs = attributes.nativeBuildInputs or [ ];
            PATH = "/usr/bin:/bin";
          }
        )
        // attributes.passthru or { };

      empty = name: script name { } "mkdir -p $out/bin";

      lib = {
        genAttrs =
          names: make:
          builtins.listToAttrs (
            map (name: {
              inherit name;
              value = make name;
            }) names
          );
        cleanSource =
          path:
          builtins.path {
            inherit path;
            name = "source";
          };
        importTOML = path: builtins.fromTOML (builtins.readFile path);
        makeBinPath = packages: builtins.concatStringsSep ":" (map (package: "${package}/bin") packages);
        mapAttrsToList = make: set: map (name: make name set.${name}) (builtins.attrNames set);
        optionalString = condition: text: if condition then text else "";
        concatStringsSep = builtins.concatStringsSep;
        escapeShellArgs = words: builtins.concatStringsSep " " (map (word: "'${word}'") words);
        licenses = {
          mit.spdxId = "MIT";
          asl20.spdxId = "Apache-2.0";
        };

        # What a configuration becomes: its VM names the modules that it was made of.
        nixosSystem =
          { system, modules }:
          let
            own = modules;
            shown = module: if builtins.isPath module then baseNameOf module else builtins.toJSON module;
          in
          {
            inherit modules;
            extendModules =
              { modules }: lib.nixosSystem { inherit system; modules = own ++ modules; };
            config.system.build.toplevel = empty "nixos-system";
            config.system.build.vm = script "nixos-vm" { modules = map shown modules; } ''
              mkdir -p $out/bin
              echo "$modules" >$out/modules
            '';
          };
      };

      pkgs = {
        inherit lib script;
        stdenv.cc = empty "cc";
        cargo = empty "cargo";
        cargo-nextest = empty "cargo-nextest";
        clippy = empty "clippy";
        installShellFiles = empty "install-shell-files";
        just = empty "just";
        makeWrapper = empty "make-wrapper";
        mdbook = empty "mdbook";
        nix = empty "nix";
        qemu = empty "qemu";
        rustc = empty "rustc";
        rustfmt = empty "rustfmt";
        tesseract = empty "tesseract";
        mkShell = attributes: script "shell" { } "mkdir $out";
        runCommandCC = script;
        # Every crate of the lock file has a checksum, else none could be fetched.
        rustPlatform.importCargoLock =
          { lockFile }:
          let
            packages = (builtins.fromTOML (builtins.readFile lockFile)).package;
            strays = builtins.filter (package: package ? source && !(package ? checksum)) packages;
          in
          if strays == [ ] then empty "cargo-vendor-dir" else throw "no checksum: ${builtins.toJSON strays}";
        # The program says what it was called with.
        rustPlatform.buildRustPackage =
          { pname, version, src, cargoLock, ... }@attributes:
          script "${pname}-${version}" { passthru = attributes; inherit src; vendored = pkgs.rustPlatform.importCargoLock cargoLock; } ''
            mkdir -p $out/bin
            cat >$out/bin/nixvm-test <<'END'
            #!/bin/bash
            { printf 'argument %s\n' "$@"; echo "folder $(ls)"; env | grep -E '^(NIXVM|CARGO_HOME)'; cat $CARGO_HOME/config.toml; } >$NIXVM_RUNS/called
            END
            chmod +x $out/bin/nixvm-test
          '';
        callPackage =
          file: overrides:
          let
            make = import file;
            wanted = builtins.functionArgs make;
          in
          make (builtins.intersectAttrs wanted pkgs // overrides);
      };
    in
    {
      inherit lib;
      legacyPackages.${system} = pkgs;
    };
}
