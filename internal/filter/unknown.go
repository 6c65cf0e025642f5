package filter

import (
	"log/slog"
	"sync"

	"github.com/amavis-milter/amavis-milter/ampdp"
)

// maxUnknownNames bounds how many names of unknown attributes are remembered.
const maxUnknownNames = 100

// unknownNames remembers which attributes of replies were reported as unknown: a
// newer amavisd would otherwise fill the log with every message.
type unknownNames struct {
	mu    sync.Mutex
	names map[string]bool
}

// report logs each attribute whose name was never seen before.
func (u *unknownNames) report(log *slog.Logger, attributes []ampdp.Attribute) {
	if len(attributes) == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, a := range attributes {
		if u.names[a.Name] || len(u.names) >= maxUnknownNames {
			continue
		}
		if u.names == nil {
			u.names = make(map[string]bool)
		}
		u.names[a.Name] = true
		log.Info("amavisd's reply has an attribute that is not known here, ignored", "name", a.Name)
	}
}
