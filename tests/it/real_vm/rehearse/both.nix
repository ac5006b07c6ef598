{ pkgs, ... }:
{
  users.users.alice = { isNormalUser = true; extraGroups = [ "wheel" ]; initialPassword = "test"; };
  environment.systemPackages = [ pkgs.cowsay pkgs.lolcat ];
  system.stateVersion = "26.05";
  systemd.services.stays = { wantedBy = [ "multi-user.target" ]; script = "sleep infinity"; };
  # Its file never changes, and it stops with the one that does.
  systemd.services.follows = {
    wantedBy = [ "multi-user.target" ];
    partOf = [ "changes.service" ];
    after = [ "changes.service" ];
    script = "sleep infinity";
  };
}
