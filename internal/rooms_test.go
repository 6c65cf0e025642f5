// Package internal holds the test of the house plan: which room may know which.
package internal

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/amavis-milter/amavis-milter/"

// rooms says what each package may import besides the standard library, and why no
// more. A package that is not here may not exist; test files are free, but for the
// libraries named in testsToo.
var rooms = map[string]struct {
	may []string
	why string
}{
	"ampdp": {nil,
		"it is a library for anyone: standard library only"},
	"ampdp/ampdptest": {[]string{"ampdp"},
		"a scripted amavisd knows nothing of who asks it"},
	"internal/clocktest": {nil,
		"it makes times for tests"},
	"internal/minutely": {nil,
		"it counts, and knows nothing of what"},
	"internal/panics": {nil,
		"it tells of a panic, and knows nothing of whose"},
	"milter": {[]string{"internal/minutely", "internal/panics", "github.com/d--j/go-milter"},
		"the milter side knows neither AM.PDP nor the spool nor any policy"},
	"milter/miltertest": {nil,
		"a scripted MTA shares no code with the milter that it tests"},
	"internal/spool": {[]string{"internal/minutely", "golang.org/x/sys/unix"},
		"the spool knows neither of the two protocols"},
	"internal/filter": {[]string{"milter", "ampdp", "internal/spool", "internal/minutely", "internal/panics"},
		"the one bridge knows no flags, no signals and no sockets' names"},
	"internal/config": {[]string{"github.com/spf13/pflag"},
		"the command line knows nothing of those who read it"},
	"internal/daemon": {[]string{"golang.org/x/sys/unix"},
		"the daemon knows nothing of mail"},
	"internal/logging": {nil,
		"the log knows nothing of mail"},
	"cmd/amavis-milter": {[]string{"internal/config", "internal/daemon", "internal/logging", "internal/filter", "internal/spool", "milter", "ampdp"},
		"main joins the rooms and knows no protocol's library"},
	"internal/e2e": {nil,
		"the end-to-end tests drive the program from outside"},
	"internal/e2e/lab": {[]string{"golang.org/x/sys/unix"},
		"the laboratory runs the program from outside"},
	"internal/faults": {nil,
		"the fault matrix breaks what is around the program, from outside"},
	"internal/bench": {[]string{"internal/e2e/lab", "golang.org/x/sys/unix"},
		"the benchmark drives the programs from outside, with code of its own; real MTAs are the laboratory's"},
	"internal/bench/cmd": {[]string{"internal/bench", "internal/e2e/lab"},
		"it runs the benchmark"},
	"internal/e2e/demo": {[]string{"internal/e2e/lab", "ampdp/ampdptest", "milter/miltertest"},
		"the demo shows the program from outside"},
}

// TestRooms holds the arrows between the packages.
func TestRooms(t *testing.T) {
	seen := 0
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, module)
		if len(p.GoFiles) == 0 {
			continue // tests only
		}
		seen++
		room, ok := rooms[path]
		if !ok {
			t.Errorf("package %s is not in the plan: say in rooms what it may know, and why", path)
			continue
		}
		for _, i := range p.Imports {
			i = strings.TrimPrefix(i, module)
			if !strings.Contains(strings.Split(i, "/")[0], ".") && !isOurs(i) || slices.Contains(room.may, i) {
				continue
			}
			t.Errorf("%s imports %s, which it may not: %s", path, i, room.why)
		}
		if p.Doc == "" && p.Name != "main" {
			t.Errorf("package %s has no package comment", path)
		}
	}
	if seen < len(rooms)-2 {
		t.Errorf("only %d packages found", seen)
	}
}

func isOurs(path string) bool {
	first := strings.Split(path, "/")[0]
	return first == "ampdp" || first == "milter" || first == "internal" && strings.Count(path, "/") > 0 || first == "cmd"
}

type pkg struct {
	ImportPath, Name, Doc string
	GoFiles, Imports      []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Doc,GoFiles,Imports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var list []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return list
		case err != nil:
			t.Fatal(err)
		}
		list = append(list, p)
	}
}
