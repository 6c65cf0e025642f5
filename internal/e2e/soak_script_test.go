package e2e

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/amavis-milter/amavis-milter/internal/e2e/lab"
)

// How a soak begins.
const (
	scriptRest     = 400 * time.Millisecond // between two troubles of the script
	scriptPatience = 30 * time.Second       // for mail to be where it is to be harmed
)

// script is how every soak begins, whatever chance does later: each network is cut
// off while mail goes through it, each milter is killed while it has mail, and an
// amavisd is killed, so that the other has to do its work. It ends at the first
// trouble that could not be made or mended.
func (k *soak) script(b *breakage) error {
	first, second := k.scanners[0], k.scanners[1]
	steps := []func() error{func() error { return b.cutInUse(first.path(), first.network, false) }}
	for i, u := range k.units {
		steps = append(steps,
			func() error { return b.cutInUse(u.path(), u.network, i == 0) },
			func() error { return b.killInUse(u) })
	}
	steps = append(steps, func() error {
		// With the first one gone, mail goes to the second.
		b.note(first.name, "amavisd KILL", "until the network to the other has been cut off")
		first.Kill()
		err := b.cutInUse(second.path(), second.network, true)
		return errors.Join(err, first.Clean(), first.Start())
	})
	for _, step := range steps {
		b.wait(scriptRest)
		if err := step(); err != nil {
			return fmt.Errorf("script of the soak: %w", err)
		}
	}
	return nil
}

// path is the name of the network before an amavisd.
func (s *scanner) path() string { return "to the " + s.name }

// path is the name of the network before a milter.
func (u *unit) path() string { return "from " + u.mta.Name }

// cutInUse cuts a network off as soon as there is a connection to be cut.
func (b *breakage) cutInUse(name string, network *lab.Breaker, reset bool) error {
	return lab.Poll(scriptPatience, "a connection "+name, func() error {
		n := network.CutAll(reset)
		if n == 0 {
			return errors.New("there is none")
		}
		b.note(name, "network cut off", "reset %t: %d connections", reset, n)
		return nil
	})
}

// killInUse kills a milter as soon as there is mail in its spool, and waits for the
// next instance.
func (b *breakage) killInUse(u *unit) error {
	err := lab.Poll(scriptPatience, "mail in the spool of the milter for "+u.mta.Name, func() error {
		names, err := lab.SpoolOf(u.workDir)
		if err == nil && len(names) == 0 {
			err = errors.New("there is none")
		}
		return err
	})
	if err != nil {
		return err
	}
	return b.endDaemon(u, syscall.SIGKILL)
}
