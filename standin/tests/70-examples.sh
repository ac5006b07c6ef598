# The configurations of the book's page on existing configurations: docs/examples/existing.

mkdir -p "$work/existing/tests"
cp "$here/../../docs/examples/existing/"*.nix "$work/existing/"
touch "$work/existing/tests/key" "$work/existing/tests/secrets.yaml" "$work/existing/tests/report.age"

vm=config.virtualisation.vmVariant
existing='{ imports = [ ./existing/configuration.nix ]; }'

is "existing: the server's password is a secret" config.users.users.kim.hashedPasswordFile '"/run/secrets/kim-password"' <<N
$existing
N
has "existing: that of the VM is known" "$vm.standin.spec.users" '"name":"kim","password":{"clear":"test"}' <<N
$existing
N
is "existing: the VM asks for an address" "$vm.networking.interfaces" '{}' <<N
$existing
N
is "existing: the server does not" config.networking.useDHCP 'false' <<N
$existing
N
is "existing: its report goes to the VM itself" "$vm.systemd.services.report.environment.REPORT_TO" '"http://localhost:8080"' <<N
$existing
N
warns "existing: the VM can be made, and the build says what its disks are worth" 'boot.initrd, boot.loader, fileSystems, swapDevices (' <<N
$existing
N
is "existing: a disk of the VM alone" "$vm.virtualisation.emptyDiskImages" '[512]' <<'N'
{ imports = [ ./existing/configuration.nix ./existing/disk.nix ]; }
N
# The modules of sops-nix and agenix are not here: their options are, as anything.
has "existing: sops-nix has a key for tests" "$vm.sops.age.sshKeyPaths" '-key"]' <<'N'
{ lib, ... }: {
  imports = [ ./existing/sops.nix ];
  options.sops = lib.mkOption { type = lib.types.attrsOf lib.types.anything; };
  config.sops = { age.sshKeyPaths = [ "of-the-server" ]; secrets.report.sopsFile = ./of-the-server.yaml; };
}
N
has "existing: agenix has secrets for tests" "$vm.age.secrets.report.file" '-report.age"' <<'N'
{ lib, ... }: {
  imports = [ ./existing/agenix.nix ];
  options.age = lib.mkOption { type = lib.types.attrsOf lib.types.anything; };
  config.age = { identityPaths = [ "of-the-server" ]; secrets.report.file = ./of-the-server.age; };
}
N
