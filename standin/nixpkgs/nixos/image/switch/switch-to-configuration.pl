#!/usr/bin/perl
# Switches the running machine to the system that this program belongs to. The stand-in's own: its steps, lines, streams,
# statuses and lists are those of NixOS's switch-to-configuration-ng. It speaks systemctl where that one speaks D-Bus.
use strict;
use warnings;
use Cwd ();
use Fcntl ":flock";

my $toplevel = '@out@';
# tests/80-switch.sh puts others here.
my $etc = "/etc";
my $run = "/run/nixos";
my $current = "/run/current-system";
my $base_units = "/usr/lib/systemd/system";
my $packages = "/usr/lib/standin/packages";
my $programs = "/usr/bin";
my $is_root = $> == 0;

require "$toplevel/switch/units.pl";

$| = 1;
sub say_error { print STDERR @_, "\n" }
# As an error of the program itself looks in Rust.
sub fail { say_error("Error: ", @_); exit 1 }

# --- What is asked.

my $action = $ARGV[0] // "";
fail("This program does not support being ran outside of the switch-to-configuration environment") unless $is_root;
if ($action !~ /^(?:check|switch|boot|test|dry-activate)$/) {
    print STDERR <<"EOF";
Usage: switch-to-configuration [check|switch|boot|test|dry-activate]
check:        run pre-switch checks and exit
switch:       make the configuration the boot default and activate now
boot:         make the configuration the boot default
test:         activate the configuration, but don't make it the boot default
dry-activate: show what would be done if this configuration were activated
EOF
    exit 1;
}
my $dry = $action eq "dry-activate";
$ENV{NIXOS_ACTION} = $action;

if (!-f "$etc/NIXOS" && slurp("$etc/os-release") !~ /^ID="?debian"?$/m) { say_error("This is not a NixOS installation!"); exit 1 }

mkdir $run, 0755;
chmod 0755, $run;
open my $lock, ">>", "$run/switch-to-configuration.lock" or do { say_error("Could not open lock"); exit $! };
flock $lock, LOCK_EX | LOCK_NB or do { say_error("Could not acquire lock"); exit $! };

# --- What speaks against it.

# The stand-in's own: programs come from the disk, and no switch brings new ones.
my @missing = grep { !-d "$packages/$_" } split /\n/, slurp("$toplevel/debian-packages");
if (@missing) {
    say_error("standin: the new system needs packages that this machine's disk image does not have: ", join ", ", @missing);
    say_error("standin: build the running configuration with them: standin.alsoPackagesOf (standin/README.md)");
    exit 1;
}

if (($ENV{NIXOS_NO_CHECK} // "") ne "1" && system("$toplevel/switch/pre-switch-checks", $toplevel, $action) != 0) {
    say_error("Pre-switch checks failed");
    exit 1;
}
exit 0 if $action eq "check";

# --- The boot loader.

if ($action eq "switch" || $action eq "boot") {
    my @installer = split ' ', slurp("$toplevel/switch/install-boot-loader");
    if (system(@installer, $toplevel) != 0) { say_error("Failed to install bootloader"); exit 1 }
}
system("$programs/sync", "-f", "/nix/store") if ($ENV{NIXOS_NO_SYNC} // "") ne "1";
exit 0 if $action eq "boot";

if (slurp("$current/init-interface-version") ne slurp("$toplevel/init-interface-version")) {
    print STDERR <<"EOF";
Warning: the new NixOS configuration has an ‘init’ that is
incompatible with the current configuration.  The new configuration
won't take effect until you reboot the system.

EOF
    exit 100;
}

# A closed pipe is no reason to stop half-way. A handler, and not IGNORE, which the programs that are started would inherit.
$SIG{PIPE} = sub { };

# --- systemd.

my $status = 0;
my @failed_jobs;

sub output_of { open my $pipe, "-|", @_ or return; my @lines = <$pipe>; close $pipe or return; return @lines }

# UNIT => [ state, sub-state ] of all that are not inactive.
sub active_units {
    my %found;
    my @lines = output_of("$programs/systemctl", qw(list-units --full --plain --no-legend --no-pager)) or fail("Failed to list systemd units");
    for (@lines) { my ($unit, undef, $state, $sub) = split ' '; $found{$unit} = [ $state, $sub ] if defined $sub }
    return \%found;
}

# Runs jobs and waits for them, however long: there is no limit in NixOS's program either. Which ones failed is said at the end.
sub jobs {
    my ($verb, @units) = @_;
    return unless @units;
    my $pid = open(my $pipe, "-|") // fail("Failed to fork: $!");
    if ($pid == 0) {
        open STDERR, ">&", \*STDOUT;
        exec "$programs/systemctl", $verb, "--", @units or exit 127;
    }
    my ($known, @other);
    while (<$pipe>) {
        if (/^Job for (\S+) (?:failed|timed out)/ || /^A dependency job for (\S+) failed/) { push @failed_jobs, [ $verb, $1 ]; $known = 1 }
        elsif (/^Failed to /) { if ($verb ne "stop") { print STDERR $_; $status = 4 } $known = 1 }
        elsif (!/^(?:See |Warning: )/) { push @other, $_ }
    }
    return if close $pipe or $known or $verb eq "stop";
    print STDERR @other;
    $status = 4;
}

sub sorted { return sort { lc $a cmp lc $b || $a cmp $b } @_ }
sub show { my ($what, @units) = @_; say_error("$what the following units: ", join ", ", sorted(@units)) if @units }

# --- The plan.

my %plan = (stop => {}, skip => {}, start => {}, restart => {}, reload => {}, hidden => {});
# Of a switch that was interrupted.
for my $list (qw(start restart reload)) { $plan{$list}{$_} = 1 for grep { $_ ne "" } split /\n/, slurp("$run/$list-list") }
my $record = sub { my ($list, $unit) = @_; return if $dry; open my $file, ">>", "$run/$list-list" or return; print $file "$unit\n" };
my $unrecord = sub {
    my ($list, $unit) = @_;
    return if $dry;
    my @others = grep { $_ ne $unit } split /\n/, slurp("$run/$list-list");
    open my $file, ">", "$run/$list-list" or return;
    print $file map { "$_\n" } @others;
};

# While the machine boots, units start that are in no plan.
system("$programs/systemctl is-system-running --wait >/dev/null 2>&1");
my $active = active_units();
my %is_base = map { $_ => 1 } split /\n/, slurp("$toplevel/switch/base-units");
my $old = { folder => "$etc/systemd/system", base => $base_units, is_base => \%is_base };
my $new = { folder => "$toplevel/etc/systemd/system", base => $base_units, is_base => \%is_base };
plan($old, $new, $active, \%plan, $record, $unrecord);
plan_mounts(file_systems("$etc/fstab"), file_systems("$toplevel/etc/fstab"), \%plan, $record);
# NixOS compares the paths, which are those of the contents there.
my $restart_systemd = slurp("$etc/systemd/system.conf") ne slurp("$toplevel/etc/systemd/system.conf");

sub shown { my ($list) = @_; return grep { !$plan{hidden}{$_} } keys %{ $plan{$list} } }

# What activation scripts asked for, in files that are read once.
sub asked_by_activation {
    my ($prefix) = @_;
    for my $unit (grep { $_ ne "" } split /\n/, slurp("$run/${prefix}activation-restart-list")) {
        if (!$active->{$unit}) { $plan{start}{$unit} = 1; $record->("start", $unit); next }
        my $base = base_of($unit, $new);
        changed($new, $unit, $base, info_of($new, $unit, $base), $active, \%plan, $record, $unrecord, 1);
    }
    unlink "$run/${prefix}activation-restart-list";
    for my $unit (grep { $_ ne "" } split /\n/, slurp("$run/${prefix}activation-reload-list")) {
        next if !$active->{$unit} || $plan{restart}{$unit} || $plan{stop}{$unit};
        $plan{reload}{$unit} = 1;
        $record->("reload", $unit);
    }
    unlink "$run/${prefix}activation-reload-list";
}

if ($dry) {
    show("would stop", shown("stop"));
    say_error("would NOT stop the following changed units: ", join ", ", sorted(keys %{ $plan{skip} })) if %{ $plan{skip} };
    say_error("would activate the configuration...");
    system("$toplevel/dry-activate", $toplevel);
    asked_by_activation("dry-");
    say_error("would restart systemd") if $restart_systemd;
    show("would reload", keys %{ $plan{reload} });
    show("would restart", keys %{ $plan{restart} });
    show("would start", shown("start"));
    exit 0;
}

# --- The switch.

sub to_journal { system("$programs/logger", "-t", "nixos", "-p", $_[0], "--", $_[1]) if -S "/dev/log" }
to_journal("user.notice", "switching to system configuration $toplevel");

show("stopping", shown("stop"));
jobs("stop", sorted(keys %{ $plan{stop} }));
say_error("NOT restarting the following changed units: ", join ", ", sorted(keys %{ $plan{skip} })) if %{ $plan{skip} };

say_error("activating the configuration...");
if (system("$toplevel/activate", $toplevel) != 0) { say_error("Failed to run activate script"); $status = 2 }
asked_by_activation("");

if ($restart_systemd) {
    say_error("restarting systemd...");
    system("$programs/systemctl", "daemon-reexec");
}
system("$programs/systemctl", "reset-failed");
system("$programs/systemctl", "daemon-reload");

# Managers of users, which see new unit files; they go on with what runs.
my @users = output_of("$programs/loginctl", qw(list-users --no-legend --no-pager));
if ($? != 0) { say_error("Unable to list users with logind"); exit 11 }
for (@users) {
    my ($uid, $name) = /^\s*(\d+)\s+(\S+)/ or next;
    say_error("reloading user units for $name...");
    next unless -S "/run/user/$uid/systemd/private";
    my $child = fork // fail("Failed to spawn user activation for $name");
    if ($child == 0) {
        my $gid = (getpwuid $uid)[3] // 65534;
        $( = $gid;
        $) = "$gid $gid";
        ($<, $>) = ($uid, $uid);
        %ENV = (XDG_RUNTIME_DIR => "/run/user/$uid");
        exec "$programs/systemctl", "--user", "daemon-reexec" or exit 127;
    }
    waitpid $child, 0;
}

say_error("restarting sysinit-reactivation.target");
jobs("restart", "sysinit-reactivation.target");

# A unit that was to be reloaded may have been stopped with another that it requires.
for my $unit (sorted(keys %{ $plan{reload} })) {
    next if system("$programs/systemctl", "--quiet", "is-active", "--", $unit) == 0;
    my $info = info_of($new, $unit, base_of($unit, $new));
    if (!is_true($info, "Unit", "RefuseManualStart", 0) && !is_true($info, "Unit", "X-OnlyManualStart", 0)) {
        $plan{start}{$unit} = 1;
        $record->("start", $unit);
    }
    delete $plan{reload}{$unit};
    $unrecord->("reload", $unit);
}
for my $step ([ "reloading", "reload" ], [ "restarting", "restart" ]) {
    my ($word, $verb) = @$step;
    my @units = sorted(keys %{ $plan{$verb} }) or next;
    show($word, @units);
    jobs($verb, @units);
    unlink "$run/$verb-list";
}
show("starting", shown("start"));
jobs("start", sorted(keys %{ $plan{start} }));
unlink "$run/start-list";

for (@failed_jobs) { my ($verb, $unit) = @$_; say_error("Failed to $verb $unit"); $status = 4 }

# --- What came of it: looked at once the units are at rest for a quarter of a second.

my $now = active_units();
for (1 .. 360) {
    my $before = join "\n", map { "$_ @{ $now->{$_} }" } sort keys %$now;
    select undef, undef, undef, 0.25;
    $now = active_units();
    last if $before eq join "\n", map { "$_ @{ $now->{$_} }" } sort keys %$now;
}
my (@failed, @new);
for my $unit (keys %$now) {
    my ($state, $sub) = @{ $now->{$unit} };
    my $fails = $state eq "failed";
    # One that is about to be started again has failed if it ended with an error.
    if ($sub eq "auto-restart") { my ($code) = output_of("$programs/systemctl", qw(show --value -p ExecMainStatus --), $unit); $fails = ($code // "0") !~ /^0?$/ }
    if ($fails) { push @failed, $unit }
    elsif (!$active->{$unit} && $unit !~ /\.scope$/) { push @new, $unit }
}
say_error("the following new units were started: ", join ", ", sorted(@new)) if @new;
if (@failed) {
    say_error("warning: the following units failed: ", join ", ", sorted(@failed));
    system("$programs/systemctl", "status", "--no-pager", "--full", sorted(@failed));
    $status = 4;
}
if ($status == 0) { to_journal("user.notice", "finished switching to system configuration $toplevel") }
else { to_journal("user.err", "switching to system configuration $toplevel failed (status $status)") }
exit $status;
