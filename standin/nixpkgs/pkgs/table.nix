# Which Debian packages stand in for which of nixpkgs.
{
  # In every machine already: they add nothing to its image. `null` = the program is called as the package is.
  base = {
    acl = null;
    attr = null;
    bash = { main = "bash"; shell = "/bin/bash"; };
    bashInteractive = { main = "bash"; shell = "/bin/bash"; };
    busybox = null;
    bzip2 = null;
    cacert = { main = "update-ca-certificates"; };
    coreutils = { main = "ls"; };
    coreutils-full = { main = "ls"; };
    cpio = null;
    curl = null;
    curlFull = { main = "curl"; };
    dash = { main = "dash"; shell = "/bin/dash"; };
    dbus = { main = "dbus-send"; };
    diffutils = { main = "diff"; };
    e2fsprogs = { main = "mke2fs"; };
    file = null;
    findutils = { main = "find"; };
    gawk = null;
    getent = { main = "getent"; };
    glibc = { main = "ldd"; };
    gnugrep = { main = "grep"; };
    gnupatch = { main = "patch"; };
    gnused = { main = "sed"; };
    gnutar = { main = "tar"; };
    gzip = null;
    hostname = null;
    iproute2 = { main = "ip"; };
    iputils = { main = "ping"; };
    kmod = null;
    less = null;
    libcap = { main = "setcap"; };
    mkpasswd = { main = "mkpasswd"; };
    nano = null;
    ncurses = { main = "tput"; };
    netcat = { main = "nc"; };
    netcat-openbsd = { main = "nc"; };
    nftables = { main = "nft"; };
    openssh = { main = "ssh"; };
    perl = { main = "perl"; };
    procps = { main = "ps"; };
    psmisc = { main = "killall"; };
    rsync = null;
    shadow = { main = "passwd"; };
    strace = null;
    su = { main = "su"; };
    sudo = null;
    systemd = { main = "systemctl"; };
    time = null;
    tzdata = { main = "zdump"; };
    udev = null;
    util-linux = { main = "lsblk"; };
    watch = { main = "watch"; };
    which = { main = "which"; };
    whois = null;
    xz = { main = "xz"; };
    zstd = null;
  };

  #   name = "debian-package"                    its programs are what the package has in its bin folders
  #   name = { debs = [ … ]; main = "program"; } several packages; or a main program that is called otherwise
  #   shell = "/bin/zsh"                         can be users.users.<name>.shell
  #   alias.bat = "batcat"                       nixpkgs' name of a program that Debian calls otherwise
  # `null` = the Debian package has the same name.
  packages = {
    # --- greetings and games
    boxes = null;
    cmatrix = null;
    cowsay = null;
    figlet = null;
    fortune = { debs = [ "fortune-mod" "fortunes-min" ]; main = "fortune"; };
    hello = null;
    lolcat = null;
    nyancat = null;
    pv = null;
    sl = null;
    toilet = null;

    # --- shells, terminals, editors
    bc = null;
    bat = { debs = [ "bat" ]; main = "bat"; alias.bat = "batcat"; };
    direnv = null;
    ed = null;
    emacs = { debs = [ "emacs-nox" ]; main = "emacs"; };
    emacs-nox = { main = "emacs"; };
    fd = { debs = [ "fd-find" ]; main = "fd"; alias.fd = "fdfind"; };
    fish = { shell = "/bin/fish"; };
    fzf = null;
    htop = null;
    btop = null;
    iotop = null;
    joe = null;
    ksh = { debs = [ "ksh93u+m" ]; main = "ksh"; shell = "/bin/ksh"; };
    mc = null;
    micro = null;
    mksh = { shell = "/bin/mksh"; };
    most = null;
    ncdu = null;
    neofetch = null;
    neovim = { main = "nvim"; };
    parallel = null;
    pwgen = null;
    ranger = null;
    ripgrep = { main = "rg"; };
    screen = null;
    silver-searcher = { debs = [ "silversearcher-ag" ]; main = "ag"; };
    tmux = null;
    tree = null;
    vim = { debs = [ "vim" "vim-common" ]; main = "vim"; };
    vim-full = { debs = [ "vim-nox" "vim-common" ]; main = "vim"; };
    moreutils = { main = "sponge"; };
    zoxide = null;
    zsh = { shell = "/bin/zsh"; };
    tcsh = { shell = "/bin/tcsh"; };
    expect = null;
    dialog = null;

    # --- files and text
    asciinema = null;
    dos2unix = null;
    gettext = null;
    gnupg = { main = "gpg"; };
    html-tidy = { debs = [ "tidy" ]; main = "tidy"; };
    inotify-tools = { main = "inotifywait"; };
    jq = null;
    lz4 = null;
    lzip = null;
    p7zip = { debs = [ "p7zip-full" ]; main = "7z"; };
    pandoc = null;
    rename = null;
    unzip = null;
    xmlstarlet = null;
    xxd = null;
    zip = null;
    hexyl = null;
    imagemagick = { main = "convert"; };
    libxml2 = { debs = [ "libxml2-utils" ]; main = "xmllint"; };
    poppler_utils = { debs = [ "poppler-utils" ]; main = "pdftotext"; };
    exiftool = { debs = [ "libimage-exiftool-perl" ]; main = "exiftool"; };
    rclone = null;
    restic = null;
    borgbackup = { main = "borg"; };
    age = null;

    # --- looking at the system
    acpi = null;
    dmidecode = null;
    ethtool = null;
    fio = null;
    gdb = null;
    hdparm = null;
    hyperfine = null;
    lm_sensors = { debs = [ "lm-sensors" ]; main = "sensors"; };
    lshw = null;
    lsof = null;
    ltrace = null;
    pciutils = { main = "lspci"; };
    smartmontools = { main = "smartctl"; };
    stress = null;
    stress-ng = null;
    sysbench = null;
    sysstat = { main = "iostat"; };
    usbutils = { main = "lsusb"; };
    efibootmgr = null;

    # --- disks
    btrfs-progs = { main = "btrfs"; };
    cryptsetup = { debs = [ "cryptsetup-bin" ]; main = "cryptsetup"; };
    dosfstools = { main = "mkfs.fat"; };
    gptfdisk = { debs = [ "gdisk" ]; main = "sgdisk"; };
    lvm2 = { main = "lvm"; };
    mdadm = null;
    mtools = null;
    nfs-utils = { debs = [ "nfs-common" ]; main = "mount.nfs"; };
    ntfs3g = { debs = [ "ntfs-3g" ]; main = "ntfs-3g"; };
    parted = null;
    squashfsTools = { debs = [ "squashfs-tools" ]; main = "mksquashfs"; };
    sshfs = null;
    xfsprogs = { main = "mkfs.xfs"; };

    # --- network
    apacheHttpd = { debs = [ "apache2-bin" "apache2-utils" ]; main = "apache2"; };
    aria2 = { main = "aria2c"; };
    bind = { debs = [ "bind9" "bind9-utils" "bind9-dnsutils" ]; main = "named"; };
    bridge-utils = { main = "brctl"; };
    dhcpcd = { debs = [ "dhcpcd5" ]; main = "dhcpcd"; };
    dig = { debs = [ "bind9-dnsutils" ]; main = "dig"; };
    dnsutils = { debs = [ "bind9-dnsutils" ]; main = "dig"; };
    dnsmasq = { debs = [ "dnsmasq-base" ]; main = "dnsmasq"; };
    haproxy = null;
    arping = { debs = [ "iputils-arping" ]; main = "arping"; };
    conntrack-tools = { debs = [ "conntrack" ]; main = "conntrack"; };
    host = { debs = [ "bind9-host" ]; main = "host"; };
    httpie = { main = "http"; };
    inetutils = { debs = [ "inetutils-telnet" "hostname" "inetutils-traceroute" ]; main = "telnet"; };
    iperf = null;
    iperf2 = { debs = [ "iperf" ]; main = "iperf"; };
    iperf3 = null;
    iptables = null;
    keepalived = null;
    lighttpd = null;
    lynx = null;
    mosh = null;
    mosquitto = { debs = [ "mosquitto" "mosquitto-clients" ]; main = "mosquitto"; };
    mtr = { debs = [ "mtr-tiny" ]; main = "mtr"; };
    netcat-gnu = { debs = [ "netcat-traditional" ]; main = "nc.traditional"; };
    nettools = { debs = [ "net-tools" ]; main = "ifconfig"; };
    nginx = null;
    nmap = { debs = [ "nmap" "ncat" ]; main = "nmap"; };
    ngrep = null;
    openldap = { debs = [ "ldap-utils" ]; main = "ldapsearch"; };
    openssl = null;
    openvpn = null;
    socat = null;
    squid = null;
    sshpass = null;
    stunnel = { debs = [ "stunnel4" ]; main = "stunnel"; };
    tcpdump = null;
    tftp-hpa = { main = "tftp"; };
    tor = null;
    traceroute = null;
    w3m = null;
    wget = null;
    wireguard-tools = { main = "wg"; };
    wireshark-cli = { debs = [ "tshark" ]; main = "tshark"; };
    apacheBench = { debs = [ "apache2-utils" ]; main = "ab"; };
    wrk = null;
    siege = null;

    # --- databases and services
    etcd = { debs = [ "etcd-server" "etcd-client" ]; main = "etcd"; };
    mariadb = { debs = [ "mariadb-server" "mariadb-client" ]; main = "mariadb"; };
    memcached = null;
    postgresql = { debs = [ "postgresql-15" "postgresql-client-15" "postgresql-common" ]; main = "psql"; };
    postgresql_15 = { debs = [ "postgresql-15" "postgresql-client-15" "postgresql-common" ]; main = "psql"; };
    redis = { debs = [ "redis-server" "redis-tools" ]; main = "redis-cli"; };
    sqlite = { debs = [ "sqlite3" ]; main = "sqlite3"; };
    sqlite-interactive = { debs = [ "sqlite3" ]; main = "sqlite3"; };
    cron = null;

    # --- X11
    xauth = null;
    xorg-server = { debs = [ "xvfb" ]; main = "Xvfb"; };
    xterm = null;
    xwininfo = { debs = [ "x11-utils" ]; main = "xwininfo"; };

    # --- languages and building
    autoconf = null;
    automake = null;
    binutils = { main = "objdump"; };
    cargo = null;
    clang = null;
    cmake = null;
    erlang = { debs = [ "erlang-base" ]; main = "erl"; };
    gcc = { debs = [ "gcc" "g++" "cpp" "binutils" "libc6-dev" ]; main = "gcc"; };
    gh = null;
    ghc = null;
    git = null;
    git-lfs = null;
    gitMinimal = { debs = [ "git" ]; main = "git"; };
    gnumake = { debs = [ "make" ]; main = "make"; };
    go = { debs = [ "golang-go" ]; main = "go"; };
    guile = { debs = [ "guile-3.0" ]; main = "guile"; };
    jdk = { debs = [ "default-jdk-headless" ]; main = "javac"; };
    jre = { debs = [ "default-jre-headless" ]; main = "java"; };
    jre_headless = { debs = [ "default-jre-headless" ]; main = "java"; };
    libtool = null;
    lua = { debs = [ "lua5.4" ]; main = "lua"; };
    lua5_4 = { debs = [ "lua5.4" ]; main = "lua"; };
    m4 = null;
    maven = { main = "mvn"; };
    mercurial = { main = "hg"; };
    meson = null;
    ninja = { debs = [ "ninja-build" ]; main = "ninja"; };
    nodejs = { main = "node"; };
    nodejs_18 = { debs = [ "nodejs" ]; main = "node"; };
    ocaml = null;
    php = { debs = [ "php-cli" "php8.2-cli" ]; main = "php"; };
    pkg-config = { debs = [ "pkgconf" "pkgconf-bin" ]; main = "pkg-config"; };
    python3 = { debs = [ "python3" "python3-minimal" "python3.11-minimal" ]; main = "python3"; };
    python311 = { debs = [ "python3" "python3-minimal" "python3.11-minimal" ]; main = "python3"; };
    python3Minimal = { debs = [ "python3-minimal" "python3.11-minimal" ]; main = "python3"; };
    ruby = null;
    rustc = null;
    shellcheck = null;
    shfmt = null;
    subversion = { main = "svn"; };
    tcl = { main = "tclsh"; };
    valgrind = null;
    yq = null;
    gnum4 = { debs = [ "m4" ]; main = "m4"; };
  };

  # What options of services bring in; not names of nixpkgs'.
  services = {
    openssh-server = { debs = [ "openssh-server" "openssh-sftp-server" ]; main = "sshd"; };
  };
}
