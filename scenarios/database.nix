# What scenarios/database.rs looks at: PostgreSQL with a database of alice's.
{ ... }:
{
  imports = [ ../configuration.nix ];

  services.postgresql = {
    enable = true;
    ensureDatabases = [ "alice" ];
    ensureUsers = [
      {
        name = "alice";
        ensureDBOwnership = true;
      }
    ];
  };
}
