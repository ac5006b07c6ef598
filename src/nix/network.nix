# What a VM needs on the networks of a scenario: names for its cards, addresses, a host name, and the other machines in
# /etc/hosts. The module knows no scenario. QEMU passes what the machine is in this one (fw_cfg, opt/org.nixvm-test/network):
# entries with `;` between them and fields with `/` between them.
#
#   name=NAME                     the host name, for a configuration that sets none
#   card=MAC/NAME/IPV4/IPV6       a card; its addresses may be empty
#   host=ADDRESS/NAME[/NAME...]   a line of /etc/hosts
#   away=NETWORK                  a network of the scenario that the machine is not on
#
# So a configuration has one store path, whatever the scenario. Without that text everything is as the configuration has it.
#
# - At each boot, before systemd, and at each switch, the activation reads the text. It replaces /etc/hosts and /etc/hostname
#   by links to files below /run, and writes files that tell udev, systemd-networkd and dhcpcd about the cards. The options for
#   files in /etc stay as they are: other modules read them.
# - udev names a card by its MAC address. nixvm-network.service does it where udev could not, for example because another card
#   has the name. Then it gives the cards their addresses. It runs before everything that waits for network-pre.target.
# - As with NixOS's test driver, the configuration's own addresses stay beside these, and a configuration that forces the
#   addresses of a card (lib.mkForce [ ]) has only its own. A card in a bridge or a bond gets no address: Linux can't use it.
# - systemd-networkd removes addresses that it does not know from cards that it manages, so it is told about these.
#   dhcpcd asks for no address on a card that has one, unless the configuration wants that (useDHCP = true).
{ config, lib, options, pkgs, ... }:

let
  inherit (config) networking;

  # Whether the configuration itself says how the machine is called.
  named = options.networking.hostName.highestPrio < 1500;

  # Prints /etc/hosts of a system, without the host name that NixOS gives to a configuration that sets none: another machine
  # can have that name. The last line may lack its end (networking.extraHosts), which `$a\` adds.
  hosts =
    let
      host = networking.hostName;
      names = lib.optional (networking.domain != null) "${host}.${toString networking.domain}" ++ [ host ];
      remove = name: "s/ ${builtins.replaceStrings [ "." ] [ "\\." ] name}( |$)/\\1/; ";
    in
    if named || host == "" then "sed '$a\\' \"$system/etc/hosts\""
    else "sed -E -e '/^(127\\.0\\.0\\.2|::1) /{ ${lib.concatMapStrings remove names}/ /!d }' -e '$a\\' \"$system/etc/hosts\"";

  # --- What the configuration says about its cards.

  # The priorities with which a definition, which may have mkIf and mkForce anywhere in it, sets what is at `path`.
  priorities = path: priority: value:
    let kind = if builtins.isAttrs value then value._type or null else null; in
    if kind == "override" then priorities path (if value.priority < priority then value.priority else priority) value.content
    else if kind == "if" then lib.optionals value.condition (priorities path priority value.content)
    else if kind == "merge" then builtins.concatMap (priorities path priority) value.contents
    else if kind == "order" then priorities path priority value.content
    else if path == [ ] then [ priority ]
    else if builtins.isAttrs value && value ? ${builtins.head path} then priorities (builtins.tail path) priority value.${builtins.head path}
    else [ ];
  # Whether a definition with the usual priority, such as one of NixOS's test driver, would have no effect there.
  forced = path: builtins.any (definition: builtins.any (priority: priority < 100) (priorities path 100 definition.value))
    options.networking.interfaces.definitionsWithLocations;
  takenBy = name: family: forced [ name ] || forced [ name family ] || forced [ name family "addresses" ];

  interfaces = builtins.attrNames networking.interfaces;
  everything = options.networking.interfaces.highestPrio < 100;
  # systemd-networkd would turn IPv6 on again for an address of it.
  taken = family: if everything || (family == "ipv6" && !networking.enableIPv6) then [ "*" ] else builtins.filter (name: takenBy name family) interfaces;
  leased = builtins.filter (name: networking.interfaces.${name}.useDHCP or null == true) interfaces;

  # The units of systemd-networkd, each with the names of cards that it is for.
  units = lib.mapAttrsToList
    (name: unit: {
      inherit name;
      cards = lib.toList (unit.matchConfig.Name or (if unit.name or null != null then unit.name else "*"));
      member = builtins.any (key: unit.networkConfig ? ${key} || unit.${lib.toLower key} or [ ] != [ ]) [ "Bridge" "Bond" ];
    })
    (lib.optionalAttrs (options.systemd.network ? networks) config.systemd.network.networks);
  namesOf = set: if builtins.isAttrs set then builtins.attrNames set else set;
  members = lib.unique (builtins.concatMap
    (kind: builtins.concatMap (group: namesOf group.interfaces) (builtins.attrValues networking.${kind} or { }))
    [ "bridges" "bonds" "vswitches" ]
  ++ builtins.concatMap (unit: lib.optionals unit.member unit.cards) units);

  # --- The cards that the configuration asks for, as NixOS's test driver numbers them.

  cards = lib.imap1 (number: vlan: { name = "eth${toString number}"; inherit vlan; assignIP = true; }) (config.virtualisation.vlans or [ 1 ])
    ++ lib.mapAttrsToList (name: card: { inherit name; inherit (card) vlan assignIP; }) (config.virtualisation.interfaces or { });

  # --- What runs in the machine.

  # The group of network cards (ip link show group) that are none of the scenario's.
  outside = "28280";

  list = names: lib.escapeShellArg " ${toString names} ";
  dhcpcd = lib.optionals (config.systemd.services ? dhcpcd) (lib.toList (config.systemd.services.dhcpcd.serviceConfig.ExecStart or [ ]));

  start = ''
    set -u
    umask 022
    export LC_ALL=C PATH=${lib.makeBinPath [ pkgs.coreutils pkgs.gnused pkgs.iproute2 pkgs.kmod pkgs.util-linux (config.systemd.package or pkgs.systemd) ]}
    folder=/run/nixvm-test
    warn() { echo "nixvm-network: $1" >&2; }
    # Writes stdin to a file, all at once.
    replace() { cat >"$1.new" && mv -f "$1.new" "$1"; }
    has() { [[ $1 == *" $2 "* || $1 == *" * "* ]]; }
  '';

  # Run by the activation of the system $1: writes what the text of the machine says.
  read = pkgs.writeShellScript "nixvm-network-read" ''
    ${start}
    system=$1
    taken4=${list (taken "ipv4")}
    taken6=${list (taken "ipv6")}
    leased=${list leased}
    members=${list members}

    # Prints the text that QEMU passed. A text that is no longer there, or can't be read, is the one of before.
    text() {
      local entry=firmware/qemu_fw_cfg/by_name/opt/org.nixvm-test/network/raw sys=/sys
      modprobe -q ${lib.optionalString (config.system ? modulesTree) "-d ${config.system.modulesTree}"} qemu_fw_cfg 2>/dev/null
      if [ ! -d /sys/firmware ]; then
        # Stage 1 with systemd activates the system where no /sys is.
        sys=$folder/sys
        mkdir -p "$sys" && mount -t sysfs sysfs "$sys"
      fi
      if [ -e "$sys/$entry" ]; then
        head -c 1048576 "$sys/$entry" | tr -cd '\040-\176' | replace "$folder/text"
      fi
      if [ "$sys" != /sys ]; then umount "$sys" && rmdir "$sys"; fi
      if [ -e "$folder/text" ]; then cat "$folder/text"; fi
    }

    # Reads the entries into `name`, `cards` ("MAC NAME IPV4 IPV6", "-" for none) and `hosts`.
    parse() {
      local entries entry address names
      local label='[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?'
      local card='^(52:54:00:12:[0-9a-f]{2}:[0-9a-f]{2})/([A-Za-z0-9_][A-Za-z0-9_.-]{0,14})/([0-9.]{7,15})?/([0-9a-f:]{2,39})?$'
      name= cards=() hosts=() away=()
      IFS=';' read -r -a entries <<<"$1"
      for entry in "''${entries[@]}"; do
        case $entry in
          name=*) [[ ''${entry#name=} =~ ^$label$ ]] && name=''${entry#name=} && continue ;;
          card=*)
            if [[ ''${entry#card=} =~ $card ]]; then
              cards+=("''${BASH_REMATCH[1]} ''${BASH_REMATCH[2]} ''${BASH_REMATCH[3]:--} ''${BASH_REMATCH[4]:--}")
              continue
            fi
            ;;
          host=*)
            if [[ ''${entry#host=} =~ ^([0-9a-fA-F:.]{2,39})/([A-Za-z0-9_./-]*[A-Za-z0-9_.-])$ ]]; then
              address=''${BASH_REMATCH[1]} names=''${BASH_REMATCH[2]}
              hosts+=("$address ''${names//\// }")
              continue
            fi
            ;;
          away=*)
            if [[ ''${entry#away=} =~ ^[0-9a-f.:]{3,39}/[0-9]{1,3}$ ]]; then
              away+=("''${entry#away=}")
              continue
            fi
            ;;
        esac
        warn "an entry from QEMU is not understood: ''${entry:0:100}"
      done
    }

    # Adds lines to a unit of systemd-networkd.
    tell() {
      mkdir -p "/run/systemd/network/$1.network.d"
      printf '%s' "$2" | replace "/run/systemd/network/$1.network.d/nixvm-network.conf"
    }

    read_text() {
      local card mac four six line addresses rules= denied= effective= unit names full
      mkdir -p "$folder" || return
      parse "$(text)"

      if [ -n "$name" ] || [ "''${#hosts[@]}" != 0 ]; then
        {
          ${hosts}
          ${lib.optionalString (!named) ''
            # As NixOS has it for a name that the configuration sets.
            if [ -n "$name" ]; then
              full="${lib.optionalString (networking.domain != null) "$name.${toString networking.domain} "}$name"
              echo "127.0.0.2 $full"
              ${lib.optionalString networking.enableIPv6 "echo \"::1 $full\""}
            fi
          ''}
          if [ "''${#hosts[@]}" != 0 ]; then printf '%s\n' "''${hosts[@]}"; fi
        } | replace "$folder/hosts"
        ln -sfn "$folder/hosts" /etc/hosts
      fi
      ${lib.optionalString (!named) ''
        if [ -n "$name" ]; then
          echo "$name" | replace "$folder/hostname"
          ln -sfn "$folder/hostname" /etc/hostname
          echo "$name" >/proc/sys/kernel/hostname
        fi
      ''}

      rm -f /run/systemd/network/*.network.d/nixvm-network.conf
      if [ -e "$folder/cards" ]; then
        before=$(<"$folder/cards")
        while read -r mac card four six; do rm -f "/run/systemd/network/40-$card.network"; done <<<"$before"
      fi
      mkdir -p /run/systemd/network /run/udev/rules.d
      for line in "''${cards[@]}"; do
        read -r mac card four six <<<"$line"
        if has "$taken4" "$card" || has "$members" "$card"; then four=-; fi
        if has "$taken6" "$card" || has "$members" "$card"; then six=-; fi
        effective+="$mac $card $four $six"$'\n'
        # Not for what is made of a card: a VLAN has its MAC address, too.
        rules+="ACTION==\"add\", SUBSYSTEM==\"net\", DEVPATH!=\"/devices/virtual/*\", ATTR{address}==\"$mac\", NAME=\"$card\"${lib.optionalString ((networking.networkmanager.ensureProfiles.profiles or { }) == { }) ", ENV{NM_UNMANAGED}=\\\"1\\\""}"$'\n'
        if [ "$four$six" = -- ]; then continue; fi
        # Addresses stay while the cable is pulled: without them, traffic for this network would leave by another card.
        addresses=$'[Network]\nConfigureWithoutCarrier=yes\nIgnoreCarrierLoss=yes\n'
        if [ "$four" != - ]; then addresses+=$'[Address]\n'"Address=$four/24"$'\n'; fi
        if [ "$six" != - ]; then addresses+=$'[Address]\n'"Address=$six/64"$'\nDuplicateAddressDetection=none\n'; fi
        # A file of the same name below /etc, of the configuration's own, goes before this one.
        printf '[Match]\nName=%s\n' "$card" | replace "/run/systemd/network/40-$card.network"
        if [ "$four" != - ] && ! has "$leased" "$card"; then
          denied+=" --denyinterfaces $card"
          tell "40-$card" $'[Network]\nDHCP=no\n'"$addresses"
        else
          tell "40-$card" "$addresses"
        fi
        while read -r unit names; do
          if [ "$names" = "$card" ]; then
            tell "$unit" "$addresses"
          else
            set -f
            for names in $names; do
              # The unit is for other cards as well.
              case $card in $names) tell "$unit" $'[Network]\nKeepConfiguration=static\n' ;; esac
            done
            set +f
          fi
        done <<<${lib.escapeShellArg (lib.concatMapStrings
          (unit: lib.optionalString (!(unit.member || lib.hasPrefix "40-" unit.name || lib.hasPrefix "99-" unit.name)) "${unit.name} ${toString unit.cards}\n")
          units)}
      done
      if [ "''${#away[@]}" != 0 ]; then
        line=
        for card in "''${cards[@]}"; do line+="ATTR{address}!=\"''${card%% *}\", "; done
        rules+="ACTION==\"add\", SUBSYSTEM==\"net\", DEVPATH!=\"/devices/virtual/*\", ''${line}ATTR{netdev_group}=\"${outside}\""$'\n'
      fi
      printf '%s' "$rules" | replace /run/udev/rules.d/70-nixvm-network.rules
      printf '%s' "$effective" | replace "$folder/cards"
      if [ "''${#away[@]}" != 0 ]; then printf '%s\n' "''${away[@]}"; fi | replace "$folder/away"
      ${lib.optionalString (dhcpcd != [ ]) ''
        mkdir -p /run/systemd/system/dhcpcd.service.d
        {
          if [ -n "$denied" ]; then
            printf '[Service]\nExecStart=\n'
            printf 'ExecStart=%s\n' ${lib.concatMapStringsSep " " (line: "${lib.escapeShellArg line}\"$denied\"") dhcpcd}
          fi
        } | replace /run/systemd/system/dhcpcd.service.d/nixvm-network.conf
      ''}
    }
    before=
    read_text
    # A switch has changed what cards get. The unit is not started again for it.
    if [ -e "$folder/added" ] && [ "$before" != "$(<"$folder/cards")" ]; then ${up} 5; fi
  '';

  # Run by nixvm-network.service: names the cards and gives them their addresses. Nothing of the configuration is in it, so
  # no switch restarts the unit.
  up = pkgs.writeShellScript "nixvm-network-up" ''
    ${start}
    # Finds the card with a MAC address: `device` is its name. With "permanent", also a card that has another one by now.
    find_card() {
      local each address rest
      for each in /sys/class/net/*; do
        [ -e "$each/device" ] && read -r address <"$each/address" || continue
        if [ "$address" = "$1" ]; then device=''${each##*/}; return 0; fi
      done 2>/dev/null
      if [ "''${2-}" = permanent ]; then
        while read -r _ each rest; do
          case " $rest " in *" permaddr $1 "*) device=''${each%%[:@]*}; return 0 ;; esac
        done < <(ip -o link show 2>/dev/null)
      fi
      return 1
    }

    # Gives the card `device` the name $1. Another card with that name gets a free one.
    rename() {
      local number=0
      if [ -e "/sys/class/net/$1" ]; then
        while [ -e "/sys/class/net/eth$number" ] || has "$wanted" "eth$number"; do number=$((number + 1)); done
        ip link set dev "$1" down
        ip link set dev "$1" name "eth$number" || return
      fi
      ip link set dev "$device" down
      ip link set dev "$device" name "$1"
    }

    status=0 limit=$((SECONDS + ''${1-60})) batch= rules4= rules6= added= old= wanted=" " how=([10]=permanent)
    # To wait on, without a process.
    exec {pause}<> <(:)
    mapfile -t lines <"$folder/cards"
    for line in "''${lines[@]}"; do
      read -r mac card four six <<<"$line"
      wanted+="$card "
    done
    for line in "''${lines[@]}"; do
      read -r mac card four six <<<"$line"
      round=0
      until find_card "$mac" "''${how[round % 20]-}"; do
        if ((SECONDS >= limit)); then
          warn "there is no network card with the address $mac, which is to be $card"
          status=1
          continue 2
        fi
        read -r -t 0.1 -u "$pause"
        round=$((round + 1))
      done
      if [ "$device" != "$card" ]; then
        udevadm settle --timeout=10
        find_card "$mac"
      fi
      if [ "$device" != "$card" ] && ! rename "$card"; then
        warn "the network card $mac is called $device, and can't be renamed to $card"
        card=$device
        status=1
      fi
      if [ "$four$six" != -- ]; then batch+="link set dev $card up"$'\n'; fi
      if [ "$four" != - ]; then
        # With a broadcast address, as systemd-networkd has it, which else sets the same address again and again.
        batch+="address replace $four/24 brd + dev $card"$'\n'
        added+="$four/24 dev $card"$'\n'
      fi
      if [ "$six" != - ] && [ "$(cat "/proc/sys/net/ipv6/conf/$card/disable_ipv6" 2>/dev/null)" = 0 ]; then
        batch+="address replace $six/64 dev $card nodad"$'\n'
        added+="$six/64 dev $card"$'\n'
      fi
    done
    # A network that the machine is not on is not looked for behind QEMU's user network. What counts is a route to it, and a
    # default route by a card of the scenario. systemd-networkd leaves rules of the kernel.
    if [ -s "$folder/away" ] && [ ! -e "$folder/ruled" ]; then
      for each in /sys/class/net/*; do
        if [ -e "$each/device" ] && ! has "$wanted" "''${each##*/}"; then echo ${outside} >"$each/netdev_group"; fi
      done
      while read -r line; do
        rules="rule add to $line protocol kernel pref 32763 lookup main suppress_prefixlength 0"$'\n'
        rules+="rule add to $line protocol kernel pref 32764 lookup main suppress_ifgroup ${outside}"$'\n'
        rules+="rule add to $line protocol kernel pref 32765 unreachable"$'\n'
        if [[ $line == *:* ]]; then rules6+=$rules; else rules4+=$rules; fi
      done <"$folder/away"
      printf '%s' "$rules4" | ip -force -batch - || status=1
      if [ "$(cat /proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null)" = 0 ]; then
        printf '%s' "$rules6" | ip -6 -force -batch - || status=1
      fi
      : >"$folder/ruled"
    fi
    # After a switch, addresses that are no longer to be there.
    if [ -e "$folder/added" ]; then old=$(<"$folder/added"); fi
    while read -r line; do
      if [ -n "$line" ] && [[ $added != *"$line"$'\n'* ]]; then ip address del $line 2>/dev/null; fi
    done <<<"$old"
    printf '%s' "$added" | replace "$folder/added"
    printf '%s' "$batch" | ip -force -batch - || status=1
    exit $status
  '';
in
{
  config = {
    system.activationScripts.nixvm-network = {
      # After what sets the files and the name of the configuration.
      deps = builtins.filter (name: config.system.activationScripts ? ${name}) [ "etc" "hostname" ];
      text = "${read} \"$systemConfig\" || true";
    };
    systemd.services.nixvm-network = {
      description = "Network Cards of a Scenario";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-pre.target" ];
      after = [ "systemd-udevd.service" "systemd-udev-trigger.service" "systemd-sysctl.service" ];
      before = [ "network-pre.target" "network.target" "dhcpcd.service" "shutdown.target" ];
      conflicts = [ "shutdown.target" ];
      # A switch must not take the network away.
      stopIfChanged = false;
      unitConfig.ConditionPathExists = "/run/nixvm-test/cards";
      unitConfig.DefaultDependencies = false;
      serviceConfig = {
        Type = "oneshot";
        RemainAfterExit = true;
        TimeoutStartSec = "100s";
        ExecStart = "${up}";
      };
    };
    environment.etc."nixvm-test/network.json".text = builtins.toJSON {
      version = 1;
      hostName = if named then networking.hostName else null;
      inherit (networking) domain;
      ipv6 = networking.enableIPv6;
      inherit cards;
    };
  };
}
