# The check of system.switch.inhibitors, as NixOS has it among system.preSwitchChecks: inhibitors.pl SYSTEM ACTION
# Components that can't be changed under a running system. Only those that both systems name are compared.
use strict;
use warnings;
use JSON::PP;

my ($system, $action) = @ARGV;
if ($action eq "boot") {
    print "Not checking switch inhibitors (action = $action)\n";
    exit 0;
}
$| = 1;
print "Checking switch inhibitors...";
my ($old, $new) = map {
    my $file;
    open($file, "<", "$_/switch-inhibitors") ? decode_json(do { local $/; readline($file) // "{}" }) : {}
} "/run/current-system", $system;
my @changes = map { "$_ : $old->{$_} -> $new->{$_}\n" } grep { exists $new->{$_} && $new->{$_} ne $old->{$_} } sort keys %$old;
if (!@changes) {
    print " done\n";
    exit 0;
}
print "\nThere are changes to critical components of the system:\n\n", @changes, "\n", <<'EOF';
Switching into this system is not recommended.
You probably want to run 'nixos-rebuild boot' and reboot your system instead.

If you really want to switch into this configuration directly, then
you can set NIXOS_NO_CHECK=1 to ignore pre-switch checks.

WARNING: doing so might cause the switch to fail or your system to become unstable.

EOF
exit 1;
