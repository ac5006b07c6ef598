# Returns the users of a configuration as its VM creates them on a fresh disk, and checks that the VM can be evaluated.
# The program inserts this function into Nix expressions; its argument is the configuration.
configuration:
let
  vm = configuration.virtualisation.vmVariant or configuration;
  set = user: option: (user.${option} or null) != null;
  # If several are set, the first of these takes effect (nixos/modules/config/update-users-groups.pl).
  kinds = [ "hashedPasswordFile" "password" "hashedPassword" "initialPassword" "initialHashedPassword" ];
  describe = user:
    let found = builtins.filter (set user) kinds; in
    {
      inherit (user) name;
      normal = user.isNormalUser or false;
      shell = baseNameOf (user.shell.shellPath or (toString (user.shell or "")));
      passwords = found;
      clear =
        if found != [ ] && builtins.elem (builtins.head found) [ "password" "initialPassword" ] then user.${builtins.head found} else null;
    };
in
builtins.seq configuration.system.build.vm.drvPath (map describe (builtins.attrValues vm.users.users))
