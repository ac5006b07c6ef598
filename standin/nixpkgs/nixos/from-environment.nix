# The configuration that `-I nixos-config=…` or NIX_PATH names, as a path.
let
  found = builtins.tryEval <nixos-config>;
in
if found.success then found.value
else throw ''
  The stand-in was not told which configuration to build. Name it with

      -I nixos-config=./configuration.nix
''
