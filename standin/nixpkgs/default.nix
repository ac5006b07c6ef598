# `import <nixpkgs> { }` of the stand-in.
args: import ./pkgs (if builtins.isAttrs args then args else { })
