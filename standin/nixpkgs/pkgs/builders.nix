# Making files and scripts: pkgs.writeText, writeShellScriptBin, runCommand and their kin.
# They build outside of any sandbox with the host's shell, and must use nothing but what every Debian has.
{ lib, system }:

rec {
  # Also the way for anything else to become a derivation here.
  runCommand = name: env: script:
    let
      package = derivation ((removeAttrs env [ "meta" "passthru" "nativeBuildInputs" "buildInputs" "preferLocalBuild" "allowSubstitutes" ]) // {
        inherit name system script;
        builder = "/bin/bash";
        args = [ "-c" "set -eu; . \"$scriptPath\"" ];
        PATH = lib.concatStringsSep ":" (map (p: "${p}/bin") ((env.nativeBuildInputs or [ ]) ++ (env.buildInputs or [ ])) ++ [ "/usr/bin" "/bin" ]);
        passAsFile = [ "script" ] ++ (env.passAsFile or [ ]);
        preferLocalBuild = true;
        # No binary cache has these: asking one would only wait for the network.
        allowSubstitutes = false;
      });
    in
    package // { meta = env.meta or { }; out = package; } // (env.passthru or { });
  runCommandLocal = runCommand;
  runCommandNoCC = runCommand;
  runCommandCC = _: _: _: throw "The stand-in has no compiler for derivations: pkgs.runCommandCC needs a real nixpkgs.";

  writeTextFile = { name, text, executable ? false, destination ? "", checkPhase ? "", meta ? { }, ... }:
    runCommand name { inherit text meta; passAsFile = [ "text" ]; } ''
      target=$out${lib.escapeShellArg destination}
      mkdir -p "$(dirname "$target")"
      cp "$textPath" "$target"
      chmod ${if executable then "755" else "644"} "$target"
      ${checkPhase}
    '';
  writeText = name: text: writeTextFile { inherit name text; };
  writeTextDir = path: text: writeTextFile { name = baseNameOf path; inherit text; destination = "/${path}"; };
  writeScript = name: text: writeTextFile { inherit name text; executable = true; };
  writeScriptBin = name: text: writeTextFile { inherit name text; executable = true; destination = "/bin/${name}"; meta.mainProgram = name; } // { pname = name; };
  # /bin/bash is in the machine, which is Debian, and on the host.
  writeShellScript = name: text: writeScript name "#!/bin/bash\n${text}";
  writeShellScriptBin = name: text: writeScriptBin name "#!/bin/bash\n${text}";
  writeShellApplication = { name, text, runtimeInputs ? [ ], runtimeEnv ? { }, ... }:
    writeScriptBin name ''
      #!/bin/bash
      set -o errexit
      set -o nounset
      set -o pipefail
      ${lib.concatStrings (lib.mapAttrsToList (n: v: "export ${n}=${lib.escapeShellArg v}\n") runtimeEnv)}${
        lib.optionalString (runtimeInputs != [ ]) "export PATH=\"${lib.makeBinPath runtimeInputs}:$PATH\"\n"}
      ${text}
    '';
  writers = {
    writeBash = writeShellScript;
    writeBashBin = writeShellScriptBin;
    writeDash = name: text: writeScript name "#!/bin/dash\n${text}";
    writeDashBin = name: text: writeScriptBin name "#!/bin/dash\n${text}";
    writeJSON = name: value: writeText name (builtins.toJSON value);
  };
  concatTextFile = { name, files, ... }: runCommand name { inherit files; } "cat $files > $out";
  concatText = name: files: concatTextFile { inherit name files; };

  linkFarm = name: entries:
    let list = if builtins.isAttrs entries then lib.mapAttrsToList (name: path: { inherit name path; }) entries else entries; in
    runCommand name { } ''
      mkdir -p "$out"
      ${lib.concatMapStrings (entry: ''
        mkdir -p "$(dirname "$out"/${lib.escapeShellArg entry.name})"
        ln -s ${lib.escapeShellArg "${entry.path}"} "$out"/${lib.escapeShellArg entry.name}
      '') list}
    '';
  # Folders of folders of links. Stand-in packages are linked whole: what is in their bin is known to the machine only.
  symlinkJoin = { name, paths, postBuild ? "", meta ? { }, ... }:
    runCommand name { inherit paths meta; } ''
      mkdir -p "$out"
      for path in $paths; do
        if [ -e "$path/standin-debs" ]; then cat "$path/standin-debs" >> "$out/standin-debs"; continue; fi
        cp -rs --no-preserve=mode "$path/." "$out/"
      done
      ${postBuild}
    '';
  buildEnv = { name, paths, ... }: symlinkJoin { inherit name paths; };

  formats =
    let
      format = extension: generate: { type = lib.types.attrsOf lib.types.anything; generate = name: value: writeText name (generate value); };
    in
    {
      json = _: format "json" builtins.toJSON;
      # JSON is YAML.
      yaml = _: format "yaml" builtins.toJSON;
      ini = options: format "ini" (lib.generators.toINI options);
      keyValue = options: format "conf" (lib.generators.toKeyValue options);
    };
}
