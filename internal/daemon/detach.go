package daemon

// Detach starts this program again, with the same arguments, as a daemon: in a
// session of its own, with no terminal and no inherited descriptor. It returns nil when the child has
// called [Parent.Ready]. If the child has called [Parent.Fail], it returns the child's text and exit
// code as an [Error]; if the child has died without a word, an Error with
// [ExitSoftware].
func Detach() error { return failf(ExitSoftware, "not built yet") }

// Parent is the detached child's line to the process that called [Detach]. The
// methods of a nil Parent do nothing: a program in the foreground reports to
// nobody.
type Parent struct{}

// FromParent returns the line to the process that detached us, or nil if we were
// not detached. It is called once, early: it removes the mark of the
// detached child from the environment.
func FromParent() *Parent { return nil }

// Ready tells the parent that we serve. From here on the process has cwd "/" and
// stderr is /dev/null. An error means that the parent has gone, and that its
// caller thus believes that the start has failed: the program should end.
func (p *Parent) Ready() error { return nil }

// Fail tells the parent why we do not serve: the text of err and its [ExitCode].
// The program should exit with that code then.
func (p *Parent) Fail(err error) {}
