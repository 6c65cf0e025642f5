package milter

import (
	"fmt"
	"log/slog"
	"runtime"
)

// maxPanicFrames bounds the stack of a panic in the log, in lines.
const maxPanicFrames = 32

// logPanic logs a panic that was recovered, and where it came from: a line for each
// caller, for one line could not hold them all. It is called by the deferred
// function that recovered.
func logPanic(log *slog.Logger, stage string, reason any) {
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

// survive does the work of a goroutine that belongs to no connection: a panic in it is
// logged, and ends nothing but this work.
func survive(log *slog.Logger, stage string, work func()) {
	defer func() {
		if p := recover(); p != nil {
			logPanic(log, stage, p)
		}
	}()
	work()
}
