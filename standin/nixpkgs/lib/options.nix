# Declaring options: mkOption and its short forms, and the words used in messages about options.
lib:

rec {
  mkOption = attrs: attrs // { _type = "option"; };
  isOption = x: builtins.isAttrs x && (x._type or null) == "option";

  # An option that configurations set and that is never read here: `instead` says what holds for each value.
  # evaluate.nix warns where one is set; standin/tests/60-every-option.sh proves that none is read.
  mkIgnored = type: default: instead: mkOption {
    inherit type default;
    ignored = true;
    description = "Accepted, no effect${lib.optionalString (instead != "") ": ${instead}"}.";
  };

  mkEnableOption = what: mkOption {
    type = lib.types.bool;
    default = false;
    example = true;
    description = "Whether to enable ${what}.";
  };

  mkPackageOption = pkgs: name: { default ? name, nullable ? false, ... }: mkOption {
    type = if nullable then lib.types.nullOr lib.types.package else lib.types.package;
    default = if default == null then null else lib.getAttrFromPath (lib.toList default) pkgs;
    description = "The ${toString name} package to use.";
  };
  mkPackageOptionMD = mkPackageOption;

  mkSinkUndeclaredOptions = attrs: mkOption ({ internal = true; visible = false; default = false; } // attrs);

  literalExpression = text: { _type = "literalExpression"; inherit text; };
  literalExample = literalExpression;
  literalMD = text: { _type = "literalMD"; inherit text; };

  # users.users."a.b".shell
  showOption = path:
    lib.concatMapStringsSep "." (part: if builtins.match "[a-zA-Z_][a-zA-Z0-9_'-]*|<name>|\\*" part != null then part else "\"${part}\"") path;

  showFiles = files: lib.concatMapStringsSep " and " (file: "`${file}'") files;

  # Every option of a tree as a path, submodules gone into: [ [ "users" "users" "<name>" "shell" ] … ]
  listOptions = prefix: options:
    lib.concatLists (lib.mapAttrsToList
      (name: option:
        let
          path = prefix ++ [ name ];
          inside = (option.type or lib.types.unspecified).inside;
        in
        if !(isOption option) then listOptions path option
        else if option.internal or false then [ ]
        else if inside == null then [ path ]
        else listOptions (path ++ inside.suffix) inside.options)
      (removeAttrs options [ "_module" ]));

  # Options of a tree that are ignored (mkIgnored) and that a module sets. No value is looked at,
  # since it may be one that only a real nixpkgs has: an option that is set to `mkIf false …` counts as set.
  listIgnored = options:
    lib.concatLists (lib.mapAttrsToList
      (_: option:
        if !(isOption option) then listIgnored option
        else lib.optional (option.ignored or false && option.isSet) (showOption option.loc))
      (removeAttrs options [ "_module" ]));

  # The nearest of `candidates` to a misspelt word, or null: a third of the letters may be wrong.
  nearest = word: candidates:
    let
      scored = map (candidate: { inherit candidate; distance = editDistance word candidate; }) candidates;
      limit = lib.max 1 ((lib.stringLength word + 1) / 3);
      near = builtins.filter (x: x.distance <= limit) scored;
    in
    if near == [ ] then null else (builtins.head (builtins.sort (a: b: a.distance < b.distance) near)).candidate;

  # Levenshtein's, one row at a time.
  editDistance = a: b:
    let
      bs = lib.stringToCharacters b;
      step = row: i:
        let char = lib.substring i 1 a; in
        builtins.foldl'
          (new: j:
            let
              cost = if char == builtins.elemAt bs j then 0 else 1;
              least = lib.min (lib.min (lib.last new + 1) (builtins.elemAt row (j + 1) + 1)) (builtins.elemAt row j + cost);
            in
            new ++ [ least ])
          [ (i + 1) ]
          (lib.range 0 (lib.stringLength b - 1));
    in
    lib.last (builtins.foldl' step (lib.range 0 (lib.stringLength b)) (lib.range 0 (lib.stringLength a - 1)));
}
