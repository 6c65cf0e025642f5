package e2e

import (
	"fmt"
	"strings"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// many are so many recipients.
func many(n int) []string {
	recipients := make([]string, n)
	for i := range recipients {
		recipients[i] = fmt.Sprintf("user%03d@lab.test", i+1)
	}
	return recipients
}

// envelopeCases are mails that nobody minds, for all sorts of paths and parameters.
func envelopeCases() []testCase {
	to := func(name string, recipients ...string) testCase {
		return mail(name, lab.Text(head(name), lab.CleanBody), clean(want{}, recipients...)).to(recipients...)
	}
	long := strings.Repeat("a", 64) + "@lab.test" // RFC 5321 section 4.5.3.1.1
	return []testCase{
		to("clean", user),
		to("null sender", user).from(""),
		to("two recipients", user, "other@lab.test"),
		to("100 recipients", many(100)...),
		to("twice the same recipient", user).to(user, user),
		to("plus address", "user+tag+more@lab.test").from("list-bounces+user=lab.test@remote.test"),
		to("odd letters in addresses", "o'neil/a=b&c#d$e@lab.test").from("_-{|}~^?*`.x@remote.test"),
		to("quoted local parts", `"odd user"@lab.test`, `"a\"b\\c"@lab.test`).from(`"some one"@remote.test`),
		to("longest local part", long).from(long),
		to("upper-case addresses", "USER@LAB.TEST").from("SomeOne@Remote.Test"),
		to("address literal", user).from("someone@[198.51.100.7]"),
		to("percent in addresses", user).from("a%20b%%s@remote.test"),
		to("source route", "@relay.test,@other.test:user@lab.test"),
		to("parameters", user).parameters("SIZE=2000 BODY=8BITMIME RET=HDRS ENVID=QQ314159", "NOTIFY=NEVER ORCPT=rfc822;someone+2Belse@lab.test"),
		to("seven bits", user).parameters("BODY=7BIT", ""),
		to("no parameters", user).parameters("", ""),
	}
}
