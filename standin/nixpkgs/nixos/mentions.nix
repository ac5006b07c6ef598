# Says which packages a configuration mentions that the stand-in does not have.
#
# Nix has no hook for a missing attribute: `pkgs.foo` and `with pkgs; [ foo ]` fail with the name and the place, but without
# what there is instead. So the text of the configuration is looked through beforehand, and what is found is said as a
# warning, for a mention may be in a comment or in a branch that is not taken.
{ lib, pkgs, files }:

let
  # Without comments that have a line of their own or follow a blank.
  withoutComments = text:
    lib.concatMapStringsSep "\n"
      (line: builtins.head (builtins.split "(^|[[:space:]])#" line))
      (lib.splitString "\n" text);

  groups = pattern: text: map builtins.head (builtins.filter builtins.isList (builtins.split pattern text));

  mentioned = text:
    groups "[^[:alnum:]_.-]pkgs\\.([[:alpha:]_][[:alnum:]_-]*)" text
    ++ builtins.concatMap
      (list: builtins.filter (word: word != "" && builtins.match "[[:alpha:]_][[:alnum:]_-]*" word != null)
        (lib.concatMap (lib.splitString " ") (lib.splitString "\n" list)))
      (groups "with[[:space:]]+pkgs[[:space:]]*;[[:space:]]*\\[([^][]*)]" text);

  # Only plain files: a folder's default.nix and what is imported from there are the module system's business.
  textOf = file:
    let path = if builtins.pathExists (toString file + "/default.nix") then file + "/default.nix" else file; in
    withoutComments (builtins.readFile path);

  unknownIn = file: builtins.filter (name: !(pkgs ? ${name})) (lib.unique (mentioned (textOf file)));

  warn = file:
    let unknown = unknownIn file; in
    if unknown == [ ] then lib.id
    else
      builtins.trace ''
        standin: ${toString file} mentions ${lib.concatMapStringsSep ", " (name: "pkgs.${name}") unknown}, and the stand-in has no such package${
          lib.concatMapStrings (name: let near = lib.nearest name pkgs.standinNames; in lib.optionalString (near != null) " (did you mean ${near}?)") unknown}.
        It has: ${lib.concatStringsSep " " pkgs.standinNames}'';
in
value: lib.foldr warn value files
