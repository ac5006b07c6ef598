# What a switch does to the units that are active: switch-to-configuration.pl asks plan(). The rules are those of NixOS's
# switch-to-configuration-ng (nixos/doc/manual/development/unit-handling.section.md).
#
# One thing is the stand-in's own. In NixOS each unit stands in /etc/systemd/system. Here Debian's base units stand in
# /usr/lib/systemd/system, and a configuration changes them by drop-ins. So they are compared with the drop-ins of both sides.
use strict;
use warnings;
use Cwd ();

my %no_matter = map { $_ => 1 } qw(
    Description Documentation OnFailure OnSuccess OnFailureJobMode IgnoreOnIsolate StopWhenUnneeded
    RefuseManualStart RefuseManualStop AllowIsolate CollectMode SourcePath X-Reload-Triggers
);
# Targets that are active after a sleep, although they should not be.
my %sleeps = map { $_ => 1 } qw(suspend.target hibernate.target hybrid-sleep.target);
my %never = map { $_ => 1 } qw(sysinit.target basic.target multi-user.target graphical.target);

sub slurp {
    my ($path) = @_;
    open my $file, "<", $path or return "";
    local $/;
    return readline($file) // "";
}

# --- Unit files.

# Adds a file to { SECTION => { KEY => [ VALUE... ] } }. An empty value takes back those before it. [Install] says nothing
# about a running unit.
sub parse {
    my ($info, $text) = @_;
    $text =~ s/\\\n/ /g;
    my $section = "";
    for (split /\n/, $text) {
        next if /^\s*(?:[#;]|$)/;
        if (/^\s*\[(.*)\]\s*$/) { $section = $1; $info->{$section} ||= {} if $section ne "Install"; next }
        next if $section eq "Install" || !/^\s*([^=]*?)\s*=\s*(.*?)\s*$/;
        my ($key, $value) = ($1, $2);
        if ($value eq "") { delete $info->{$section}{$key} }
        else { push @{ $info->{$section}{$key} }, $value }
    }
}

sub is_true {
    my ($info, $section, $key, $default) = @_;
    my $values = ($info->{$section} || {})->{$key} or return $default;
    return $values->[-1] =~ /^(?:1|yes|true|on)$/;
}

# "" for equal, else what the difference asks for: "restart" or "reload".
sub compare {
    my ($old, $new) = @_;
    my $result = "";
    for my $section (keys %{ { %$old, %$new } }) {
        my ($before, $after) = ($old->{$section}, $new->{$section});
        # A section that comes or goes counts, even an empty one; but for [Unit].
        return "restart" if $section ne "Unit" && !($before && $after);
        for my $key (keys %{ { %{ $before || {} }, %{ $after || {} } } }) {
            my ($was, $is) = map { $_ ? join("\0", @$_) : undef } ($before || {})->{$key}, ($after || {})->{$key};
            next if defined $was && defined $is && $was eq $is;
            if ($section eq "Unit" && $key eq "X-Reload-Triggers") {
                # Those that are gone ask for nothing.
                $result = "reload" if defined $is;
            }
            elsif ($section eq "Unit" && $no_matter{$key}) { }
            elsif (defined $was && defined $is && "$section $key" =~ /^(?:Mount Options|Service ExecReload)$/) { $result = "reload" }
            else { return "restart" }
        }
    }
    return $result;
}

# --- The units of a system. `sides` is { folder => its /etc/systemd/system, base => Debian's, is_base => { UNIT => 1 } }.

# The file that defines a unit, if it has one.
sub file_of {
    my ($side, $unit) = @_;
    return "$side->{folder}/$unit" if -e "$side->{folder}/$unit";
    return undef unless $side->{is_base}{$unit} || -d "$side->{folder}/$unit.d";
    return -e "$side->{base}/$unit" ? "$side->{base}/$unit" : undef;
}

sub is_masked { my ($file) = @_; my $target = Cwd::abs_path($file); return !defined $target || $target eq "/dev/null" }

sub drop_ins { my ($folder) = @_; opendir my $dir, $folder or return (); return map { "$folder/$_" } sort grep { /\.conf$/ } readdir $dir }

# All that a side says of a unit; `base` is its template's name, if it is an instance.
sub info_of {
    my ($side, $unit, $base) = @_;
    my %info;
    my $file = file_of($side, $base);
    parse(\%info, slurp($file)) if defined $file;
    parse(\%info, slurp($_)) for drop_ins("$side->{folder}/$base.d");
    if ($unit ne $base) { parse(\%info, slurp($_)) for drop_ins("$side->{folder}/$unit.d") }
    return \%info;
}

# A unit's own name, or its template's where it is an instance without a file.
sub base_of {
    my ($unit, @sides) = @_;
    return $unit if grep { defined file_of($_, $unit) } @sides;
    return $unit =~ /^(.*)@[^.]*\.(.*)$/ ? "$1\@.$2" : $unit;
}

# --- The plan: { stop, skip, start, restart, reload, hidden => { UNIT => 1 } }. `record` and `unrecord` are called with a list's
# name and a unit, so that an interrupted switch can be taken up.

sub plan {
    my ($old, $new, $active, $plan, $record, $unrecord) = @_;
    for my $unit (sort keys %$active) {
        my $base = base_of($unit, $old, $new);
        my $file = file_of($old, $base);
        next if !defined $file || $active->{$unit}[0] !~ /^(?:active|activating)$/;
        my $new_file = file_of($new, $base);
        if (!defined $new_file || is_masked($new_file)) {
            $plan->{stop}{$unit} = 1 if is_true(info_of($old, $unit, $base), "Unit", "X-StopOnRemoval", 1);
            next;
        }
        if ($unit =~ /\.target$/) {
            my $info = info_of($new, $unit, $base);
            # All of them are started: that brings what they newly want, and what was stopped.
            if (!$sleeps{$unit} && !is_true($info, "Unit", "RefuseManualStart", 0) && !is_true($info, "Unit", "X-OnlyManualStart", 0)) {
                $plan->{start}{$unit} = 1;
                $record->("start", $unit);
                $plan->{hidden}{$unit} = 1 if ($ENV{STC_DISPLAY_ALL_UNITS} // "") ne "1";
            }
            $plan->{stop}{$unit} = 1 if is_true($info, "Unit", "X-StopOnReconfiguration", 0);
            next;
        }
        my ($was, $is) = map { info_of($_, $unit, $base) } $old, $new;
        my $difference = compare($was, $is);
        if ($difference eq "restart") { changed($new, $unit, $base, $is, $active, $plan, $record, $unrecord, 0) }
        elsif ($difference eq "reload" && !$plan->{restart}{$unit}) { $plan->{reload}{$unit} = 1; $record->("reload", $unit) }
    }
}

# A unit that differs, or (`by_activation`) that an activation script wants restarted: then nothing can be stopped any more
# before the activation, and a restart is what becomes of it.
sub changed {
    my ($new, $unit, $base, $info, $active, $plan, $record, $unrecord, $by_activation) = @_;
    my ($stop, $start, $list) = $by_activation ? (@$plan{qw(restart restart)}, "restart") : (@$plan{qw(stop start)}, "start");
    my $no_reload = sub { if (delete $plan->{reload}{$unit}) { $unrecord->("reload", $unit) } };

    return if $never{$unit} || $unit =~ /\.(?:path|slice|socket)$/;
    if ($unit =~ /\.mount$/) {
        my $what = $unit eq "-.mount" || $unit eq "nix.mount" ? "reload" : "restart";
        $plan->{$what}{$unit} = 1;
        return $record->($what, $unit);
    }
    if (is_true($info, "Service", "X-ReloadIfChanged", 0) && !$plan->{restart}{$unit} && !$stop->{$unit}) {
        $plan->{reload}{$unit} = 1;
        return $record->("reload", $unit);
    }
    # Without its bus the machine would be lost.
    return if $unit eq "dbus.service" || $unit eq "dbus-broker.service";
    if (!is_true($info, "Service", "X-RestartIfChanged", 1) || is_true($info, "Unit", "RefuseManualStop", 0) || is_true($info, "Unit", "X-OnlyManualStart", 0)) {
        $plan->{skip}{$unit} = 1;
        return;
    }
    if (!is_true($info, "Service", "X-StopIfChanged", 1) || $unit !~ /\.service$/) {
        $plan->{restart}{$unit} = 1;
        $record->("restart", $unit);
        return $no_reload->();
    }
    # The sockets of a service are cycled in its stead, unless it says that they do not start it.
    my $by_socket = 0;
    if (!is_true($info, "Service", "X-NotSocketActivated", 0)) {
        my @sockets = split ' ', join " ", @{ ($info->{Service} || {})->{Sockets} || [] };
        (my $name = $base) =~ s/\.[a-z]*$//;
        for my $socket (@sockets ? @sockets : "$name.socket") {
            next unless $active->{$socket};
            $stop->{$socket} = 1;
            if (defined file_of($new, $socket)) {
                $start->{$socket} = 1;
                $record->($list, $socket);
                $by_socket = 1;
            }
        }
    }
    if (!$by_socket) {
        $start->{$unit} = 1;
        $record->($list, $unit);
    }
    $stop->{$unit} = 1;
    $no_reload->();
}

# --- fstab, which is no unit file: mount points in it, and what differs.

sub file_systems {
    my ($path) = @_;
    my %found;
    for (split /\n/, slurp($path)) {
        next if /^\s*#/;
        my ($device, $where, $type, $options) = split ' ';
        # The machines of the stand-in have no swap.
        $found{$where} = { device => $device, type => $type, options => $options // "" } if defined $type && $type ne "swap";
    }
    return \%found;
}

# systemd-escape -p --suffix=mount
sub mount_unit {
    my ($path) = @_;
    $path =~ s{/+}{/}g;
    $path =~ s{^/|/$}{}g;
    return "-.mount" if $path eq "";
    $path =~ s{([^A-Za-z0-9:_./]|^\.)}{sprintf "\\x%02x", ord $1}ge;
    $path =~ s{/}{-}g;
    return "$path.mount";
}

sub plan_mounts {
    my ($old, $new, $plan, $record) = @_;
    for my $where (sort keys %$old) {
        my ($was, $is, $unit) = ($old->{$where}, $new->{$where}, mount_unit($where));
        my $fixed = $where eq "/" || $where eq "/nix";
        my $elsewhere = $is && ($was->{type} ne $is->{type} || $was->{device} ne $is->{device});
        my $what;
        if (!$is) { $what = "stop" }
        elsif ($elsewhere && !$fixed) { $what = "restart" }
        elsif ($was->{options} ne $is->{options}) { $what = "reload" }
        elsif ($elsewhere) { $what = "skip" }
        else { next }
        $plan->{$what}{$unit} = 1;
        $record->($what, $unit) if $what eq "restart" || $what eq "reload";
    }
}

1;
