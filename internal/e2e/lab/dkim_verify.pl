# Verifies DKIM signatures with Mail::DKIM. The one argument is the public key,
# which stands for every name in the DNS. Standard input: for each message a line
# with its size in bytes, then the message with CR LF. Standard output: for each
# message a line, the results of its signatures with TAB between.
use strict;
use warnings;
use Mail::DKIM::Verifier;
use Net::DNS;

my $record = "v=DKIM1; k=rsa; p=$ARGV[0]";
{
    no warnings 'redefine';
    *Mail::DKIM::DNS::query = sub {
        my ($name, $type) = @_;
        my @strings = $record =~ /(.{1,255})/gs;    # RFC 1035 section 3.3
        return Net::DNS::RR->new(owner => $name, type => $type, txtdata => \@strings);
    };
}
binmode STDIN;
while (defined(my $size = <STDIN>)) {
    chomp $size;
    my $message = '';
    (read(STDIN, $message, $size) // 0) == $size or die "a message of $size bytes is cut off\n";
    my $verifier = Mail::DKIM::Verifier->new;
    $verifier->PRINT($message);
    $verifier->CLOSE;
    print join("\t", map { $_->result_detail } $verifier->signatures), "\n";
}
