dnl amavis-milter for sendmail. In sendmail.mc, before the MAILER lines:
dnl
dnl	include(`/etc/mail/amavis-milter.m4')dnl
dnl
dnl then make sendmail.cf anew (make -C /etc/mail, or sendmailconfig) and restart
dnl sendmail.
dnl
dnl The socket is what amavis-milter was told with -p (MILTER_SOCKET of its init
dnl script). For another, such as one on another host, define it before the include:
dnl
dnl	define(`AMAVIS_MILTER_SOCKET', `inet:10025@scanner.example.com')dnl
dnl
dnl F=T	answer 4xx while amavis-milter is away. F=R would refuse mail for good,
dnl	and without F= unscanned mail would pass.
dnl T=	S and R, 10 minutes each, are for one write to and one read from
dnl	amavis-milter, which reports progress every few seconds while a message is
dnl	scanned. E is for the whole time from the end of a message to its verdict,
dnl	progress or not: it must be longer than --deadline of amavis-milter (540 s).
dnl
dnl No macros need be listed: amavis-milter asks for those it uses when sendmail
dnl connects. A list of confMILTER_MACROS_ENVFROM that an older filter needed (r, b)
dnl does no harm.
ifdef(`AMAVIS_MILTER_SOCKET', `', `define(`AMAVIS_MILTER_SOCKET', `local:/var/amavis/amavis-milter.sock')')dnl
INPUT_MAIL_FILTER(`milter-amavis', `S='AMAVIS_MILTER_SOCKET`, F=T, T=S:10m;R:10m;E:10m')dnl
