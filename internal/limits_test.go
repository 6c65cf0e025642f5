package internal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	limitsPage = "../docs/SECURITY.md"
	limitsHead = "| name | unit and default | what happens beyond | file | test |"
	optionFile = "internal/config/options.go" // has the options, by their long names
)

// noLimits are constants that are called max or Max and are no row of the table, with
// the reason: "file name".
var noLimits = map[string]string{
	"ampdp/parse.go maxFields":               "the protocol's grammar: no attribute has more fields",
	"internal/config/nearest.go maxDistance": "how near a mistyped option has to be to be suggested",
}

// TestLimitsAreListed holds docs/SECURITY.md's table of limits against the code: each
// name is declared in the file beside it, each test exists, and every constant that is
// called a maximum is a row.
func TestLimitsAreListed(t *testing.T) {
	tree := readTree(t)
	listed := map[string]bool{}
	rows := limitRows(t)
	for _, row := range rows {
		if len(row.names) == 0 || len(row.files) == 0 || len(row.tests) == 0 || row.value == "" || row.beyond == "" {
			t.Errorf("a row lacks something: %+v", row)
		}
		used := map[string]bool{}
		for _, name := range row.names {
			found := false
			for _, file := range row.files {
				if !tree.declares(file, name) {
					continue
				}
				if listed[file+" "+name] {
					t.Errorf("%s of %s is listed twice", name, file)
				}
				found, used[file], listed[file+" "+name] = true, true, true
			}
			if !found {
				t.Errorf("%s is not declared in %q", name, row.files)
			}
		}
		for _, file := range row.files {
			if !used[file] {
				t.Errorf("%s declares none of %q", file, row.names)
			}
		}
		for _, test := range row.tests {
			if !tree.tests[test] {
				t.Errorf("%q: there is no test %s", row.names, test)
			}
		}
	}
	for constant := range tree.maxima {
		_, excepted := noLimits[constant]
		if excepted == listed[constant] {
			t.Errorf("%s: in the table %v, among the exceptions %v: it belongs to one of them", constant, listed[constant], excepted)
		}
	}
	for constant := range noLimits {
		if !tree.maxima[constant] {
			t.Errorf("the exception %s does not exist", constant)
		}
	}
	t.Logf("%d limits in %d rows", len(listed), len(rows))
}

// limitRow is a row of the table.
type limitRow struct {
	names, files, tests []string
	value, beyond       string
}

// limitRows reads the table of the page.
func limitRows(t *testing.T) (rows []limitRow) {
	t.Helper()
	page, err := os.ReadFile(limitsPage)
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), limitsHead+"\n")
	if !found {
		t.Fatalf("%s has no table %s", limitsPage, limitsHead)
	}
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			break
		}
		if strings.Trim(line, "|-: ") == "" {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) != strings.Count(limitsHead, "|")-1 {
			t.Fatalf("%d cells: %s", len(cells), line)
		}
		rows = append(rows, limitRow{
			names: backticked(cells[0]), value: strings.TrimSpace(cells[1]), beyond: strings.TrimSpace(cells[2]),
			files: backticked(cells[3]), tests: backticked(cells[4]),
		})
	}
	if len(rows) == 0 {
		t.Fatal("the table has no rows")
	}
	return rows
}

var inBackticks = regexp.MustCompile("`([^`]+)`")

func backticked(cell string) (words []string) {
	for _, m := range inBackticks.FindAllStringSubmatch(cell, -1) {
		words = append(words, m[1])
	}
	return words
}

// goTree is what the product and its tests declare.
type goTree struct {
	declared map[string][]string // by file: constants, and fields as Type.Field
	options  []string            // as typed, with their dashes
	maxima   map[string]bool     // constants called max or Max, as "file name"
	tests    map[string]bool     // names of test functions
}

func (g *goTree) declares(file, name string) bool {
	if strings.HasPrefix(name, "--") {
		return file == optionFile && slices.Contains(g.options, name)
	}
	return slices.Contains(g.declared[file], name)
}

// productFolders are where the product's own code is.
var productFolders = []string{"ampdp", "milter", "cmd", "internal"}

// readTree parses all of it. Helpers of tests, and the end-to-end tests, have limits of
// their own that are no promise.
func readTree(t *testing.T) *goTree {
	t.Helper()
	g := &goTree{declared: map[string][]string{}, maxima: map[string]bool{}, tests: map[string]bool{}}
	for _, folder := range productFolders {
		err := filepath.WalkDir(filepath.Join("..", folder), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			name := strings.TrimPrefix(filepath.ToSlash(path), "../")
			switch {
			case strings.HasSuffix(name, "_test.go"):
				g.readTests(file)
			case !isHelper(name):
				g.readProduct(name, file)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return g
}

func isHelper(file string) bool {
	return strings.HasPrefix(file, "internal/e2e/") || strings.Contains(file, "/ampdptest/") || strings.Contains(file, "/miltertest/")
}

func (g *goTree) readTests(file *ast.File) {
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
			g.tests[f.Name.Name] = true
		}
	}
}

// readProduct takes in constants, wherever they are declared, and fields of structs; in
// the file of options also what they are called.
func (g *goTree) readProduct(name string, file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			for _, spec := range n.Specs {
				if values, ok := spec.(*ast.ValueSpec); ok && n.Tok == token.CONST {
					g.readConstants(name, values)
				}
			}
		case *ast.TypeSpec:
			if s, ok := n.Type.(*ast.StructType); ok {
				for _, field := range s.Fields.List {
					for _, id := range field.Names {
						g.declared[name] = append(g.declared[name], n.Name.Name+"."+id.Name)
					}
				}
			}
		case *ast.KeyValueExpr:
			key, isName := n.Key.(*ast.Ident)
			value, isText := n.Value.(*ast.BasicLit)
			if name == optionFile && isName && isText && key.Name == "name" {
				g.options = append(g.options, "--"+strings.Trim(value.Value, `"`))
			}
		}
		return true
	})
}

func (g *goTree) readConstants(file string, values *ast.ValueSpec) {
	for _, id := range values.Names {
		g.declared[file] = append(g.declared[file], id.Name)
		if rest := strings.TrimPrefix(strings.TrimPrefix(id.Name, "max"), "Max"); rest != id.Name && rest != "" && rest[0] <= 'Z' {
			g.maxima[file+" "+id.Name] = true
		}
	}
}
