# What a person reads when a configuration asks for what is not there.

fails "unknown option: its path, file, and what there is" vm 'The option `services.foo.enable' 'does not exist' 'configuration.nix' 'nginx.virtualHosts.<name>' 'openssh.settings' <<'N'
{ services.foo.enable = true; }
N

fails "unknown option: a near miss" vm 'Did you mean `services.nginx' <<'N'
{ services.ngnix.enable = true; }
N

fails "unknown option: inside a submodule" vm 'users.users.alice.initialPasword' 'Did you mean `users.users.alice.initialPassword' <<'N'
{ users.users.alice = { isNormalUser = true; initialPasword = "test"; }; }
N

fails "unknown option: also behind mkIf" vm 'services.foo.enable' <<'N'
{ lib, ... }: { config = lib.mkIf true { services.foo = { enable = true; }; }; }
N

fails "type: option, file, expected and found" vm '`networking.hostName' 'configuration.nix' 'Expected: string' 'Found: an integer' <<'N'
{ networking.hostName = 5; }
N

fails "type: in a list of ports" vm 'networking.firewall.allowedTCPPorts' 'between 0 and 65535' 'Found: a string' <<'N'
{ networking.firewall.allowedTCPPorts = [ "80" ]; }
N

fails "type: a group is not an option" vm '`services.nginx' 'is a group of options' <<'N'
{ services.nginx = true; }
N

fails "unknown package: with pkgs" vm "'frobnicate'" 'pkgs.frobnicate' 'has no such package' 'cowsay' <<'N'
{ pkgs, ... }: { environment.systemPackages = with pkgs; [ cowsay frobnicate ]; }
N

fails "unknown package: pkgs.name, and a near miss" vm "'cowsai'" 'did you mean cowsay?' <<'N'
{ pkgs, ... }: { environment.systemPackages = [ pkgs.cowsai ]; }
N

fails "packages from source say that they need nixpkgs" vm 'pkgs.stdenv.mkDerivation' 'a real nixpkgs' <<'N'
{ pkgs, ... }: { environment.systemPackages = [ (pkgs.stdenv.mkDerivation { name = "x"; }) ]; }
N

fails "users: neither normal nor system" vm 'Exactly one of users.users.alice.isSystemUser' <<'N'
{ users.users.alice = { }; }
N
