#!/usr/bin/perl
# nix-env, as far as generations of a profile go: the stand-in's machines have no Nix. Links and lines are Nix's.
#
#   nix-env [-p PROFILE] --set PATH | --rollback | --switch-generation N | --list-generations | --delete-generations N...
use strict;
use warnings;
use POSIX "strftime";

my $profile = "/nix/var/nix/profiles/default";
my ($operation, @arguments);
while (@ARGV) {
    local $_ = shift @ARGV;
    if (/^(?:-p|--profile)$/) { $profile = shift(@ARGV) // fail("`$_' requires an argument") }
    elsif (/^--(set|rollback|list-generations)$/) { $operation = $1 }
    elsif (/^(?:-G|--switch-generation)$/) { $operation = "switch-generation" }
    elsif (/^--delete-generations$/) { $operation = "delete-generations" }
    elsif (/^-/) { fail("the stand-in's nix-env knows generations only, and not `$_'") }
    else { push @arguments, $_ }
}

sub fail { print STDERR "error: ", @_, "\n"; exit 1 }

sub link_of { return "$profile-$_[0]-link" }
my ($folder, $name) = $profile =~ m{^(.*)/([^/]+)$} or fail("no profile `$profile'");
opendir my $dir, $folder or fail("$folder: $!");
my @generations = sort { $a <=> $b } map { /^\Q$name\E-(\d+)-link$/ ? $1 : () } readdir $dir;
my ($now) = (readlink($profile) // "") =~ /-(\d+)-link$/;

sub point_to {
    my ($number) = @_;
    unlink "$profile.new";
    symlink "$name-$number-link", "$profile.new" or fail("$profile: $!");
    rename "$profile.new", $profile or fail("$profile: $!");
}
sub change_to {
    my ($number) = @_;
    print STDERR "switching profile from version ", $now // "none", " to $number\n";
    point_to($number);
}

if (!defined $operation) { fail("no operation specified") }
elsif ($operation eq "set") {
    my $path = $arguments[0] // fail("exactly one derivation expected");
    # The store path itself, without links on the way.
    while (-l $path) {
        my $target = readlink $path;
        $path = $target =~ m{^/} ? $target : $path =~ s{[^/]*$}{$target}r;
    }
    fail("path '$path' is not valid") unless $path =~ m{^/nix/store/[^/]+$} && -e $path;
    my $last = @generations ? $generations[-1] : 0;
    if ($last && readlink(link_of($last)) eq $path) { point_to($last); exit 0 }
    symlink $path, link_of($last + 1) or fail(link_of($last + 1), ": $!");
    point_to($last + 1);
}
elsif ($operation eq "rollback") {
    my @older = grep { defined $now && $_ < $now } @generations;
    fail("no generation older than the current (", $now // 0, ") exists") unless @older;
    change_to($older[-1]);
}
elsif ($operation eq "switch-generation") {
    my ($number) = grep { $_ eq ($arguments[0] // "") } @generations or fail("generation ", $arguments[0] // "", " does not exist");
    change_to($number);
}
elsif ($operation eq "list-generations") {
    for (@generations) {
        my $time = strftime("%Y-%m-%d %H:%M:%S", localtime((lstat link_of($_))[9]));
        printf "%4d   %s   %s\n", $_, $time, defined $now && $_ == $now ? "(current)" : "";
    }
}
else {
    my %wanted = map { $_ => 1 } @arguments;
    fail("cannot delete the current version of profile $profile, which is $now") if defined $now && $wanted{$now};
    unlink link_of($_) for grep { $wanted{$_} } @generations;
}
