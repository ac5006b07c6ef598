# <nixpkgs/nixos> of the stand-in: the interface of nixpkgs' nixos/default.nix.
#
#   nix-build '<nixpkgs/nixos>' -A vm -I nixpkgs=standin/nixpkgs -I nixos-config=./configuration.nix
{ configuration ? import ./from-environment.nix
, system ? builtins.currentSystem
}:

let
  evaluated = import ./evaluate.nix { inherit system; modules = [ configuration ]; };
in
{
  inherit (evaluated) pkgs config options;
  inherit (evaluated.config.system.build) vm;
  # The machine boots its kernel directly, with or without the boot loader that the configuration asks for.
  vmWithBootLoader = evaluated.config.system.build.vm;
  system = evaluated.config.system.build.toplevel;
}
