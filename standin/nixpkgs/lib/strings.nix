# Strings, paths and versions.
lib:

let
  inherit (builtins) stringLength substring concatStringsSep replaceStrings;
  ascii = {
    lower = "abcdefghijklmnopqrstuvwxyz";
    upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  };
in
rec {
  inherit (builtins) concatStringsSep stringLength substring replaceStrings toJSON fromJSON baseNameOf match split
    unsafeDiscardStringContext readDir parseDrvName compareVersions splitVersion;

  concatStrings = concatStringsSep "";
  concatMapStrings = f: list: concatStrings (map f list);
  concatMapStringsSep = separator: f: list: concatStringsSep separator (map f list);
  concatImapStrings = f: list: concatStrings (lib.imap1 f list);
  concatImapStringsSep = separator: f: list: concatStringsSep separator (lib.imap1 f list);
  concatLines = concatMapStrings (line: line + "\n");
  intersperse = separator: list:
    if list == [ ] then [ ] else builtins.tail (builtins.concatMap (x: [ separator x ]) list);
  optionalString = condition: string: if condition then string else "";
  hasPrefix = prefix: string: substring 0 (stringLength prefix) string == prefix;
  hasSuffix = suffix: string:
    let l = stringLength string; s = stringLength suffix; in l >= s && substring (l - s) s string == suffix;
  hasInfix = infix: string: builtins.match ".*${escapeRegex infix}.*" "${string}" != null || contains infix string;
  # match's `.` stops at line ends
  contains = infix: string: builtins.length (builtins.split (escapeRegex infix) string) > 1;
  removePrefix = prefix: string: if hasPrefix prefix string then substring (stringLength prefix) (-1) string else string;
  removeSuffix = suffix: string:
    if hasSuffix suffix string then substring 0 (stringLength string - stringLength suffix) string else string;
  splitString = separator: string:
    builtins.filter builtins.isString (builtins.split (escapeRegex (toString separator)) (toString string));
  stringToCharacters = string: builtins.genList (n: substring n 1 string) (stringLength string);
  stringAsChars = f: string: concatStrings (map f (stringToCharacters string));
  escape = characters: replaceStrings characters (map (c: "\\${c}") characters);
  escapeRegex = escape (stringToCharacters "\\[{()^$?*+|.");
  escapeShellArg = arg:
    let string = toString arg; in
    if builtins.match "[[:alnum:],._+:@%/-]+" string != null then string else "'${replaceStrings [ "'" ] [ "'\\''" ] string}'";
  escapeShellArgs = concatMapStringsSep " " escapeShellArg;
  escapeNixString = string: escape [ "$" ] (builtins.toJSON string);
  escapeXML = replaceStrings [ "\"" "'" "<" ">" "&" ] [ "&quot;" "&apos;" "&lt;" "&gt;" "&amp;" ];
  toShellVar = name: value: "${name}=${escapeShellArg value}";
  toShellVars = vars: concatStringsSep "\n" (lib.mapAttrsToList toShellVar vars);
  toLower = replaceStrings (stringToCharacters ascii.upper) (stringToCharacters ascii.lower);
  toUpper = replaceStrings (stringToCharacters ascii.lower) (stringToCharacters ascii.upper);
  trim = string: let m = builtins.match "[[:space:]]*(.*[^[:space:]])[[:space:]]*" string; in if m == null then "" else builtins.head m;
  fileContents = path: removeSuffix "\n" (builtins.readFile path);
  fixedWidthString = width: filler: string:
    let missing = width - stringLength string; in concatStrings (lib.replicate missing filler) + string;
  fixedWidthNumber = width: n: fixedWidthString width "0" (toString n);
  strReplicate = n: string: concatStrings (lib.replicate n string);
  replicateString = strReplicate;
  isStringLike = x: builtins.isString x || builtins.isPath x || x ? outPath || x ? __toString;
  isConvertibleWithToString = x:
    isStringLike x || builtins.elem (builtins.typeOf x) [ "int" "float" "null" "bool" ] || (builtins.isList x && builtins.all isConvertibleWithToString x);
  toInt = string:
    let m = builtins.match "[[:space:]]*(-?)0*([0-9]+)[[:space:]]*" string; in
    if m == null then throw "lib.toInt: cannot convert '${string}' to an int"
    else builtins.fromJSON "${builtins.elemAt m 0}${builtins.elemAt m 1}";
  toIntBase10 = toInt;
  versionOlder = a: b: builtins.compareVersions b a == 1;
  versionAtLeast = a: b: !versionOlder a b;
  getVersion = x: if builtins.isAttrs x then x.version or "" else (builtins.parseDrvName x).version;
  getName = x: if builtins.isAttrs x then x.pname or (builtins.parseDrvName x.name).name else (builtins.parseDrvName x).name;
  versions = rec {
    major = v: builtins.elemAt (builtins.splitVersion v) 0;
    minor = v: builtins.elemAt (builtins.splitVersion v) 1;
    majorMinor = v: "${major v}.${minor v}";
  };
  makeSearchPath = subdirectory: packages: concatMapStringsSep ":" (package: "${package}/${subdirectory}") (builtins.filter (p: p != null) packages);
  makeSearchPathOutput = _: makeSearchPath;
  makeBinPath = makeSearchPath "bin";
  makeLibraryPath = makeSearchPath "lib";
  nameFromURL = url: separator: builtins.head (splitString separator (lib.last (splitString "/" url)));
  sanitizeDerivationName = string:
    let
      safe = concatStrings (map (part: if builtins.isList part then "-" else part) (builtins.split "[^[:alnum:]+._?=-]+" (builtins.unsafeDiscardStringContext string)));
    in
    if safe == "" then "unknown" else removePrefix "." safe;
  isStorePath = x: isStringLike x && hasPrefix "${builtins.storeDir}/" (toString x);
  cleanSource = path: path;
  path = { append = base: sub: base + "/${sub}"; };
}
