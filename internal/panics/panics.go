// Package panics puts a panic that was recovered into the log, so that it can be
// reported although the process lives on.
package panics

import (
	"fmt"
	"log/slog"
	"runtime"
)

// maxPanicFrames bounds the stack of a panic in the log, in lines.
const maxPanicFrames = 32

// Log logs a panic that was recovered, and where it came from: a line for each
// caller, for one line could not hold them all. It is called by the deferred
// function that recovered.
func Log(log *slog.Logger, stage string, reason any) {
	log.Error("panic, please report this and the lines that follow", "stage", stage, "panic", fmt.Sprint(reason))
	callers := make([]uintptr, maxPanicFrames)
	// Callers, this function and the one that called recover are of no interest.
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers)])
	for {
		frame, more := frames.Next()
		log.Error("panic", "at", fmt.Sprintf("%s:%d", frame.File, frame.Line), "in", frame.Function)
		if !more {
			return
		}
	}
}
