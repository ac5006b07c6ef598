{
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";
  inputs.nixvm-test.url = "github:nixvm-test/nixvm-test";
  inputs.nixvm-test.inputs.nixpkgs.follows = "nixpkgs";

  outputs =
    {
      self,
      nixpkgs,
      nixvm-test,
    }:
    let
      system = "x86_64-linux";
      machine =
        configuration:
        nixpkgs.lib.nixosSystem {
          inherit system;
          modules = [ configuration ];
        };
    in
    {
      nixosConfigurations.server = machine ./server.nix;
      nixosConfigurations.client = machine ./client.nix;

      checks.${system}.machines = nixvm-test.lib.runScenarios {
        pkgs = nixpkgs.legacyPackages.${system};
        name = "machines";
        src = ./.;
        scenarios = [ "scenarios" ];
        # What a scenario names (#[scenario(server = "../server.nix")]), and what that is.
        vms."server.nix" = self.nixosConfigurations.server;
        vms."client.nix" = self.nixosConfigurations.client;
        # What a scenario that names none boots.
        vm = self.nixosConfigurations.server;
        flags = [
          "--retries"
          "1"
        ];
      };
    };
}
