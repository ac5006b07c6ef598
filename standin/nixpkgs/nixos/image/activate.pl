#!/usr/bin/perl
# Makes the machine what its configuration says: accounts, /etc, links in /run. The initrd runs it at every boot, as root
# in the machine's root file system, before systemd: activate SYSTEM
#
# Perl because Debian's base has it and one process is quick; a shell would fork a hundred times.
use strict;
use warnings;

my $system = shift;
my $state = "/var/lib/nixos";

sub slurp { my ($path) = @_; open my $file, "<", $path or return ""; local $/; my $text = <$file>; return $text // "" }

sub replace {    # atomically: a machine that crashes here has the old file or the new one
    my ($path, $mode, $text) = @_;
    return if -e $path && slurp($path) eq $text;
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
# are its owner's from then on.

folders($state);
my (%passwd, @passwd, %shadow, %group, @group);
for (split /\n/, slurp("/etc/passwd")) { my @f = split /:/, $_, -1; $passwd{ $f[0] } = \@f; push @passwd, $f[0] }
for (split /\n/, slurp("/etc/shadow")) { my @f = split /:/, $_, -1; $shadow{ $f[0] } = \@f }
for (split /\n/, slurp("/etc/group"))  { my @f = split /:/, $_, -1; $group{ $f[0] }  = \@f; push @group, $f[0] }
my %was_declared       = map { $_ => 1 } split /\n/, slurp("$state/declarative-users");
my %was_declared_group = map { $_ => 1 } split /\n/, slurp("$state/declarative-groups");

my @users  = rows("users");
my @groups = rows("groups");
my %declared       = map { $_->[0] => 1 } @users;
my %declared_group = map { $_->[0] => 1 } @groups;

# No longer declared: gone. (With immutable users, whatever is not declared and not Debian's own.)
for my $name (@passwd) {
    next if $declared{$name};
    my $uid = $passwd{$name}[2];
    delete $passwd{$name} if $was_declared{$name} || (!$settings{mutableUsers} && $uid >= 1000 && $uid < 60000);
}
for my $name (@group) { delete $group{$name} if !$declared_group{$name} && $was_declared_group{$name} }

sub free_id {
    my ($taken, $from, $to, $step) = @_;
    for (my $id = $from; $id != $to; $id += $step) { return $id unless $taken->{$id} }
    die "no free id between $from and $to";
}

my %gids = map { $_->[2] => 1 } values %group;
$gids{ $_->[1] } = 1 for grep { $_->[1] ne "" } @groups;
for (@groups) {
    my ($name, $gid, $members) = @$_;
    my $old = $group{$name};
    $gid = $old->[2] if $gid eq "" && $old;
    if ($gid eq "") { $gid = free_id(\%gids, 999, 99, -1); $gids{$gid} = 1 }
    my @members = split /,/, $members;
    # A group of Debian's keeps its members; one that was declared before has those of the declaration, and with mutable
    # users whoever was added by hand.
    if ($old && ($settings{mutableUsers} || !$was_declared_group{$name})) {
        my %had = map { $_ => 1 } @members;
        push @members, grep { !$had{$_}++ && $passwd{$_} } split /,/, $old->[3];
    }
    push @group, $name unless $old;
    $group{$name} = [ $name, "x", $gid, join(",", @members) ];
}

my %uids = map { $_->[2] => 1 } values %passwd;
$uids{ $_->[1] } = 1 for grep { $_->[1] ne "" } @users;
my $today = int(time / 86400);
for (@users) {
    my ($name, $uid, $group, $home, $create, $mode, $shell, $description, $password, $normal, $linger) = @$_;
    my $old = $passwd{$name};
    die "users.users.$name.group: there is no group `$group'\n" unless $group{$group};
    $uid = $old->[2] if $uid eq "" && $old;
    if ($uid eq "") { $uid = $normal ? free_id(\%uids, 1000, 30000, 1) : free_id(\%uids, 999, 399, -1); $uids{$uid} = 1 }
    push @passwd, $name unless $old;
    $passwd{$name} = [ $name, "x", $uid, $group{$group}[2], $description, $home, $shell ];

    # root comes with Debian's base: it is new as long as it never was declared.
    if (!$old || !$was_declared{$name} || !$settings{mutableUsers}) {
        if ($password =~ /^file:(.*)/) { $password = slurp($1); chomp $password; $password = "!" if $password eq "" }
        $shadow{$name} = [ $name, $password, $today || 1, "", "", "", "", "", "" ];
    }
    if ($create && !-e $home) {
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
chown 0, $group{shadow}[2], "/etc/shadow" if $group{shadow};
unlink "/etc/gshadow", "/etc/gshadow-", "/etc/passwd-", "/etc/shadow-", "/etc/group-";
replace("$state/declarative-users",  0644, join "", map { "$_->[0]\n" } @users);
replace("$state/declarative-groups", 0644, join "", map { "$_->[0]\n" } @groups);

# --- /etc: links into the system, through /etc/static, so that a new system moves them all at once.

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

# --- /run: empty at every boot.

link_to($system, "/run/current-system");
link_to($system, "/run/booted-system");
folders("/run/wrappers/bin");
for my $program (split /\n/, slurp("$system/wrappers")) {
    my ($path) = grep { -e } "/usr/bin/$program", "/usr/sbin/$program";
    symlink $path, "/run/wrappers/bin/$program" if $path;
}
# As NixOS's wrapper of sudo: with security.sudo.execWheelOnly others than wheel can't start it at all.
if (-e "/usr/bin/sudo") {
    chown 0, $settings{sudoForWheelOnly} ? $group{wheel}[2] : 0, "/usr/bin/sudo";
    chmod $settings{sudoForWheelOnly} ? 04510 : 04755, "/usr/bin/sudo";
}
folders("/var/empty");
folders("/nix/var/nix/profiles");
link_to($system, "/nix/var/nix/profiles/system");

if (-e "$system/activation-scripts") { system("$system/activation-scripts") == 0 or warn "an activation script failed\n" }
