# The guest of the bench `reference`: the sample machine, and what the NixOS test driver needs in a guest, which is a root
# shell on a virtio console. Both drivers boot it with that console.
{ ... }:
{
  imports = [ ../../configuration.nix ];

  # systemd would have a login prompt there.
  systemd.services."serial-getty@hvc0".enable = false;

  systemd.services.backdoor = {
    wantedBy = [ "multi-user.target" ];
    requires = [ "dev-hvc0.device" ];
    after = [ "dev-hvc0.device" ];
    # An interactive shell takes no other signal for its end.
    serviceConfig.KillSignal = "SIGHUP";
    script = ''
      export USER=root HOME=/root DISPLAY=:0.0
      if [ -e /etc/profile ]; then . /etc/profile; fi
      # On a terminal, programs would start one.
      export PAGER=
      cd /tmp
      exec </dev/hvc0 >/dev/hvc0 2>/dev/null
      stty -F /dev/hvc0 raw -echo
      # The driver waits for this line.
      echo "Spawning backdoor root shell..."
      PS1= exec env bash --norc /dev/hvc0
    '';
  };
}
