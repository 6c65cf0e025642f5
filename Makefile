# What a contributor may do. The Go toolchain is all that must be there; "make
# test" and "make demo" fetch what else they need (Debian, as root).

GO            ?= go
PREFIX        ?= /usr
SBINDIR       ?= $(PREFIX)/sbin
MANDIR        ?= $(PREFIX)/share/man
SYSCONFDIR    ?= /etc
INIT_SCRIPT   ?= no
AMAVISD_MILTER ?= no
DESTDIR       ?=
RUNTIME_DIR   ?= /var/amavis
FUZZTIME      ?= 60s
MTA           ?= sendmail
MINUTES       ?= 10
BENCH         ?= .
QUICK         ?=
CASE          ?=

VERSION       ?= $(shell git describe --tags --always --dirty 2>/dev/null)
CONFIG_PKG     = github.com/amavis-milter/amavis-milter/internal/config
LDFLAGS        = -X $(CONFIG_PKG).runtimeDir=$(RUNTIME_DIR)
ifneq ($(VERSION),)
LDFLAGS       += -X $(CONFIG_PKG).version=$(VERSION)
endif

# What is installed names the directories that the program is built for and in.
AT_ITS_PLACE = sed 's|/var/amavis|$(RUNTIME_DIR)|g; s|/usr/sbin/amavis-milter|$(SBINDIR)/amavis-milter|g'

# A link to us may be replaced, a program may not. Debian's package can stay: its
# init script and settings are what we are started by then.
OLD_NAME = $(DESTDIR)$(SBINDIR)/amavisd-milter
OLD_PAGE = $(DESTDIR)$(MANDIR)/man8/amavisd-milter.8
IS_OURS = is_ours() { [ -L "$$1" ] && case $$(readlink "$$1") in "$$2" | "$$3") ;; *) false ;; esac; }; \
	is_free() { is_ours "$$@" || ! { [ -e "$$1" ] || [ -L "$$1" ]; }; };
OLD_NAME_IS_FREE = $(IS_OURS) is_free '$(OLD_NAME)' amavis-milter '$(SBINDIR)/amavis-milter' || { \
	echo '$(OLD_NAME) is another program: rename it first, on Debian by' >&2; \
	echo '    dpkg-divert --local --rename --add $(SBINDIR)/amavisd-milter' >&2; \
	echo 'which keeps its package, init script and settings. Nothing was installed.' >&2; exit 1; }; \
	is_free '$(OLD_PAGE)' amavis-milter.8 '$(MANDIR)/man8/amavis-milter.8' || { \
	echo '$(OLD_PAGE) is the page of another program: rename it first. Nothing was installed.' >&2; exit 1; }

# Tools are run at these versions without being in go.mod.
STATICCHECK    = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK    = golang.org/x/vuln/cmd/govulncheck@v1.9.0

SCRIPTS        = internal/e2e/scripts

.PHONY: all build test unit race fuzz lint vuln e2e soak demo bench gobench man install clean FORCE
all: build

# build: the program, bin/amavis-milter.
build: bin/amavis-milter

bin/amavis-milter: FORCE
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '$(LDFLAGS)' -o $@ ./cmd/amavis-milter

# test: everything that says whether the program is right, the real mail servers
# included. What the machine lacks is installed (apt, root) or named.
test:
	@GO='$(GO)' $(SCRIPTS)/test

# unit: go vet, all tests but the end-to-end ones, with the seeds of the fuzz tests.
unit:
	$(GO) vet ./...
	$(GO) test ./...

# race: the same under the race detector; it needs a C compiler.
race:
	CGO_ENABLED=1 $(GO) test -race ./...

# fuzz: each fuzz test for FUZZTIME.
fuzz:
	@GO='$(GO)' FUZZTIME='$(FUZZTIME)' $(SCRIPTS)/fuzz

# lint: formatting, go vet, staticcheck, go.mod, shell scripts.
lint:
	@GO='$(GO)' STATICCHECK='$(STATICCHECK)' $(SCRIPTS)/lint

# vuln: known vulnerabilities in what we use.
vuln:
	@GO='$(GO)' GOVULNCHECK='$(GOVULNCHECK)' $(SCRIPTS)/vuln

# e2e: the program among real sendmail, Postfix, amavisd, SpamAssassin and clamd. It fails
# where they cannot run; AMAVIS_MILTER_E2E=run skips what cannot.
e2e:
	AMAVIS_MILTER_E2E=$${AMAVIS_MILTER_E2E:-require} $(GO) test -count=1 -timeout 25m ./internal/e2e/...

# soak: both mail servers under load for MINUTES while all around them breaks at
# random; SEED=n repeats a run.
soak:
	AMAVIS_MILTER_E2E=require AMAVIS_MILTER_SOAK='$(MINUTES)' AMAVIS_MILTER_SOAK_SEED='$(SEED)' \
		$(GO) test -count=1 -v -timeout 0 -run '^(TestSoak|TestKill)$$' ./internal/e2e

# demo: the same for the eyes, with sendmail or MTA=postfix. It ends by itself and
# leaves nothing behind but Debian's packages, unpacked below build/.
demo: build
	@mkdir -p build/demo
	@CGO_ENABLED=0 $(GO) build -buildvcs=false -o build/demo/demo ./internal/e2e/demo
	@build/demo/demo -module . -binary bin/amavis-milter -mta '$(MTA)'

# bench: the program beside Debian's amavisd-milter, in turns, with the same load: rates,
# CPU, system calls, latency, memory, each with its goal. It takes some 17 minutes and
# should have the machine for itself; QUICK=1 takes two. CASE=c8,large measures these
# only. The report is below build/bench. It must be run by root; Debian's packages are
# unpacked below build/, and strace is installed if it is missing.
bench: build
	@mkdir -p build/bench
	@CGO_ENABLED=0 $(GO) build -buildvcs=false -o build/bench/bench ./internal/bench/cmd
	@build/bench/bench -module . -binary bin/amavis-milter $(if $(QUICK),-quick) -case '$(CASE)'

# gobench: Go's benchmarks with allocations, BENCH=PATTERN; compare runs with benchstat.
gobench:
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

# man: the manual page as text, build/amavis-milter.txt, after checking it.
man:
	@$(SCRIPTS)/man docs/amavis-milter.8 build/amavis-milter.txt

# install: the program and its manual page; INIT_SCRIPT=yes for the init script
# and its settings as well (settings that are there are kept); AMAVISD_MILTER=yes for
# the name amavisd-milter (what is no link to ours is kept, and nothing installed).
install: build
ifeq ($(AMAVISD_MILTER),yes)
	@$(OLD_NAME_IS_FREE)
endif
	install -d '$(DESTDIR)$(SBINDIR)' '$(DESTDIR)$(MANDIR)/man8'
	install -m 755 bin/amavis-milter '$(DESTDIR)$(SBINDIR)/amavis-milter'
	$(AT_ITS_PLACE) docs/amavis-milter.8 > bin/amavis-milter.8
	install -m 644 bin/amavis-milter.8 '$(DESTDIR)$(MANDIR)/man8/amavis-milter.8'
ifeq ($(INIT_SCRIPT),yes)
	install -d '$(DESTDIR)$(SYSCONFDIR)/init.d' '$(DESTDIR)$(SYSCONFDIR)/sysconfig'
	$(AT_ITS_PLACE) contrib/init.d/amavis-milter > bin/amavis-milter.init
	install -m 755 bin/amavis-milter.init '$(DESTDIR)$(SYSCONFDIR)/init.d/amavis-milter'
	$(AT_ITS_PLACE) contrib/sysconfig/amavis > bin/amavis.sysconfig
	test -e '$(DESTDIR)$(SYSCONFDIR)/sysconfig/amavis' || \
		install -m 644 bin/amavis.sysconfig '$(DESTDIR)$(SYSCONFDIR)/sysconfig/amavis'
endif

ifeq ($(AMAVISD_MILTER),yes)
	ln -sfn amavis-milter '$(OLD_NAME)'
	ln -sfn amavis-milter.8 '$(OLD_PAGE)'
endif

# clean: removes what was built, and the unpacked packages.
clean:
	rm -rf bin build
