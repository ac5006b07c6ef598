# A machine of a cluster: it answers each line of a connection to port 7000 with the line's number and the line.
{ pkgs, ... }:
{
  imports = [ ../../configuration.nix ];

  networking.firewall.allowedTCPPorts = [ 7000 ];
  systemd.services.count = {
    wantedBy = [ "multi-user.target" ];
    script = ''
      exec ${pkgs.systemd}/bin/systemd-socket-activate --listen 7000 --accept --inetd \
        ${pkgs.bash}/bin/bash -c 'while read -r line; do n=$((n + 1)); echo "$n $line"; done'
    '';
  };
}
