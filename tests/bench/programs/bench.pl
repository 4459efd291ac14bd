# What a script in Perl does with memory: hashes, arrays of arrays, strings that grow, and
# regular expressions. Prints sums over what it made.
use strict;
use warnings;

my %count;
for my $i (0 .. 250000) {
  $count{"key" . ($i * 7919 % 60011)} .= chr(97 + $i % 26);
}
my $total = 0;
$total += length $count{$_} for keys %count;
printf "%d keys, total %d\n", scalar(keys %count), $total;

my $text = '';
$text .= sprintf("line %d of the text, %x\n", $_, $_ * $_) for 1 .. 90000;
my %line;
for my $row (split /\n/, $text) {
  my @words = split /[ ,]+/, $row;
  push @{ $line{ $words[-1] } }, { number => $words[1], words => [@words] };
}
printf "%d bytes, %d different ends\n", length $text, scalar keys %line;

my @nested = map { [ map { { number => $_ } } 1 .. $_ % 40 ] } 1 .. 6000;
my $parts = 0;
$parts += @$_ for @nested;
print "$parts parts\n";

my @sorted = sort { $a->[1] cmp $b->[1] } map { [ $_, sprintf '%x', $_ * 16807 % 65521 ] }
  1 .. 60000;
print "sorted: $sorted[0][0] $sorted[30000][0] $sorted[-1][0]\n";

(my $other = $text) =~ s/(\d+) of/<$1> in/g;
printf "%d bytes replaced\n", length $other;
