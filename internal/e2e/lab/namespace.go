package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// The environment variables that the stages of a lab pass on.
const (
	stageVar  = "AMAVIS_MILTER_LAB_STAGE"  // "", stageInit or stageInside
	rootVar   = "AMAVIS_MILTER_LAB_ROOT"   // the unpacked packages
	moduleVar = "AMAVIS_MILTER_LAB_MODULE" // the source tree
	mountVar  = "AMAVIS_MILTER_LAB_MOUNT"  // where the private root is mounted

	stageInit   = "init"
	stageInside = "inside"
)

// reportFD is the descriptor on which the init stage reports: nothing when all
// is well, else why there is no lab.
const reportFD = 3

// refusedMark begins a report of what the machine did not let us do, rather than
// of what went wrong.
const refusedMark = "refused: "

// Config says where a lab finds things.
type Config struct {
	Module   string    // the source tree; seen at the same path inside, read-only
	Cache    string    // where packages are kept between runs
	Progress io.Writer // what takes long is told here
}

// MissingError says why there can be no lab on this machine.
type MissingError struct{ What string }

func (e *MissingError) Error() string { return e.What }

// Inside reports whether the caller runs in a lab.
func Inside() bool { return os.Getenv(stageVar) == stageInside }

// Run calls run inside a lab and returns its exit code: the running program is
// executed anew, with the same arguments, in namespaces and with a root of its
// own, where Run does nothing but call run. Arguments of that second run are the
// same but for -test.testlogfile. A *MissingError says what the machine lacks.
func Run(ctx context.Context, config Config, run func() int) (int, error) {
	switch os.Getenv(stageVar) {
	case stageInside:
		return run(), nil
	case stageInit:
		return initStage(), nil
	}
	if err := check(); err != nil {
		return 0, err
	}
	root, err := Install(ctx, config.Cache, config.Progress)
	if err != nil {
		return 0, &MissingError{"Debian's packages: " + err.Error()}
	}
	return enter(config, root)
}

// check names what the machine lacks before anything is tried.
func check() error {
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root (namespaces and several accounts are needed)")
	}
	for _, tool := range []string{"apt-get", "dpkg-deb", "tar"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool+" (the servers are Debian's packages)")
		}
	}
	if len(missing) > 0 {
		return &MissingError{strings.Join(missing, ", ")}
	}
	return nil
}

// enter runs the init stage in namespaces of its own and waits for its end.
func enter(config Config, root string) (int, error) {
	mount := filepath.Join(config.Cache, "mnt")
	if err := os.MkdirAll(mount, 0o755); err != nil {
		return 0, fmt.Errorf("making the mount point: %w", err)
	}
	report, reportWriter, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer report.Close()
	cmd := exec.Command("/proc/self/exe", withoutTestLog(os.Args[1:])...)
	cmd.Env = append(os.Environ(), stageVar+"="+stageInit, rootVar+"="+root,
		moduleVar+"="+config.Module, mountVar+"="+mount)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{reportWriter}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
		Pdeathsig: syscall.SIGKILL, // and with process 1 die all of the namespace
	}
	runtime.LockOSThread() // Pdeathsig is about the thread that started the child
	defer runtime.UnlockOSThread()
	err = cmd.Start()
	reportWriter.Close()
	if err != nil {
		return 0, &MissingError{"private namespaces: " + err.Error()}
	}
	why, _ := io.ReadAll(report)
	err = cmd.Wait()
	if refused, ok := strings.CutPrefix(string(why), refusedMark); ok {
		return 0, &MissingError{refused}
	}
	if len(why) > 0 {
		return 0, fmt.Errorf("preparing the lab: %s", why)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("running the lab: %w", err)
	}
	return cmd.ProcessState.ExitCode(), nil
}

// withoutTestLog drops the option that names a file of the go command: it does
// not exist inside.
func withoutTestLog(args []string) []string {
	var kept []string
	for _, arg := range args {
		if !strings.HasPrefix(arg, "-test.testlogfile=") {
			kept = append(kept, arg)
		}
	}
	return kept
}

// initStage is process 1 of the lab: it prepares the root, starts the inside
// stage, and reaps whatever ends until that one does.
func initStage() int {
	report := os.NewFile(reportFD, "report")
	syscall.CloseOnExec(reportFD)
	cwd, err := os.Getwd()
	if err == nil {
		err = prepareRoot(os.Getenv(mountVar), os.Getenv(rootVar), os.Getenv(moduleVar))
	}
	if err != nil {
		fmt.Fprint(report, refusedMark, err)
		return 1
	}
	err = prepareNetwork()
	if err == nil {
		err = prepareAccounts()
	}
	if err == nil && os.Chdir(cwd) != nil {
		err = os.Chdir(os.Getenv(moduleVar))
	}
	if err != nil {
		fmt.Fprint(report, err)
		return 1
	}
	report.Close()

	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "TZ=UTC"}
	os.Setenv(stageVar, stageInside)
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "AMAVIS_MILTER_") || strings.HasPrefix(name, "GO") || name == "CI" {
			env = append(env, entry)
		}
	}
	child, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Env:   env,
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab: starting inside the namespaces:", err)
		return 1
	}
	return reapUntil(child.Pid)
}

// reapUntil waits for every child, orphans of the servers included, until pid has
// ended; it returns that one's exit code.
func reapUntil(pid int) int {
	for {
		var status syscall.WaitStatus
		ended, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			fmt.Fprintln(os.Stderr, "lab: waiting for the inside:", err)
			return 1
		case ended == pid && status.Exited():
			return status.ExitStatus()
		case ended == pid && status.Signaled():
			fmt.Fprintln(os.Stderr, "lab: ended by signal:", status.Signal())
			return 1
		}
	}
}
