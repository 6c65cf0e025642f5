package contrib_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

const script = "init.d/amavis-milter"

// output runs a program that is not necessarily installed.
func output(t *testing.T, packageName, program string, args ...string) (string, error) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("needs %s (Debian package %s)", program, packageName)
	}
	out, err := exec.Command(program, args...).CombinedOutput()
	return string(out), err
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestShellSyntax(t *testing.T) {
	for _, file := range []string{script, "sysconfig/amavis", "testdata/private-root", "testdata/amavisd"} {
		for _, shell := range []string{"sh", "bash", "dash"} {
			if _, err := exec.LookPath(shell); err != nil {
				continue // sh is everywhere
			}
			if out, err := exec.Command(shell, "-n", file).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s -n %s: %v\n%s", shell, file, err, out)
			}
		}
	}
}

func TestShellCheck(t *testing.T) {
	// The settings are for the script that reads them.
	for file, except := range map[string]string{script: "SC0000", "sysconfig/amavis": "SC2034", "testdata/private-root": "SC0000", "testdata/amavisd": "SC0000"} {
		if out, err := output(t, "shellcheck", "shellcheck", "-s", "sh", "-e", except, file); err != nil {
			t.Errorf("%s: %v\n%s", file, err, out)
		}
	}
}

// TestLSBHeader: insserv and systemd read it.
func TestLSBHeader(t *testing.T) {
	text := read(t, script)
	header := regexp.MustCompile(`(?s)### BEGIN INIT INFO\n(.*)### END INIT INFO\n`).FindStringSubmatch(text)
	if header == nil {
		t.Fatal("no INIT INFO")
	}
	for _, key := range []string{"Provides", "Required-Start", "Required-Stop", "Default-Start", "Default-Stop", "Short-Description"} {
		if !regexp.MustCompile(`(?m)^# ` + key + `: +\S`).MatchString(header[1]) {
			t.Errorf("no %s", key)
		}
	}
	for line := range strings.Lines(header[1]) {
		if !strings.HasPrefix(line, "# ") {
			t.Errorf("not a comment: %q", line)
		}
	}
	if info, err := os.Stat(script); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v; want 0755", info.Mode(), err)
	}
}

// TestScriptRemovesNoSocket: to remove a live one is what made the old script lose
// mail.
func TestScriptRemovesNoSocket(t *testing.T) {
	for line := range strings.Lines(read(t, script)) {
		if code, _, _ := strings.Cut(line, "#"); regexp.MustCompile(`\b(rm|unlink|pkill|killall)\b`).MatchString(code) && strings.TrimSpace(code) != `rm -f "$LOCK"` {
			t.Errorf("the script removes or kills by name: %s", line)
		}
	}
}

// TestSettings: the names and values that the old script knew, and nothing else.
func TestSettings(t *testing.T) {
	out, err := exec.Command("sh", "-uc", `. ./sysconfig/amavis; echo "$AMAVIS_ACCOUNT,$MILTER_SOCKET,$MILTER_FLAGS,${MILTER_PIDFILE-}"`).CombinedOutput()
	if want := "amavis,/var/amavis/amavis-milter.sock,,\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v; want %q", out, err, want)
	}
}

func TestAmavisdSnippet(t *testing.T) {
	const file = "amavisd/amavisd.conf-milter"
	if out, err := output(t, "perl", "perl", "-wc", file); err != nil || !strings.Contains(out, "syntax OK") {
		t.Fatalf("perl -wc: %v\n%s", err, out)
	}
	// As amavisd reads it: with its variables declared, and "use strict" before it.
	const show = `
use strict;
our ($MYHOME, $TEMPBASE, $unix_socketname, %interface_policy, %policy_bank, $forward_method, $notify_method, $max_servers,
     $final_virus_destiny, $final_banned_destiny, $final_spam_destiny) = ($ARGV[1]);
$forward_method = 'smtp:[127.0.0.1]:10025';
open(my $f, '<', $ARGV[0]) or die $!;
my $value = eval(join('', <$f>));
die $@ if $@;
print join("\n", $value, $unix_socketname, $interface_policy{SOCK}, $policy_bank{$interface_policy{SOCK}}{protocol},
  defined $forward_method ? $forward_method : 'undef', $notify_method), "\n";
`
	for home, socket := range map[string]string{"/var/lib/amavis": "/var/lib/amavis/amavisd.sock", "": "/var/amavis/amavisd.sock"} {
		out, err := output(t, "perl", "perl", "-we", show, file, home)
		want := strings.Join([]string{"1", socket, "AM.PDP-SOCK", "AM.PDP", "undef",
			"pipe:flags=q argv=/usr/sbin/sendmail -i -odd -f ${sender} -- ${recipient}"}, "\n") + "\n"
		if err != nil || out != want {
			t.Errorf("got %v\n%s\nwant\n%s", err, out, want)
		}
	}
}

// TestSendmailSnippet expands the file as sendmail's own m4 files do, for which #
// does not begin a comment.
func TestSendmailSnippet(t *testing.T) {
	const file = "sendmail/amavis-milter.m4"
	for define, want := range map[string]string{
		"": "milter-amavis|S=local:/var/amavis/amavis-milter.sock, F=T, T=S:10m;R:10m;E:10m|",
		"define(`AMAVIS_MILTER_SOCKET', `inet:10025@scanner.example.com')dnl\n": "milter-amavis|S=inet:10025@scanner.example.com, F=T, T=S:10m;R:10m;E:10m|",
	} {
		if _, err := exec.LookPath("m4"); err != nil {
			t.Skip("needs m4 (Debian package m4)")
		}
		cmd := exec.Command("m4", "-")
		cmd.Stdin = strings.NewReader("changecom()define(`INPUT_MAIL_FILTER', `$1|$2|')dnl\n" + define + "include(`" + file + "')dnl\n")
		if out, err := cmd.CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("got %v %q, want %q", err, out, want)
		}
	}
}
