{ imports = [ ./both.nix ];
  systemd.services.changes = { wantedBy = [ "multi-user.target" ]; script = "sleep infinity"; environment.WHICH = "today"; };
  systemd.services.skipped = { wantedBy = [ "multi-user.target" ]; script = "sleep infinity"; restartIfChanged = false; environment.WHICH = "today"; };
  systemd.services.goes = { wantedBy = [ "multi-user.target" ]; script = "sleep infinity"; };
  users.users.carol = { isNormalUser = true; };
}
