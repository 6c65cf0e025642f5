package spool

import (
	"context"
	"fmt"
	"log/slog"
)

// maxSweepLines is how many names the sweep logs one by one; the rest is counted.
const maxSweepLines = 10

// sweep removes what a dead instance left in milter/: real directories of ours
// that bear such a name as we give. All else is left as it is, and told. The lock
// must be held exclusively. When ctx is done it stops before the next name.
func sweep(ctx context.Context, h *home, uid int, log *slog.Logger) error {
	removed, lines := 0, 0
	tell := func(text, name string, args ...any) {
		if lines++; lines <= maxSweepLines {
			log.Warn(text, append([]any{"dir", h.path, "name", name}, args...)...)
		}
	}
	err := readDir(h.dir, func(name string) error {
		if ctx.Err() != nil {
			return fmt.Errorf("sweeping %s: %w", h.path, context.Cause(ctx))
		}
		if name == lockName {
			return nil
		}
		st, err := lstatat(h.dir, name)
		switch {
		case err != nil:
			tell("spool sweep: a name that cannot be looked at is left alone", name, "error", err)
		case !isDirName(name) || !isDir(st) || int(st.Uid) != uid:
			tell("spool sweep: something that is not ours is left alone", name, "owner", owner(st))
		default:
			if err := removeTree(h.dir, name, uid); err != nil {
				tell("spool sweep: a dead spool directory cannot be removed", name, "error", err)
				return nil
			}
			removed++
		}
		return nil
	})
	if lines > maxSweepLines {
		log.Warn("spool sweep: more of the like is left", "dir", h.path, "count", lines-maxSweepLines)
	}
	if removed > 0 {
		log.Info("spool sweep: dead spool directories removed", "dir", h.path, "count", removed)
	}
	return err
}
