package internal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wallClock are the functions and methods of package time that make of a time one
// that is measured by the wall clock alone. NTP and administrators set that clock
// forward and back; what is measured by it waits for an hour, or not at all. Times from
// time.Now carry the reading of a clock that nobody sets, and Sub, Since, Before and
// Add use it, as long as none of these has taken it off.
var wallClock = []string{
	"Unix", "UnixMilli", "UnixMicro", "UnixNano", "Date", "Parse", "ParseInLocation",
	"Time.Unix", "Time.UnixMilli", "Time.UnixMicro", "Time.UnixNano",
	"Time.Round", "Time.Truncate", "Time.AddDate", "Time.In", "Time.Local", "Time.UTC",
	"Time.AppendBinary", "Time.AppendText", "Time.GobEncode", "Time.MarshalBinary", "Time.MarshalJSON", "Time.MarshalText",
}

// wallClockMay are the places that use one of these, and why it is harmless.
var wallClockMay = map[string]string{
	"ampdp/exchange.go Unix":            "a deadline that has passed since 1970",
	"milter/guardwatch.go Unix":         "a deadline that has passed since 1970",
	"ampdp/ampdptest/lifecycle.go Unix": "a deadline that has passed since 1970",
}

// TestNothingIsMeasuredByTheWallClock reads the source of the program: a step of the
// clock, forward or back, changes no wait, no deadline and no bound on log lines,
// because nothing asks the clock that was set.
func TestNothingIsMeasuredByTheWallClock(t *testing.T) {
	var used []string
	calls := 0
	for _, p := range sources(t) {
		for id, object := range p.uses {
			f, ok := object.(*types.Func)
			if !ok || f.Pkg() == nil || f.Pkg().Path() != "time" {
				continue
			}
			calls++
			name := f.Name()
			if receiver := f.Signature().Recv(); receiver != nil {
				name = types.TypeString(receiver.Type(), func(*types.Package) string { return "" }) + "." + name
			}
			if !slices.Contains(wallClock, name) {
				continue
			}
			at := p.files.Position(id.Pos())
			place := strings.TrimPrefix(at.Filename, p.root+"/") + " " + name
			used = append(used, place)
			if wallClockMay[place] == "" {
				t.Errorf("%s:%d: time.%s measures by the wall clock, which may be set while we run: use time.Since and the like, or say in wallClockMay why it is harmless", at.Filename, at.Line, name)
			}
		}
	}
	for place := range wallClockMay {
		if !slices.Contains(used, place) {
			t.Errorf("%s is not there any more: take it off wallClockMay", place)
		}
	}
	if calls < 50 {
		t.Errorf("only %d uses of package time found: the test does not see the source", calls)
	}
}

// source is one package of the program, as the compiler understands it.
type source struct {
	root  string
	files *token.FileSet
	uses  map[*ast.Ident]types.Object
}

// sources reads all packages of the program but those that only tests use.
func sources(t *testing.T) []source {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,Module", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	exports := map[string]string{}
	type listed struct {
		ImportPath, Dir, Export string
		GoFiles                 []string
	}
	var ours []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		if path := strings.TrimPrefix(p.ImportPath, module); path != p.ImportPath && !strings.HasPrefix(path, "internal/e2e") && path != "milter/miltertest" {
			ours = append(ours, p)
		}
	}
	var all []source
	for _, p := range ours {
		s := source{root: root, files: token.NewFileSet(), uses: map[*ast.Ident]types.Object{}}
		var parsed []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(s.files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			parsed = append(parsed, f)
		}
		config := types.Config{Importer: importer.ForCompiler(s.files, "gc", func(path string) (io.ReadCloser, error) {
			if exports[path] == "" {
				return nil, fmt.Errorf("no export data of %s", path)
			}
			return os.Open(exports[path])
		})}
		if _, err := config.Check(p.ImportPath, s.files, parsed, &types.Info{Uses: s.uses}); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}
