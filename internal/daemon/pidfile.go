package daemon

// PIDFile is a pid file that we have written and hold locked.
type PIDFile struct{}

// WritePIDFile writes our process id to a file.
func WritePIDFile(path string) (*PIDFile, error) { return nil, failf(ExitSoftware, "not built yet") }

// Yield lets another instance take the pid file over from now on: for a process that drains and
// whose successor may start already. The file stays until that happens or Remove is called.
func (p *PIDFile) Yield() {}

// Remove removes the pid file if it still is ours. A nil PIDFile does nothing.
func (p *PIDFile) Remove() error { return nil }
