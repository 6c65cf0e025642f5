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

// Survive does the work of a goroutine that has nobody else to recover, and reports whether
// it came to its end. A panic in it is logged, and ends nothing but this work.
func Survive(log *slog.Logger, stage string, work func()) (done bool) {
	defer func() {
		if p := recover(); p != nil {
			Log(log, stage, p)
		}
	}()
	work()
	return true
}
