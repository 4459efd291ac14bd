# Hashes, strings that grow, regular expressions, sorting.
use strict;
use warnings;

my %count;
for my $i (0 .. 100000) {
  $count{"key" . ($i * 7919 % 30011)} += $i;
}
my $total = 0;
$total += $count{$_} for keys %count;
printf "%d keys, total %d\n", scalar(keys %count), $total;

my $text = '';
$text .= "line $_ of the text\n" for 1 .. 50000;
my @odd = grep { /[13579] of/ } split /\n/, $text;
printf "%d bytes, %d odd lines, last '%s'\n", length $text, scalar @odd, $odd[-1];

my @numbers = map { ($_ * 16807) % 65521 } 1 .. 100000;
my @sorted = sort { $a <=> $b } @numbers;
print "sorted: @sorted[0, 50000, 99999]\n";

my @nested = map { [ map { { number => $_ } } 1 .. $_ % 50 ] } 1 .. 5000;
my $parts = 0;
$parts += @$_ for @nested;
print "$parts parts\n";

# A process forked off frees what it got from the one before.
my $child = open(my $pipe, '-|');
if (!$child) {
  undef @nested;
  undef %count;
  print "child: ", scalar(@sorted), "\n";
  exit 0;
}
print <$pipe>;
close $pipe;
