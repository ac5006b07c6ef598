# `utils`: the module argument of nixpkgs' nixos/lib/utils.nix, as far as configurations use it.
{ lib }:

rec {
  # A user's shell as a path in the machine.
  toShellPath = shell:
    if lib.types.shellPackage.check shell then "/run/current-system/sw${shell.shellPath}"
    else if lib.types.package.check shell then throw "${toString shell} is not a shell package"
    else toString shell;

  escapeSystemdPath = path:
    lib.replaceStrings [ "/" "-" " " ] [ "-" "\\x2d" "\\x20" ] (lib.removePrefix "/" (lib.removeSuffix "/" path));

  escapeSystemdExecArg = arg: lib.replaceStrings [ "%" "$" ] [ "%%" "$$" ] (builtins.toJSON (toString arg));
  escapeSystemdExecArgs = lib.concatMapStringsSep " " escapeSystemdExecArg;
}
