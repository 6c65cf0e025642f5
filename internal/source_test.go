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
	"strings"
	"sync"
	"testing"
)

// source is one package of the program, as the compiler understands it.
type source struct {
	root  string
	files *token.FileSet
	uses  map[*ast.Ident]types.Object
	defs  map[*ast.Ident]types.Object
}

// at returns the file of a place, as the tree calls it.
func (s *source) at(pos token.Pos) string {
	return strings.TrimPrefix(filepath.ToSlash(s.files.Position(pos).Filename), s.root+"/")
}

// sources returns all packages of the program but those that only tests use. They are
// read once for all tests: it takes seconds.
func sources(t *testing.T) []source {
	t.Helper()
	all, err := readSources()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var readSources = sync.OnceValues(func() ([]source, error) {
	root, err := filepath.Abs("..")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,Module", "./...")
	cmd.Dir = root
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w\n%s", err, &stderr)
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
			return nil, err
		}
		exports[p.ImportPath] = p.Export
		if path := strings.TrimPrefix(p.ImportPath, module); path != p.ImportPath && !strings.HasPrefix(path, "internal/e2e") && path != "milter/miltertest" {
			ours = append(ours, p)
		}
	}
	var all []source
	for _, p := range ours {
		s := source{root: root, files: token.NewFileSet(), uses: map[*ast.Ident]types.Object{}, defs: map[*ast.Ident]types.Object{}}
		var parsed []*ast.File
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(s.files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			parsed = append(parsed, f)
		}
		config := types.Config{Importer: importer.ForCompiler(s.files, "gc", func(path string) (io.ReadCloser, error) {
			if exports[path] == "" {
				return nil, fmt.Errorf("no export data of %s", path)
			}
			return os.Open(exports[path])
		})}
		if _, err := config.Check(p.ImportPath, s.files, parsed, &types.Info{Uses: s.uses, Defs: s.defs}); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
})
