#!/usr/bin/perl
# Makes the machine what its configuration says: accounts, /etc, links in /run.
#
#   activate SYSTEM boot    the initrd, at every boot, as root in the machine's root file system, before systemd
#   activate [SYSTEM]       switch-to-configuration, in the running machine
#   dry-activate [SYSTEM]   says what would be done to accounts, and runs the scripts that support that
#
# A part that fails is named as NixOS names a snippet of its activation script. The others are still done, and the status is 1.
# Perl because Debian's base has it and one process is quick; a shell would fork a hundred times.
use strict;
use warnings;

my $system = shift // '@out@';
my $boot = ($ARGV[0] // "") eq "boot";
my $dry = $0 =~ m{/dry-activate$};
my $state = "/var/lib/nixos";
my $status = 0;

sub part {
    my ($name, $do) = @_;
    return if eval { $do->(); 1 };
    print STDERR $@;
    print "Activation script snippet '$name' failed (1)\n";
    $status = 1;
}

sub slurp { my ($path) = @_; open my $file, "<", $path or return ""; local $/; my $text = <$file>; return $text // "" }

sub replace {    # atomically: a machine that crashes here has the old file or the new one
    my ($path, $mode, $text) = @_;
    return if $dry || -e $path && slurp($path) eq $text;
    open my $file, ">", "$path.new" or die "$path: $!";
    print $file $text;
    close $file or die "$path: $!";
    chmod $mode, "$path.new";
    rename "$path.new", $path or die "$path: $!";
}

sub folders {
    my ($path) = @_;
    my $so_far = "";
    for my $part (split m{/}, $path) {
        next if $part eq "";
        $so_far .= "/$part";
        mkdir $so_far, 0755 unless -d $so_far;
    }
}

sub link_to {
    my ($target, $path) = @_;
    return if -l $path && readlink $path eq $target;
    symlink $target, "$path.new" or die "$path: $!";
    # A folder that stood there (Debian's own) gives way.
    if (-d $path && !-l $path) { rename $path, "$path.debian" or die "$path: $!" }
    rename "$path.new", $path or die "$path: $!";
}

sub rows { my ($name) = @_; return map { [ split /\t/, $_, -1 ] } split /\n/, slurp("$system/$name") }

my %settings = map { split / /, $_, 2 } split /\n/, slurp("$system/settings");

# --- Accounts. As NixOS with mutable users: what is declared is made so; passwords are set when an account is made, and
# are its owner's from then on. An id that an account has, or once had, stays its own: files are owned by ids.

my (%passwd, @passwd, %shadow, %group, @group);

sub free_id {
    my ($taken, $from, $to, $step) = @_;
    for (my $id = $from; $id != $to; $id += $step) { return $id unless $taken->{$id}++ }
    die "no free id between $from and $to\n";
}

# uid-map and gid-map: the ids of all accounts that there ever were, in JSON as NixOS has it.
sub remembered { my ($name) = @_; my $text = slurp("$state/$name"); return { $text =~ /"([^"]+)"\s*:\s*(\d+)/g } }
sub remember {
    my ($name, $ids) = @_;
    replace("$state/$name", 0644, "{" . join(",", map { "\"$_\":$ids->{$_}" } sort keys %$ids) . "}");
}

# "removing", or what a dry run would do.
sub note { my ($does, $would, $what) = @_; print STDERR $dry ? $would : $does, " $what\n" }

# The id of an account: the one it has, else the one that is declared, else the one it had, else a free one.
sub id_of {
    my ($kind, $name, $declared, $old, $map, $taken, @range) = @_;
    if (defined $old) {
        note("warning: not applying", "warning: would not apply", "$kind change of " . ($kind eq "UID" ? "user" : "group") . " ‘$name’ ($old -> $declared) in /etc/" . ($kind eq "UID" ? "passwd" : "group"))
            if $declared ne "" && $declared ne $old;
        return $old;
    }
    return $declared if $declared ne "";
    my $had = $map->{$name};
    if (defined $had && !$taken->{$had}) {
        note("reviving", "would revive", ($kind eq "UID" ? "user" : "group") . " '$name' with $kind $had");
        $taken->{$had} = 1;
        return $had;
    }
    # An id that was somebody else's is not given again.
    return free_id({ %$taken, map { $_ => 1 } values %$map }, @range);
}

sub accounts {
    folders($state);
    for (split /\n/, slurp("/etc/passwd")) { my @f = split /:/, $_, -1; $passwd{ $f[0] } = \@f; push @passwd, $f[0] }
    for (split /\n/, slurp("/etc/shadow")) { my @f = split /:/, $_, -1; $shadow{ $f[0] } = \@f }
    for (split /\n/, slurp("/etc/group"))  { my @f = split /:/, $_, -1; $group{ $f[0] }  = \@f; push @group, $f[0] }
    my $first = !-e "$state/declarative-users";
    my %was_declared       = map { $_ => 1 } split ' ', slurp("$state/declarative-users");
    my %was_declared_group = map { $_ => 1 } split ' ', slurp("$state/declarative-groups");

    my @users  = rows("users");
    my @groups = rows("groups");
    my %declared       = map { $_->[0] => 1 } @users;
    my %declared_group = map { $_->[0] => 1 } @groups;

    # No longer declared: gone. (With immutable users, all that is not declared and not Debian's own.)
    my $goes = sub {
        my ($was, $id) = @_;
        return $was || (!$settings{mutableUsers} && $id >= 1000 && $id < 60000);
    };
    my (%uids, %gids);
    $uids{ $_->[2] } = 1 for values %passwd;
    $gids{ $_->[2] } = 1 for values %group;
    for my $name (@group) {
        next if $declared_group{$name} || !$goes->($was_declared_group{$name}, $group{$name}[2]);
        note("removing group", "would remove group", "‘$name’");
        delete $group{$name};
    }
    for my $name (@passwd) {
        next if $declared{$name} || !$goes->($was_declared{$name}, $passwd{$name}[2]);
        note("removing user", "would remove user", "‘$name’");
        delete $passwd{$name};
    }

    my $gid_map = remembered("gid-map");
    $gids{ $_->[1] } = 1 for grep { $_->[1] ne "" } @groups;
    for (@groups) {
        my ($name, $gid, $members) = @$_;
        my $old = $group{$name};
        $gid = id_of("GID", $name, $gid, $old ? $old->[2] : undef, $gid_map, \%gids, 999, 99, -1);
        $gids{$gid} = 1;
        $gid_map->{$name} = $gid;
        my @members = split /,/, $members;
        # A group of Debian's keeps its members; one that was declared before has those of the declaration, and with mutable
        # users those that were added by hand.
        if ($old && ($settings{mutableUsers} || !$was_declared_group{$name})) {
            my %had = map { $_ => 1 } @members;
            push @members, grep { !$had{$_}++ && $passwd{$_} && !$was_declared{$_} } split /,/, $old->[3];
        }
        push @group, $name unless $old;
        $group{$name} = [ $name, "x", $gid, join(",", @members) ];
    }

    my $uid_map = remembered("uid-map");
    $uids{ $_->[1] } = 1 for grep { $_->[1] ne "" } @users;
    my $today = int(time / 86400);
    for (@users) {
        my ($name, $uid, $group, $home, $create, $mode, $shell, $description, $password, $normal, $linger) = @$_;
        my $old = $passwd{$name};
        die "users.users.$name.group: there is no group `$group'\n" unless $group{$group};
        $uid = id_of("UID", $name, $uid, $old ? $old->[2] : undef, $uid_map, \%uids, $normal ? (1000, 30000, 1) : (999, 399, -1));
        $uids{$uid} = 1;
        $uid_map->{$name} = $uid;
        push @passwd, $name unless $old;
        $passwd{$name} = [ $name, "x", $uid, $group{$group}[2], $description, $home, $shell ];

        # On a fresh disk root is Debian's.
        if (!$old || $first || !$settings{mutableUsers}) {
            if ($password =~ /^file:(.*)/) { $password = slurp($1); chomp $password; $password = "!" if $password eq "" }
            $shadow{$name} = [ $name, $password, $today || 1, "", "", "", "", "", "" ];
        }
        next if $dry;
        if ($create) {
            folders($home);
            chown $uid, $group{$group}[2], $home;
            chmod oct($mode), $home;
        }
        if ($linger) { folders("/var/lib/systemd/linger"); open my $f, ">", "/var/lib/systemd/linger/$name" }
    }

    my (%p, %g);
    my @passwd_out = grep { $passwd{$_} && !$p{$_}++ } @passwd;
    replace("/etc/passwd", 0644, join "", map { join(":", @{ $passwd{$_} }) . "\n" } @passwd_out);
    replace("/etc/group",  0644, join "", map { join(":", @{ $group{$_} }) . "\n" } grep { $group{$_} && !$g{$_}++ } @group);
    replace("/etc/shadow", 0640, join "", map { join(":", @{ $shadow{$_} || [ $_, "!", 1, "", "", "", "", "", "" ] }) . "\n" } @passwd_out);
    replace("$state/declarative-users",  0644, join " ", sort keys %declared);
    replace("$state/declarative-groups", 0644, join " ", sort keys %declared_group);
    remember("uid-map", $uid_map);
    remember("gid-map", $gid_map);
    return if $dry;
    chown 0, $group{shadow}[2], "/etc/shadow" if $group{shadow};
    unlink "/etc/gshadow", "/etc/gshadow-", "/etc/passwd-", "/etc/shadow-", "/etc/group-";
}

# --- /etc: links into the system, through /etc/static, so that a new system moves them all at once.

sub etc {
    print "setting up /etc...\n" unless $boot;
    link_to("$system/etc", "/etc/static");
    my $manifest = slurp("$system/etc-manifest");
    my $before   = slurp("$state/etc-manifest");
    if ($manifest ne $before) {
        my %now = map { (split / /)[1] => 1 } split /\n/, $manifest;
        for (split /\n/, $before) {
            my ($kind, $path) = split / /;
            unlink "/etc/$path" unless $now{$path};
        }
    }
    my %id = (map { $_->[0] => $_->[2] } values %passwd);
    my %made;
    for (split /\n/, $manifest) {
        my ($kind, $path, $mode, $user, $group) = split / /;
        my ($folder) = "/etc/$path" =~ m{^(.*)/};
        folders($folder) unless $made{$folder}++;
        if ($kind eq "link") { link_to("/etc/static/$path", "/etc/$path"); next }
        unlink "/etc/$path" if -l "/etc/$path";
        replace("/etc/$path", oct($mode), slurp("/etc/static/$path"));
        $user  = $user =~ /^\+?(\d+)$/  ? $1 : $id{$user} // 0;
        $group = $group =~ /^\+?(\d+)$/ ? $1 : $group{$group}[2] // 0;
        chown $user, $group, "/etc/$path";
        chmod oct($mode), "/etc/$path";
    }
    replace("$state/etc-manifest", 0644, $manifest);

    # Set by the machine that has it. Without it systemd would take every boot for the first and enable all of Debian's units.
    if (!-s "/etc/machine-id") {
        my $id = slurp("/proc/sys/kernel/random/uuid");
        $id =~ s/[-\s]//g;
        replace("/etc/machine-id", 0444, "$id\n");
    }
}

# At a boot systemd reads the file.
sub hostname {
    my $name = slurp("/etc/hostname");
    return if $name eq slurp("/proc/sys/kernel/hostname");
    open my $file, ">", "/proc/sys/kernel/hostname" or die "/proc/sys/kernel/hostname: $!\n";
    print $file $name;
}

# --- Programs that run as root, and the profile.

sub wrappers {
    my %wanted;
    folders("/run/wrappers/bin");
    for my $program (split /\n/, slurp("$system/wrappers")) {
        my ($path) = grep { -e } "/usr/bin/$program", "/usr/sbin/$program";
        $wanted{$program} = 1 if $path;
        symlink $path, "/run/wrappers/bin/$program" if $path && !-l "/run/wrappers/bin/$program";
    }
    opendir my $dir, "/run/wrappers/bin" or die "/run/wrappers/bin: $!\n";
    unlink "/run/wrappers/bin/$_" for grep { !/^\./ && !$wanted{$_} } readdir $dir;
    # As NixOS's wrapper of sudo: with security.sudo.execWheelOnly others than wheel can't start it at all.
    if (-e "/usr/bin/sudo") {
        chown 0, $settings{sudoForWheelOnly} ? $group{wheel}[2] : 0, "/usr/bin/sudo";
        chmod $settings{sudoForWheelOnly} ? 04510 : 04755, "/usr/bin/sudo";
    }
    folders("/var/empty");
}

# The system that is booted is a generation. A profile that leads to another one stays as it is, as long as that one is in
# the store.
sub generation {
    my $profiles = "/nix/var/nix/profiles";
    folders($profiles);
    return if -e "$profiles/system" && (readlink("$profiles/system") // "") =~ /^system-\d+-link$/;
    opendir my $dir, $profiles or die "$profiles: $!\n";
    my ($last) = sort { $b <=> $a } map { /^system-(\d+)-link$/ ? $1 : () } readdir $dir;
    my $number = ($last // 0) + 1;
    link_to($system, "$profiles/system-$number-link");
    link_to("system-$number-link", "$profiles/system");
}

if ($dry) {
    part("users", \&accounts);
    $status = 1 if -e "$system/dry-activation-scripts" && system("$system/dry-activation-scripts") != 0;
    exit $status;
}
part("users", \&accounts);
part("etc", \&etc);
part("hostname", \&hostname) unless $boot;
part("wrappers", \&wrappers);
part("profile", \&generation) if $boot;

# As in NixOS, the links come last: a script that leaves the shell leaves the machine with those of the old system.
$ENV{STANDIN_BOOT} = 1 if $boot;
if (-e "$system/activation-scripts") {
    $status = 1 if system("$system/activation-scripts") != 0;
}
else { link_to($system, "/run/current-system") }
link_to($system, "/run/booted-system") if $boot;
exit $status;
