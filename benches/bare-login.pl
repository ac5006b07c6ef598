#!/usr/bin/perl
# The floor that nixvm-test is held to: the login scenario as a bare script, with nothing but
# reads, one match each, and writes. Run by `cargo bench --bench login`, or by hand:
#
#   TRUES=100 benches/bare-login.pl ./result
#
# Prints one line of JSON: seconds to the login prompt, to the shell, of `cowsay hello | lolcat`, of
# powering off, in all; and the median of $TRUES times `true`, in milliseconds. BARE_ACCELERATOR is
# kvm or tcg (tcg when not given).
use strict;
use warnings;
use Time::HiRes qw(time);
use IPC::Open2;
use File::Temp qw(tempdir);

my ($script) = glob("$ARGV[0]/bin/run-*-vm");
my $trues = $ENV{TRUES} // 0;
my $accelerator = $ENV{BARE_ACCELERATOR} // 'tcg';
my $dir = tempdir("bare-login-XXXXXX", TMPDIR => 1, CLEANUP => 1);
$ENV{NIX_DISK_IMAGE} = "$dir/disk.qcow2";
$ENV{TMPDIR} = $dir;
$ENV{USE_TMPDIR} = 1;
$ENV{QEMU_KERNEL_PARAMS} = 'console=ttyS0';
$ENV{QEMU_OPTS} = "-nographic -machine accel=$accelerator";

my $start = time;
my $pid = open2(my $from, my $to, $script);
$SIG{ALRM} = sub { kill 'KILL', $pid; die "bare-login: no end within 300 s\n" };
alarm 300;

my $buffer = '';
sub expect {
    my ($pattern) = @_;
    while (1) {
        if ($buffer =~ /$pattern/s) {
            $buffer = substr $buffer, $+[0];
            return 1;
        }
        sysread($from, $buffer, 65536, length $buffer) or die "bare-login: the console ended\n";
    }
}
sub type { syswrite $to, "$_[0]\r" }
sub passed { my $then = shift; return sprintf '%.4f', time - $then }

my $prompt = qr/\$(?:\e\[0m)? $/;
expect(qr/login: /);
my $login = passed $start;
type 'alice';
expect(qr/Password: /);
type 'test';
expect($prompt);
my $shell = passed $start;

my @trues;
for (1 .. $trues) {
    my $then = time;
    type 'true';
    expect($prompt);
    push @trues, (time - $then) * 1000;
}
@trues = sort { $a <=> $b } @trues;
my $true = @trues ? sprintf('%.3f', $trues[@trues / 2]) : 'null';

my $then = time;
type 'cowsay hello | lolcat';
expect($prompt);
my $cow = passed $then;

$then = time;
type 'sudo poweroff';
expect(qr/password for alice: /);
type 'test';
1 while sysread($from, $buffer, 65536);
waitpid $pid, 0;
my $off = passed $then;
my $all = passed $start;
print qq({"login_prompt":$login,"shell":$shell,"cowsay":$cow,"power_off":$off,"all":$all,"true_ms":$true}\n);
