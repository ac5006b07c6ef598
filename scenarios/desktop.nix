# What scenarios/desktop.rs looks at: an X server whose screen is memory, and a terminal on it. Only who has
# the server's key may connect, as where a display manager starts it.
{ pkgs, ... }:
{
  imports = [ ../configuration.nix ];

  environment.systemPackages = [ pkgs.xorg.xwininfo ];

  systemd.services.display = {
    wantedBy = [ "multi-user.target" ];
    path = [ pkgs.xorg.xauth pkgs.xorg.xorgserver ];
    script = ''
      xauth -f "$RUNTIME_DIRECTORY/key" add :0 . "$(mcookie)"
      # Without -noreset the server starts over whenever its last client leaves, and refuses who connects meanwhile.
      exec Xvfb :0 -screen 0 640x480x8 -nolisten tcp -noreset -auth "$RUNTIME_DIRECTORY/key"
    '';
    serviceConfig.RuntimeDirectory = "display";
  };

  # Started by the scenario.
  systemd.services.terminal = {
    environment = {
      DISPLAY = ":0";
      XAUTHORITY = "/run/display/key";
    };
    path = [ pkgs.xterm ];
    # As xterm ends when it is told to.
    serviceConfig.SuccessExitStatus = 15;
    script = "exec xterm -fn fixed -T 'of \"alice\": notes' -e sleep infinity";
  };
}
