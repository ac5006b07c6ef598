#!/usr/bin/perl
# A terminal's last screen as SVG: reads a typescript of script(1) from stdin, the command it shows as
# the argument. Knows the sequences that our own progress display uses: cursor up, erase, colours.
use strict;
use warnings;
use utf8;
binmode STDIN, ':encoding(UTF-8)';
binmode STDOUT, ':encoding(UTF-8)';

my $command = shift // '';
my @rows = ([]);
my ($row, $column, $style) = (0, 0, '');
my %colour = (1 => 'b', 31 => 'r', 32 => 'g', 33 => 'y', 34 => 'u', 35 => 'm', 36 => 'c', 2 => 'd', 90 => 'd');

my $text = do { local $/; <STDIN> };
$text =~ s/\A.*?Script started[^\n]*\n//s;
$text =~ s/\n*Script done[^\n]*\n?\z//;
while ($text =~ /\G(?:\e\[([\d;?]*)([A-Za-z])|\e\][^\a\e]*(?:\a|\e\\)|\e[()][A-Z0-9]|\e.|(.))/sg) {
    my ($parameters, $final, $character) = ($1, $2, $3);
    if (defined $final) {
        my $n = $parameters =~ /^\d+$/ ? $parameters : 0;
        if ($final eq 'm') {
            for my $code (split /;/, $parameters || '0') {
                $style = $code == 0 ? '' : $colour{$code} ? "$style $colour{$code}" : $style;
            }
        }
        elsif ($final eq 'A') { $row -= $n || 1; $row = 0 if $row < 0 }
        elsif ($final eq 'B') { $row += $n || 1 }
        elsif ($final eq 'C') { $column += $n || 1 }
        elsif ($final eq 'D') { $column -= $n || 1; $column = 0 if $column < 0 }
        elsif ($final eq 'G') { $column = ($n || 1) - 1 }
        elsif ($final eq 'K') {
            if ($n == 2) { $rows[$row] = [] }
            else { splice @{ $rows[$row] //= [] }, $column if @{ $rows[$row] //= [] } > $column }
        }
        elsif ($final eq 'J') { $#rows = $row; splice @{ $rows[$row] }, $column if @{ $rows[$row] // [] } > $column }
    }
    elsif (defined $character) {
        if ($character eq "\n") { $row++ }
        elsif ($character eq "\r") { $column = 0 }
        elsif ($character ge ' ') {
            if ($column >= 100) { $row++; $column = 0 }
            $rows[$row] //= [];
            $rows[$row][$column++] = [$character, $style];
        }
    }
}
pop @rows while @rows && !grep { defined && $_->[0] ne ' ' } @{ $rows[-1] // [] };

sub escape { my $s = shift; $s =~ s/&/&amp;/g; $s =~ s/</&lt;/g; $s =~ s/>/&gt;/g; return $s }
my $height = 20 * (@rows + 2) + 20;
print qq(<svg xmlns="http://www.w3.org/2000/svg" width="900" height="$height" viewBox="0 0 900 $height" role="img" aria-label="terminal: ),
    escape($command), qq(">\n<style>text{font:14px/20px ui-monospace,Menlo,Consolas,monospace;fill:#d8dee9;white-space:pre}.b{font-weight:bold}.d{fill:#8892a5}.r{fill:#ff6b6b}.g{fill:#8fd46b}.y{fill:#f2c14e}.u{fill:#6ea8fe}.m{fill:#d18bff}.c{fill:#5cc8d7}</style>\n);
print qq(<rect width="900" height="$height" rx="8" fill="#1b1f27"/>\n);
print qq(<text x="16" y="30"><tspan class="g">\$</tspan> ), escape($command), qq(</text>\n);
my $y = 50;
for my $cells (@rows) {
    my ($line, $last) = ('', undef);
    for my $cell (@{ $cells // [] }) {
        my ($character, $class) = $cell ? @$cell : (' ', '');
        $class =~ s/^ //;
        if (!defined $last || $class ne $last) {
            $line .= '</tspan>' if defined $last;
            $line .= qq(<tspan class="$class">);
            $last = $class;
        }
        $line .= escape($character);
    }
    $line .= '</tspan>' if defined $last;
    print qq(<text x="16" y="$y">$line</text>\n) if length $line;
    $y += 20;
}
print "</svg>\n";
