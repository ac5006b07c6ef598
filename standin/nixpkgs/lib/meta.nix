# Packages as values.
lib:

rec {
  getExe' = package: name: "${package}/bin/${name}";
  getExe = package: getExe' package (package.meta.mainProgram or (lib.getName package));
  setPrio = priority: package: package // { meta = (package.meta or { }) // { inherit priority; }; };
  lowPrio = setPrio 10;
  hiPrio = setPrio (-10);
  makeOverridable = f: args: f args // { override = new: makeOverridable f (args // lib.toFunction new args); };
  callPackageWith = scope: f: args:
    let function = if builtins.isFunction f then f else import f; in
    makeOverridable function (builtins.intersectAttrs (builtins.functionArgs function) scope // args);
}
