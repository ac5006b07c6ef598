# The documentation says what the code does.

if wanted "documentation: OPTIONS.md is that of the options"; then
    nix-instantiate --eval --json "$nixpkgs/nixos/options.md.nix" 2>/dev/null |
        python3 -c 'import json, sys; print(json.load(sys.stdin), end="")' >"$work/OPTIONS.md"
    if cmp -s "$work/OPTIONS.md" "$here/../OPTIONS.md"; then ok "documentation: OPTIONS.md is that of the options"
    else bad "documentation: OPTIONS.md is that of the options" "$(diff "$work/OPTIONS.md" "$here/../OPTIONS.md" | head -n 10)"; fi
fi

if wanted "documentation: every option of the issue is there"; then
    missing=
    for option in 'users.users.<name>.initialPassword' 'users.users.<name>.initialHashedPassword' 'users.users.<name>.hashedPassword' \
        'users.users.<name>.openssh.authorizedKeys.keys' 'users.users.<name>.uid' 'users.users.<name>.shell' 'users.users.<name>.description' \
        'users.groups.<name>.gid' security.sudo.wheelNeedsPassword networking.hostName networking.firewall.enable \
        environment.systemPackages 'environment.etc.<name>.text' environment.variables time.timeZone services.openssh.enable \
        services.openssh.settings services.nginx.enable 'services.nginx.virtualHosts.<name>.root' \
        'services.nginx.virtualHosts.<name>.locations.<name>.return' services.postgresql.enable 'systemd.services.<name>.script' \
        'systemd.services.<name>.serviceConfig' 'systemd.services.<name>.wantedBy' 'systemd.timers.<name>.timerConfig' boot.loader \
        boot.kernelParams virtualisation.memorySize virtualisation.cores virtualisation.diskSize virtualisation.graphics \
        'virtualisation.forwardPorts.*.guest.port' virtualisation.qemu.options virtualisation.vmVariant system.stateVersion; do
        grep -qF "| \`$option" "$here/../OPTIONS.md" || missing="$missing $option"
    done
    if [ -z "$missing" ]; then ok "documentation: every option of the issue is there"; else bad "documentation: every option of the issue is there" "$missing"; fi
fi
