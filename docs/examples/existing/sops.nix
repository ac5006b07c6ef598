# sops-nix in the VM: a key and secrets that are for tests alone.
{ lib, ... }:
{
  virtualisation.vmVariant.sops = {
    # An ed25519 key of SSH without a passphrase. A path in the store is allowed here, unlike in `age.keyFile`.
    age.sshKeyPaths = lib.mkForce [ "${./tests/key}" ];
    secrets.report.sopsFile = lib.mkForce ./tests/secrets.yaml;
  };
}
