{ imports = [ ./both.nix ];
  systemd.services.changes = { wantedBy = [ "multi-user.target" ]; script = "sleep infinity"; environment.WHICH = "next"; };
  systemd.services.skipped = { wantedBy = [ "multi-user.target" ]; script = "sleep 9999"; restartIfChanged = false; environment.WHICH = "next"; };
  systemd.services.fresh = { wantedBy = [ "multi-user.target" ]; script = "sleep infinity"; };
  # It runs when the switch ends, and fails a moment later.
  systemd.services.dies = { wantedBy = [ "multi-user.target" ]; script = "sleep 1; exit 3"; };
  users.users.bob = { isNormalUser = true; initialPassword = "bob"; };
}
