divert(-1)
# amavis-milter for sendmail. In sendmail.mc, before the MAILER lines:
#
#	include(`/etc/mail/amavis-milter.m4')dnl
#
# then make sendmail.cf anew (make -C /etc/mail, or sendmailconfig) and restart
# sendmail.
#
# The socket is what amavis-milter was told with -p (MILTER_SOCKET of its init
# script). For another, such as one on another host, define it before the include:
#
#	define(`AMAVIS_MILTER_SOCKET', `inet:10025@scanner.example.com')dnl
#
# F=T	answer 4xx while amavis-milter is away. F=R would refuse mail for good,
#	and without F= unscanned mail would pass.
# T=	S and R, 10 minutes each, are for one write to and one read from
#	amavis-milter, which reports progress every few seconds while a message is
#	scanned. E is for the whole time from the end of a message to its verdict,
#	progress or not: it must be longer than --deadline of amavis-milter (540 s).
#
# No macros need be listed: amavis-milter asks for those it uses when sendmail
# connects. A list of confMILTER_MACROS_ENVFROM that an older filter needed (r, b)
# does no harm.
ifdef(`AMAVIS_MILTER_SOCKET', `',
	`define(`AMAVIS_MILTER_SOCKET', `local:/var/amavis/amavis-milter.sock')')
divert(0)dnl
INPUT_MAIL_FILTER(`milter-amavis', `S='AMAVIS_MILTER_SOCKET`, F=T, T=S:10m;R:10m;E:10m')dnl
