# Every option that the stand-in declares, and what becomes of it. 60-every-option.sh asks:
#
#   declared   all of them, those inside submodules and internal ones too
#   ignored    those that are accepted and never read (lib.mkIgnored)
#   read       evaluates a configuration that uses everything; each option says "read: OPTION" when its value is looked at
#   unread     evaluates it with a value that throws for each ignored option
#   inert      the switches that are read and change nothing, on or off
let
  lib = import ../nixpkgs/lib;
  empty = import ../nixpkgs/nixos/evaluate.nix { modules = [ ]; };
  options = removeAttrs empty.options [ "_module" "standin" ];

  # Machines on networks get nixvm-test's own module, which reads some options.
  evaluate = modules: import ../nixpkgs/nixos/evaluate.nix { modules = [ use ../../src/nix/network.nix ] ++ modules; };

  # What lets an option have a say: values that its group asks for.
  use = { pkgs, ... }: {
    environment.etc = { full.text = "text"; plain.source = "/file"; };
    programs.nano.nanorc = "text";
    systemd.services = { full.script = "true"; plain.serviceConfig.ExecStart = "/bin/true"; };
    systemd.user.services.full.script = "true";
    users.mutableUsers = false;
    users.users.root.openssh.authorizedKeys.keys = [ "key" ];
  };
  # The same for options in lists and in both instances of a submodule.
  given = {
    "security.sudo.extraRules.*.users" = [ "root" ];
    "virtualisation.fileSystems.<name>.device" = "/dev/vdb";
    "networking.bonds.<name>.interfaces" = [ "eth7" ];
    "networking.bridges.<name>.interfaces" = [ "eth8" ];
    "networking.firewall.filterForward" = true;
    "networking.interfaces.<name>.virtual" = true;
    "networking.nat.enableIPv6" = true;
    "networking.nat.externalInterface" = "eth9";
    "networking.nat.forwardPorts.*.destination" = "10.0.0.1:80";
    "networking.nat.internalInterfaces" = [ "eth7" ];
    "services.nginx.virtualHosts.<name>.locations.<name>.proxyPass" = "http://other";
  };

  # A configuration that sets every option to what `leaf` says of it ([ value ], or [ ] for nothing). Submodules have two
  # instances: `full` has instances of what is in it too.
  tree = leaf: full: path: options:
    lib.concatMapAttrs
      (name: option:
        let
          here = path ++ [ name ];
          inside = (option.type or lib.types.unspecified).inside;
          value =
            if !(lib.isOption option) then [ (tree leaf full here option) ]
            else if inside == null then leaf here option
            else instance leaf full inside here inside.suffix;
        in
        lib.optionalAttrs (value != [ ]) { ${name} = builtins.head value; })
      (removeAttrs options [ "_module" ]);
  instance = leaf: full: inside: path: suffix:
    let below = full: instance leaf full inside (path ++ [ (builtins.head suffix) ]) (builtins.tail suffix); in
    if suffix == [ ] then [ (tree leaf full path inside.options) ]
    else if builtins.head suffix == "*" then [ (lib.optionals full (below full)) ]
    else [{ full = builtins.head (below true); plain = builtins.head (below false); }];
  all = leaf: { config = tree leaf true [ ] options; };

  # What an option gets that has no default.
  sample = option:
    let fits = builtins.filter option.type.check [ 7 "/text" "text" ]; in
    if fits == [ ] then throw "no sample of ${option.type.description}" else builtins.head fits;
  # Switches are on, or what they switch would say nothing.
  basis = path: option:
    if given ? ${lib.showOption path} then [ given.${lib.showOption path} ]
    else if builtins.elem (lib.last path) [ "enable" "isNormalUser" ] && !(option.ignored or false) then [ true ]
    else lib.optional (!(option ? default)) (sample option);
  # The lowest priority of all: it is looked at with the other definitions, and loses.
  quietly = lib.mkOverride 1600;
in
rec {
  declared = leaves (_: true);
  ignored = leaves (option: option.ignored or false);
  leaves = fits: lib.unique (map lib.showOption (paths fits));
  # Those of both instances.
  paths = fits: named (tree (path: option: [{ "option" = lib.optional (fits option) path; }]) true [ ] options);
  named = x:
    if builtins.isList x then builtins.concatMap named x
    else if x ? "option" then x."option"
    else builtins.concatMap named (builtins.attrValues x);

  read = build [
    (all (path: option:
      let say = builtins.trace "read: ${lib.showOption path}"; in
      map say (basis path option) ++ lib.optional (basis path option == [ ]) (quietly (say null))))
  ];

  unread = build [
    (all (path: option: if option.ignored or false then [ (throw "${lib.showOption path} is read") ] else basis path option))
  ];

  # All that a build looks at, but its images.
  build = modules:
    let inherit ((evaluate modules).config.system) build; in
    builtins.isString (build.standin.scriptFor "/folder" + build.standin.specFile.drvPath + (build.vmWithBootLoader.name));

  inert =
    let
      # Both values of a switch have to do, so nothing is asserted here: what the assertions come to counts like the rest.
      outcome = path: value:
        let
          flipped = here: option: if here == path then [ (lib.mkOverride 10 value) ] else basis here option;
          inherit (evaluate [ wrong (all flipped) ]) options;
        in
        builtins.hashString "sha256" (builtins.unsafeDiscardStringContext (
          builtins.toJSON [ (map (a: a.assertion) options.assertions.value) options.standin.spec.value ]
          + options.system.build.value.standin.scriptFor "/folder"));
      # What the switches of checks let pass.
      wrong = { pkgs, ... }: {
        users.users = { full = { uid = 7; shell = pkgs.fish; }; plain.uid = 7; root.openssh.authorizedKeys.keys = lib.mkForce [ ]; };
        programs.fish.enable = lib.mkForce false;
      };
      untouched = outcome null null;
      # One of the two values is the one that it has.
      acts = path: outcome path false != untouched || outcome path true != untouched;
      switches = lib.unique (paths (option: (option.type or lib.types.unspecified).name == "bool" && !(option.ignored or false)));
    in
    map lib.showOption (builtins.filter (path: !(acts path)) switches);
}
