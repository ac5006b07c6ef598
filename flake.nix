{
  description = "Tests a NixOS configuration by booting it";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05"; # Rust 1.89 or newer

  outputs =
    { self, nixpkgs }:
    let
      # The guests are x86-64.
      systems = [ "x86_64-linux" ];
      eachSystem = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
      # No one's real machine, so none of `nixosConfigurations`: those have to have disks.
      sample = nixpkgs.lib.nixosSystem {
        system = "x86_64-linux";
        modules = [ ./configuration.nix ];
      };
    in
    {
      packages = eachSystem (pkgs: rec {
        nixvm-test = pkgs.callPackage ./nix/package.nix { };
        default = nixvm-test;
      });

      overlays.default = final: prev: { nixvm-test = final.callPackage ./nix/package.nix { }; };

      devShells = eachSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ (pkgs.callPackage ./nix/package.nix { }) ];
          packages = [
            pkgs.cargo-nextest
            pkgs.clippy
            pkgs.just
            pkgs.mdbook
            pkgs.nix
            pkgs.qemu
            pkgs.rustfmt
            pkgs.tesseract
          ];
        };
      });

      # A folder of scenarios as a derivation, for `checks`: see nix/run-scenarios.nix.
      lib.runScenarios = import ./nix/run-scenarios.nix;

      # The sample, tested by its own scenario.
      checks = eachSystem (pkgs: {
        login = self.lib.runScenarios {
          inherit pkgs;
          name = "login";
          src = self;
          scenarios = [ "scenarios/login.rs" ];
          vm = sample;
        };
      });
    };
}
