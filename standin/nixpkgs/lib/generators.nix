# Configuration file formats.
lib:

rec {
  mkValueStringDefault = _: value:
    if builtins.isBool value then lib.boolToString value
    else if value == null then "null"
    else toString value;

  mkKeyValueDefault = { mkValueString ? mkValueStringDefault { } }: separator: key: value:
    "${lib.escape [ separator ] key}${separator}${mkValueString value}";

  toKeyValue = { mkKeyValue ? mkKeyValueDefault { } "=", listsAsDuplicateKeys ? false, indent ? "" }: set:
    lib.concatStrings (lib.concatLists (lib.mapAttrsToList
      (key: value: map (v: "${indent}${mkKeyValue key v}\n") (if listsAsDuplicateKeys then lib.toList value else [ value ]))
      set));

  toINI = { mkSectionName ? lib.id, mkKeyValue ? mkKeyValueDefault { } "=", listsAsDuplicateKeys ? false }: sections:
    lib.concatStringsSep "\n" (lib.mapAttrsToList
      (name: set: "[${mkSectionName name}]\n" + toKeyValue { inherit mkKeyValue listsAsDuplicateKeys; } set)
      sections);

  toINIWithGlobalSection = options: { globalSection, sections ? { } }:
    toKeyValue { } globalSection + lib.optionalString (sections != { }) "\n" + toINI options sections;

  toJSON = _: builtins.toJSON;
  toYAML = _: builtins.toJSON;

  # A Nix value as a person would write it, shortened: for error messages.
  toPretty = { limit ? 60, ... }: value:
    let
      go = depth: v:
        if lib.isDerivation v then "<package ${v.name}>"
        else if builtins.isAttrs v then
          if v ? _type then "<${v._type}>"
          else if v == { } then "{ }"
          else if depth == 0 then "{ … }"
          else "{ ${lib.concatStringsSep " " (lib.mapAttrsToList (n: x: "${n} = ${go (depth - 1) x};") v)} }"
        else if builtins.isList v then
          if v == [ ] then "[ ]" else if depth == 0 then "[ … ]" else "[ ${lib.concatMapStringsSep " " (go (depth - 1)) v} ]"
        else if builtins.isFunction v then "<function>"
        else if builtins.isString v then builtins.toJSON (builtins.unsafeDiscardStringContext v)
        else if v == null then "null"
        else if builtins.isBool v then lib.boolToString v
        else toString v;
      text = go 2 value;
    in
    if lib.stringLength text > limit then lib.substring 0 limit text + "…" else text;
}
