# Attribute sets.
lib:

rec {
  inherit (builtins) attrNames attrValues listToAttrs hasAttr isAttrs getAttr removeAttrs intersectAttrs mapAttrs catAttrs
    zipAttrsWith functionArgs;

  nameValuePair = name: value: { inherit name value; };
  isDerivation = x: builtins.isAttrs x && (x.type or null) == "derivation";
  optionalAttrs = condition: set: if condition then set else { };
  filterAttrs = predicate: set:
    removeAttrs set (builtins.filter (name: !(predicate name set.${name})) (builtins.attrNames set));
  mapAttrs' = f: set: builtins.listToAttrs (map (name: f name set.${name}) (builtins.attrNames set));
  mapAttrsToList = f: set: map (name: f name set.${name}) (builtins.attrNames set);
  attrsToList = mapAttrsToList nameValuePair;
  concatMapAttrs = f: set: mergeAttrsList (mapAttrsToList f set);
  genAttrs = names: f: builtins.listToAttrs (map (name: nameValuePair name (f name)) names);
  mergeAttrsList = builtins.foldl' (a: b: a // b) { };
  foldlAttrs = f: init: set: builtins.foldl' (acc: name: f acc name set.${name}) init (builtins.attrNames set);
  foldAttrs = op: nul: list:
    builtins.foldl' (acc: set: acc // builtins.mapAttrs (name: value: op value (acc.${name} or nul)) set) { } (lib.reverseList list);
  getAttrs = names: set: genAttrs names (name: set.${name});
  attrVals = names: set: map (name: set.${name}) names;
  attrByPath = path: default: set:
    if path == [ ] then set
    else if builtins.isAttrs set && set ? ${builtins.head path} then attrByPath (builtins.tail path) default set.${builtins.head path}
    else default;
  hasAttrByPath = path: set:
    path == [ ] || (builtins.isAttrs set && set ? ${builtins.head path} && hasAttrByPath (builtins.tail path) set.${builtins.head path});
  getAttrFromPath = path: attrByPath path (throw "cannot find attribute `${lib.concatStringsSep "." path}'");
  setAttrByPath = path: value: if path == [ ] then value else { ${builtins.head path} = setAttrByPath (builtins.tail path) value; };
  mapAttrsRecursiveCond = condition: f: set:
    let
      go = path: builtins.mapAttrs (name: value:
        if builtins.isAttrs value && condition value then go (path ++ [ name ]) value else f (path ++ [ name ]) value);
    in
    go [ ] set;
  mapAttrsRecursive = mapAttrsRecursiveCond (_: true);
  filterAttrsRecursive = predicate: set:
    builtins.mapAttrs (_: value: if builtins.isAttrs value then filterAttrsRecursive predicate value else value) (filterAttrs predicate set);
  collect = predicate: set:
    if predicate set then [ set ]
    else if builtins.isAttrs set then builtins.concatMap (collect predicate) (builtins.attrValues set)
    else [ ];
  recursiveUpdateUntil = stop: a: b:
    let
      merge = path: a: b: a // builtins.mapAttrs
        (name: value:
          if a ? ${name} && !(stop (path ++ [ name ]) a.${name} value) then merge (path ++ [ name ]) a.${name} value else value)
        b;
    in
    merge [ ] a b;
  recursiveUpdate = recursiveUpdateUntil (_: a: b: !(builtins.isAttrs a && builtins.isAttrs b));
  updateManyAttrsByPath = updates: set:
    builtins.foldl' (acc: { path, update }: recursiveUpdate acc (setAttrByPath path (update (getAttrFromPath path acc)))) set updates;
  zipAttrs = builtins.zipAttrsWith (_: values: values);
  cartesianProduct = lib.cartesianProductOfSets;
  toDerivation = path: { type = "derivation"; name = builtins.baseNameOf path; outPath = builtins.storePath path; };
  recurseIntoAttrs = set: set // { recurseForDerivations = true; };
  getOutput = _: package: package;
  getBin = package: package;
  getLib = package: package;
  getDev = package: package;
  getMan = package: package;
}
