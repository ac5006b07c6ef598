# agenix in the VM: a key and secrets that are for tests alone.
{ lib, ... }:
{
  virtualisation.vmVariant.age = {
    identityPaths = lib.mkForce [ "${./tests/key}" ];
    secrets.report.file = lib.mkForce ./tests/report.age;
  };
}
