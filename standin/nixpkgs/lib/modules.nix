# The module system: modules in, one checked configuration out.
#
# It does what nixpkgs' lib/modules.nix does for the forms that configurations use; messages name the option, the file it
# was set in, and what there is instead.
lib:

let
  inherit (lib) showOption showFiles isOption types;

  defaultPriority = 100;

  # --- Properties: values that say how they are to be merged.

  # A definition's value -> the values in it that hold, each with its priority and order.
  discharge = value:
    if !(builtins.isAttrs value) then [{ inherit value; priority = defaultPriority; order = 1000; }]
    else {
      merge = builtins.concatMap discharge value.contents;
      "if" =
        if builtins.isBool value.condition then (if value.condition then discharge value.content else [ ])
        else throw "‘mkIf’ called with a non-Boolean condition";
      override = map (x: x // { inherit (value) priority; }) (discharge value.content);
      order = map (x: x // { order = value.priority; }) (discharge value.content);
    }.${toString (value._type or "")} or [{ inherit value; priority = defaultPriority; order = 1000; }];

  # The same for the configuration of a whole module: properties move down to its attributes. `holds` is what their
  # conditions come to.
  pushDown = config:
    let
      content = pushDown config.content;
      each = property: map (part: part // { config = builtins.mapAttrs (_: property) part.config; });
    in
    {
      merge = builtins.concatMap pushDown config.contents;
      "if" = map (part: part // { holds = config.condition && part.holds; }) (each (lib.mkIf config.condition) content);
      override = each (lib.mkOverride config.priority) content;
      order = each (lib.mkOrder config.priority) content;
    }.${if builtins.isAttrs config then toString (config._type or "") else ""} or [{ holds = true; inherit config; }];

  # --- Collecting: modules and what they import, each once.

  structure = [ "imports" "options" "config" "_file" "key" "disabledModules" "meta" "freeformType" "require" "_class" ];

  normalise = file: key: module:
    let
      full = module ? config || module ? options;
      extra = builtins.attrNames (removeAttrs module structure);
      own = toString (module._file or file);
    in
    if full && extra != [ ] then
      throw ''
        Module `${own}' has an unsupported attribute `${builtins.head extra}'. This is caused by introducing a top-level `config' or `options' attribute.
        Add configuration attributes immediately on the top level instead, or move all of them (namely: ${toString extra}) into the explicit `config' attribute.''
    else {
      key = toString (module.key or key);
      file = own;
      imports = (module.imports or [ ]) ++ (module.require or [ ]);
      disabled = module.disabledModules or [ ];
      options = module.options or { };
      freeform = module.freeformType or null;
      config = if full then module.config or { } else removeAttrs module structure;
    };

  # How a module is called: with the arguments it names. Each is looked up only when the module uses it.
  call = args: file: module:
    let named = lib.functionArgs module; in
    if named == { } then module args
    else
      module (args // builtins.mapAttrs
        (name: optional:
          args.${name} or args.config._module.args.${name} or
            (throw "The module `${file}' asks for the argument `${name}', which is not given: it is neither in `specialArgs' nor in `_module.args'."))
        (lib.filterAttrs (name: optional: !optional || args ? ${name}) named));

  load = args: file: key: module:
    if lib.isFunction module || (builtins.isAttrs module && module ? __functor) then load args file key (call args file module)
    else if builtins.isAttrs module && (module._type or null) != null && builtins.elem module._type [ "merge" "if" "override" "order" ] then
      normalise file key { config = module; }
    else if builtins.isAttrs module then normalise file key module
    else if builtins.isPath module || (builtins.isString module && lib.hasPrefix "/" module) then
      let
        directory = builtins.pathExists (toString module + "/default.nix");
        path = if directory then toString module + "/default.nix" else toString module;
      in
      load args path path (import module)
    else throw "A module must be a path, a function or an attribute set, and one imported by `${file}' is ${lib.generators.toPretty { } module}";

  collect = args: modules:
    let
      start = lib.imap1 (n: load args "<module ${toString n}>" "module-${toString n}") modules;
      loaded = builtins.genericClosure {
        startSet = start;
        operator = module: lib.imap1 (n: load args module.file "${module.key}:import-${toString n}") module.imports;
      };
      disabled = map toString (builtins.concatMap (module: module.disabled) loaded);
    in
    builtins.filter (module: !(builtins.elem module.key disabled)) loaded;

  # --- Merging.

  # Definitions of one option -> { isDefined, value, files, definitions }.
  mergeDefinitions = loc: type: defs:
    let
      discharged = builtins.concatMap (def: map (x: x // { inherit (def) file; }) (discharge def.value)) defs;
      highest = builtins.foldl' (acc: x: lib.min acc x.priority) 9999 discharged;
      winners = builtins.filter (x: x.priority == highest) discharged;
      ordered = if builtins.all (x: x.order == 1000) winners then winners else builtins.sort (a: b: a.order < b.order) winners;
      wrong = builtins.filter (x: !(type.check x.value)) ordered;
    in
    {
      isDefined = discharged != [ ];
      files = map (x: x.file) ordered;
      definitions = ordered;
      inherit highest;
      value =
        if discharged == [ ] then
          type.emptyValue.value or (throw "The option `${showOption loc}' is used but not defined.")
        else if wrong != [ ] then
          throw ''
            A definition for option `${showOption loc}' is not of type `${type.description}'. Definition values:
            ${types.describeDefinitions wrong}
            Expected: ${type.description}. Found: ${lib.concatMapStringsSep ", " (x: nameOfType x.value) wrong}.''
        else type.merge loc ordered;
    };

  nameOfType = value:
    if lib.isDerivation value then "a package"
    else {
      int = "an integer"; bool = "a boolean"; string = "a string"; path = "a path"; null = "null"; set = "an attribute set";
      list = "a list"; lambda = "a function"; float = "a floating point number";
    }.${builtins.typeOf value};

  evalOption = loc: declarations: defs:
    let
      option = builtins.foldl' (a: b: a // b) { } (map (d: d.options) declarations);
      type = option.type or types.unspecified;
      withDefault = lib.optional (option ? default) { file = "the default"; value = lib.mkOverride 1500 option.default; } ++ defs;
      merged = mergeDefinitions loc type withDefault;
      value = if option ? apply then option.apply merged.value else merged.value;
      readOnly = option.readOnly or false && builtins.length merged.definitions > 1;
    in
    option // {
      inherit loc type;
      declarations = map (d: d.file) declarations;
      value = if readOnly then throw "The option `${showOption loc}' is read-only, but it's set multiple times: in ${showFiles merged.files}." else value;
      isDefined = merged.isDefined;
      # Whether anything but its default sets it, told without a look at the values.
      isSet = builtins.any (def: def.holds or true) defs;
      files = map (def: def.file) defs;
      highestPrio = merged.highest;
      definitions = map (def: def.value) merged.definitions;
      definitionsWithLocations = merged.definitions;
      __toString = _: showOption loc;
    };

  # A tree of declarations and a list of configurations -> { options, config, unmatched }.
  mergeTree = loc: declarations: configs:
    let
      declared = builtins.zipAttrsWith (_: ds: ds)
        (map (d: builtins.mapAttrs (_: options: { inherit (d) file; inherit options; }) d.options) declarations);
      defined = builtins.zipAttrsWith (_: ds: ds)
        (builtins.concatMap
          (c: map ({ config, holds }:
            if builtins.isAttrs config then builtins.mapAttrs (_: value: { inherit (c) file; inherit value; holds = holds && c.holds or true; }) config
            else throw "In `${c.file}', `${showOption loc}' is set to ${lib.generators.toPretty { } config}, but it is a group of options, not an option. It has: ${lib.concatStringsSep ", " (builtins.attrNames declared)}.")
            (pushDown c.value))
          configs);
      results = builtins.mapAttrs
        (name: ds:
          let
            here = loc ++ [ name ];
            defs = defined.${name} or [ ];
          in
          if builtins.any (d: isOption d.options) ds then
            let option = evalOption here (builtins.filter (d: isOption d.options) ds) defs; in
            { options = option; config = option.value; unmatched = [ ]; }
          else mergeTree here ds defs)
        declared;
      here = builtins.concatMap
        (name: map (def: { path = loc ++ [ name ]; inherit (def) file value; known = builtins.attrNames declared; }) defined.${name})
        (builtins.filter (name: !(declared ? ${name})) (builtins.attrNames defined));
    in
    {
      options = builtins.mapAttrs (_: r: r.options) results;
      config = builtins.mapAttrs (_: r: r.config) results;
      unmatched = here ++ builtins.concatMap (r: r.unmatched) (builtins.attrValues results);
    };

  # --- The message for an option that does not exist.

  # services.foo = { enable = true; } -> services.foo.enable
  leaves = path: value:
    let
      contents = builtins.concatMap (x: if builtins.isAttrs x.value then [ x.value ] else [ ]) (dischargeAll value);
      set = if contents == [ ] then null else builtins.head contents;
    in
    if set == null || lib.isDerivation set || set == { } then [ path ]
    else builtins.concatMap (name: leaves (path ++ [ name ]) set.${name}) (builtins.attrNames set);
  # As discharge, but conditions that don't hold count too: the option does not exist either way.
  dischargeAll = value:
    if builtins.isAttrs value && (value._type or null) == "if" then dischargeAll value.content
    else if builtins.isAttrs value && (value._type or null) == "merge" then builtins.concatMap dischargeAll value.contents
    else if builtins.isAttrs value && builtins.elem (value._type or null) [ "override" "order" ] then dischargeAll value.content
    else [{ inherit value; }];

  unknownOption = hint: options: first:
    let
      word = lib.last first.path;
      near = lib.nearest word first.known;
      parent = lib.init first.path;
      # One line a group; of submodules only that they are there.
      short = path: let at = lib.takeWhile (part: part != "<name>" && part != "*") path; in
        showOption (builtins.tail at) + lib.optionalString (builtins.length at < builtins.length path) ".<name>.…";
      groups = builtins.groupBy builtins.head (lib.listOptions [ ] options);
      showGroup = name: paths:
        if paths == [ [ name ] ] then "  ${name}"
        else "  ${name}: ${lib.concatStringsSep ", " (lib.unique (map short paths))}";
    in
    ''
      The option `${showOption (builtins.head (leaves first.path first.value))}' does not exist${hint}. Definition values:
      - In `${first.file}': ${lib.generators.toPretty { } first.value}
      ${lib.optionalString (near != null) "Did you mean `${showOption (parent ++ [ near ])}'?\n"}${
        if parent == [ ] then "The groups of options are" else "`${showOption parent}' has"}: ${lib.concatStringsSep ", " first.known}.
      All the options there are:
      ${lib.concatStringsSep "\n" (lib.mapAttrsToList showGroup groups)}'';
in
rec {
  inherit mergeDefinitions;

  # `hint` is put in the message about an option that does not exist.
  evalModules = { modules, specialArgs ? { }, prefix ? [ ], args ? { }, hint ? "", ... }:
    let
      internal = {
        _file = "the module system";
        key = "the module system";
        options._module = {
          args = lib.mkOption { type = types.lazyAttrsOf types.raw; default = { }; internal = true; };
          check = lib.mkOption { type = types.bool; default = true; internal = true; };
          freeformType = lib.mkOption { type = types.nullOr types.raw; default = null; internal = true; };
          specialArgs = lib.mkOption { type = types.raw; default = specialArgs; internal = true; };
        };
        config = { };
      };
      moduleArgs = { inherit lib config; inherit (merged) options; inherit (result) extendModules; } // args // specialArgs;
      collected = collect moduleArgs (modules ++ [ internal ]);
      merged = mergeTree prefix
        (map (m: { inherit (m) file options; }) collected)
        (map (m: { inherit (m) file; value = m.config; }) collected);
      freeform =
        let fromModules = builtins.filter (t: t != null) (map (m: m.freeform) collected); in
        if fromModules == [ ] then merged.config._module.freeformType else builtins.head fromModules;
      extra =
        let
          depth = builtins.length prefix;
          strip = path: lib.drop depth path;
          defs = map (u: { inherit (u) file; value = lib.setAttrByPath (strip u.path) u.value; }) merged.unmatched;
        in
        if defs == [ ] then { } else (mergeDefinitions prefix freeform defs).value;
      # What modules see as `config`: with the definitions of the free-form type, not yet checked: a check would be circular.
      config = if freeform == null then merged.config else lib.recursiveUpdate extra merged.config;
      checked =
        if freeform != null || !merged.config._module.check || merged.unmatched == [ ] then config
        else throw (unknownOption hint (merged.options) (builtins.head merged.unmatched));
      result = {
        inherit (merged) options;
        config = removeAttrs checked [ "_module" ];
        _module = merged.config._module;
        type = types.submoduleWith { inherit modules specialArgs; };
        extendModules = more: evalModules {
          modules = modules ++ (more.modules or [ ]);
          specialArgs = specialArgs // (more.specialArgs or { });
          prefix = more.prefix or prefix;
          inherit args hint;
        };
      };
    in
    result;

  isType = type: x: builtins.isAttrs x && (x._type or null) == type;
  setType = type: x: x // { _type = type; };

  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkMerge = contents: { _type = "merge"; inherit contents; };
  mkAssert = assertion: message: content: mkIf (if assertion then true else throw "\nFailed assertion: ${message}") content;
  mkOverride = priority: content: { _type = "override"; inherit priority content; };
  mkOptionDefault = mkOverride 1500;
  mkDefault = mkOverride 1000;
  mkImageMediaOverride = mkOverride 60;
  mkForce = mkOverride 50;
  mkVMOverride = mkOverride 10;
  mkOrder = priority: content: { _type = "order"; inherit priority content; };
  mkBefore = mkOrder 500;
  mkAfter = mkOrder 1500;
  mkFixStrictness = lib.id;
  mkAliasDefinitions = option: mkIf option.isDefined (mkMerge option.definitions);
  mkDerivedConfig = option: f: mkIf option.isDefined (mkMerge (map (d: mkOverride option.highestPrio (f d)) option.definitions));
  importApply = path: args: { _file = path; imports = [ (import path args) ]; };
  setDefaultModuleLocation = file: module: { _file = file; imports = [ module ]; };

  # Renamed and removed options, as modules.
  mkRenamedOptionModule = from: to: { config, options, ... }: {
    options = lib.setAttrByPath from (lib.mkOption { visible = false; internal = true; type = types.unspecified; apply = _: lib.getAttrFromPath to config; });
    config = lib.setAttrByPath to (mkIf (lib.getAttrFromPath from options).isDefined (mkMerge (lib.getAttrFromPath from options).definitions));
  };
  mkRemovedOptionModule = path: message: {
    options = lib.setAttrByPath path (lib.mkOption { internal = true; apply = _: throw "The option `${showOption path}' can no longer be used since it's been removed. ${message}"; });
  };
  mkAliasOptionModule = mkRenamedOptionModule;
}
