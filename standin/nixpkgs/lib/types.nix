# Option types: what a value must be, and how several definitions become one.
#
# A type has
#   name, description
#   check   value -> bool, shallow: elements are checked when they are merged
#   merge   loc -> [ { file, value } ] -> value
#   inside  null, or { suffix, options }: the options that a submodule somewhere in it has (for messages)
#   nestedTypes, emptyValue ({ } or { value = …; }: what it is without any definition)
lib:

let
  inherit (lib) isType mergeDefinitions showOption showFiles;

  mkType = { name, description ? name, check ? (_: true), merge ? mergeEqual, inside ? null, emptyValue ? { }, ... }@type:
    type // { _type = "option-type"; inherit name description check merge inside emptyValue; };

  values = map (def: def.value);

  # For types that can't be combined: all definitions must say the same.
  mergeEqual = loc: defs:
    if builtins.all (def: def.value == (builtins.head defs).value) defs then (builtins.head defs).value
    else throw ''
      The option `${showOption loc}' has conflicting definition values:
      ${describeDefinitions defs}
      Use `lib.mkForce value' or `lib.mkDefault value' to change the priority on any of these definitions.'';

  mergeOne = loc: defs:
    if builtins.length defs == 1 then (builtins.head defs).value
    else throw "The option `${showOption loc}' is defined multiple times, in ${showFiles (map (def: def.file) defs)}, and can be defined once only.";

  describeDefinitions = lib.concatMapStringsSep "\n"
    (def: "- In `${def.file}': ${lib.generators.toPretty { } def.value}");

  scalar = name: description: check: mkType { inherit name description check; };
  intBetween = name: low: high:
    scalar name "integer between ${toString low} and ${toString high} (both inclusive)" (x: builtins.isInt x && x >= low && x <= high);
  isStringLike = x: builtins.isString x || builtins.isPath x || (builtins.isAttrs x && x ? outPath);

  separated = name: description: separator: mkType {
    inherit name description;
    check = builtins.isString;
    merge = _: defs: lib.concatStringsSep separator (values defs);
  };

  attrsOfWith = lazy: elemType: mkType {
    name = if lazy then "lazyAttrsOf" else "attrsOf";
    description = "attribute set of (${elemType.description})";
    check = builtins.isAttrs;
    emptyValue.value = { };
    nestedTypes = { inherit elemType; };
    inside = nest "<name>" elemType;
    merge = loc: defs:
      let
        merged = builtins.zipAttrsWith
          (name: defs: mergeDefinitions (loc ++ [ name ]) elemType defs)
          (map (def: builtins.mapAttrs (_: value: { inherit (def) file; inherit value; }) def.value) defs);
      in
      if lazy then builtins.mapAttrs (_: x: x.value) merged
      # `a.x = mkIf false …` alone does not make an x.
      else builtins.mapAttrs (_: x: x.value) (lib.filterAttrs (_: x: x.isDefined) merged);
  };

  nest = step: type: if type.inside == null then null else { suffix = [ step ] ++ type.inside.suffix; inherit (type.inside) options; };
in
rec {
  inherit mkType;
  mkOptionType = mkType;
  isOptionType = isType "option-type";

  unspecified = mkType { name = "unspecified"; description = "unspecified value"; merge = anything.merge; };
  raw = mkType { name = "raw"; description = "raw value"; merge = mergeOne; };

  # Deeply merges sets, appends lists, otherwise wants equality.
  anything = mkType {
    name = "anything";
    merge = loc: defs:
      let first = (builtins.head defs).value; in
      if builtins.all (def: builtins.isAttrs def.value && !(isStringLike def.value)) defs then (lazyAttrsOf anything).merge loc defs
      else if builtins.length defs == 1 then first
      else if builtins.all (def: builtins.isList def.value) defs then builtins.concatLists (values defs)
      else if builtins.all (def: builtins.isFunction def.value) defs then x: anything.merge loc (map (def: def // { value = def.value x; }) defs)
      else mergeEqual loc defs;
  };

  bool = scalar "bool" "boolean" builtins.isBool;
  boolByOr = mkType { name = "boolByOr"; description = "boolean"; check = builtins.isBool; merge = _: defs: builtins.any lib.id (values defs); };
  int = scalar "int" "signed integer" builtins.isInt;
  float = scalar "float" "floating point number" builtins.isFloat;
  number = either int float;
  ints = {
    between = intBetween "intBetween";
    unsigned = scalar "unsignedInt" "unsigned integer, meaning >=0" (x: builtins.isInt x && x >= 0);
    positive = scalar "positiveInt" "positive integer, meaning >0" (x: builtins.isInt x && x > 0);
    u8 = intBetween "unsignedInt8" 0 255;
    u16 = intBetween "unsignedInt16" 0 65535;
    u32 = intBetween "unsignedInt32" 0 4294967295;
    s8 = intBetween "signedInt8" (-128) 127;
    s16 = intBetween "signedInt16" (-32768) 32767;
    s32 = intBetween "signedInt32" (-2147483648) 2147483647;
  };
  numbers = {
    between = low: high: scalar "numberBetween" "number between ${toString low} and ${toString high}" (x: (builtins.isInt x || builtins.isFloat x) && x >= low && x <= high);
    nonnegative = scalar "numberNonnegative" "nonnegative number" (x: (builtins.isInt x || builtins.isFloat x) && x >= 0);
    positive = scalar "numberPositive" "positive number" (x: (builtins.isInt x || builtins.isFloat x) && x > 0);
  };
  port = intBetween "port" 0 65535;

  str = scalar "str" "string" builtins.isString;
  string = str;
  nonEmptyStr = scalar "nonEmptyStr" "non-empty string" (x: builtins.isString x && builtins.match "[[:space:]]*" x == null);
  singleLineStr = scalar "singleLineStr" "string without line breaks" (x: builtins.isString x && builtins.match "[^\n]*\n?" x != null);
  strMatching = pattern: scalar "strMatching" "string matching the pattern ${pattern}" (x: builtins.isString x && builtins.match pattern x != null);
  passwdEntry = type: type // { description = "${type.description}, not containing newlines or colons"; check = x: type.check x && builtins.match "[^\n:]*" (toString x) != null; };
  lines = separated "lines" "strings concatenated with \"\\n\"" "\n";
  commas = separated "commas" "strings concatenated with \",\"" ",";
  envVar = separated "envVar" "strings concatenated with \":\"" ":";
  separatedString = separated "separatedString" "string";

  path = scalar "path" "path" (x: isStringLike x && lib.hasPrefix "/" "${builtins.unsafeDiscardStringContext (toString x)}");
  pathInStore = scalar "pathInStore" "path in the Nix store" (x: isStringLike x && lib.hasPrefix builtins.storeDir (toString x));
  package = scalar "package" "package" (x: lib.isDerivation x || lib.isStorePath x);
  shellPackage = scalar "package" "package that is a shell" (x: lib.isDerivation x && x ? shellPath);
  pkgs = scalar "pkgs" "Nixpkgs package set" builtins.isAttrs;

  enum = choices: scalar "enum"
    "one of ${lib.concatMapStringsSep ", " (lib.generators.toPretty { }) choices}"
    (x: builtins.elem x choices) // { inherit choices; };

  listOf = elemType: mkType {
    name = "listOf";
    description = "list of (${elemType.description})";
    check = builtins.isList;
    emptyValue.value = [ ];
    nestedTypes = { inherit elemType; };
    inside = nest "*" elemType;
    merge = loc: defs:
      let
        element = def: n: value:
          mergeDefinitions (loc ++ [ "[definition ${toString n}-entry]" ]) elemType [{ inherit (def) file; inherit value; }];
      in
      map (x: x.value) (builtins.filter (x: x.isDefined) (builtins.concatMap (def: lib.imap1 (element def) def.value) defs));
  };
  nonEmptyListOf = elemType: addCheck (listOf elemType) (x: x != [ ]) // { description = "non-empty list of (${elemType.description})"; emptyValue = { }; };

  attrs = mkType {
    name = "attrs";
    description = "attribute set";
    check = builtins.isAttrs;
    emptyValue.value = { };
    merge = _: defs: builtins.foldl' (acc: def: acc // def.value) { } defs;
  };
  attrsOf = attrsOfWith false;
  lazyAttrsOf = attrsOfWith true;

  nullOr = type: mkType {
    name = "nullOr";
    description = "null or ${type.description}";
    check = x: x == null || type.check x;
    emptyValue.value = null;
    nestedTypes.elemType = type;
    inherit (type) inside;
    merge = loc: defs:
      let nulls = builtins.filter (def: def.value == null) defs; in
      if nulls == [ ] then type.merge loc defs
      else if builtins.length nulls == builtins.length defs then null
      else mergeEqual loc defs;
  };

  either = a: b: mkType {
    name = "either";
    description = "${a.description} or ${b.description}";
    check = x: a.check x || b.check x;
    nestedTypes = { left = a; right = b; };
    inside = if a.inside != null then a.inside else b.inside;
    merge = loc: defs:
      if builtins.all (def: a.check def.value) defs then a.merge loc defs
      else if builtins.all (def: b.check def.value) defs then b.merge loc defs
      else mergeEqual loc defs;
  };
  oneOf = types: builtins.foldl' either (builtins.head types) (builtins.tail types);

  coercedTo = from: coerce: to: to // {
    name = "coercedTo";
    description = "${to.description} or ${from.description} convertible to it";
    check = x: (from.check x && to.check (coerce x)) || to.check x;
    merge = loc: defs: to.merge loc (map (def: if from.check def.value then def // { value = coerce def.value; } else def) defs);
  };

  submodule = modules: submoduleWith { modules = lib.toList modules; shorthandOnlyDefinesConfig = true; };
  submoduleWith = { modules, specialArgs ? { }, shorthandOnlyDefinesConfig ? false, description ? null, ... }:
    let
      evaluate = loc: defs: lib.evalModules {
        inherit specialArgs;
        prefix = loc;
        modules = modules
          ++ [{ _file = "submodule"; _module.args.name = if loc == [ ] then "‹name›" else lib.last loc; }]
          ++ map
          (def:
            if builtins.isAttrs def.value && shorthandOnlyDefinesConfig then { _file = def.file; config = def.value; }
            else { _file = def.file; imports = [ def.value ]; })
          defs;
      };
    in
    mkType {
      name = "submodule";
      description = if description != null then description else "submodule";
      check = x: builtins.isAttrs x || builtins.isFunction x || builtins.isPath x;
      emptyValue.value = { };
      inside = { suffix = [ ]; options = (evaluate [ "<name>" ] [ ]).options; };
      merge = loc: defs: (evaluate loc defs).config;
    };
  deferredModule = mkType {
    name = "deferredModule";
    description = "module";
    check = x: builtins.isAttrs x || builtins.isFunction x || builtins.isPath x;
    merge = _: defs: { imports = map (def: { _file = def.file; imports = [ def.value ]; }) defs; };
  };
  optionType = scalar "optionType" "option type" (isType "option-type");

  functionTo = type: mkType {
    name = "functionTo";
    description = "function that evaluates to a(n) ${type.description}";
    check = builtins.isFunction;
    merge = loc: defs: args: (mergeDefinitions (loc ++ [ "<function body>" ]) type (map (def: def // { value = def.value args; }) defs)).value;
  };

  uniq = unique { message = ""; };
  unique = { message, ... }: type: type // { merge = loc: defs: if builtins.length defs == 1 then type.merge loc defs else throw "The option `${showOption loc}' is defined multiple times while it's expected to be unique.\n${message}\n${describeDefinitions defs}"; };
  addCheck = type: check: type // { check = x: type.check x && check x; };

  inherit describeDefinitions;
}
