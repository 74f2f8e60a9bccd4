package rooms_test

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

// TestNoProductionTypeHasATestSwitch looks for struct fields that production code reads but never sets: fields that
// only tests set, or that are left over. Tests belong behind an interface that production needs anyway, or in an
// export_test.go.
func TestNoProductionTypeHasATestSwitch(t *testing.T) {
	program := loadProduction(t)
	for _, problem := range program.unsetFields() {
		t.Error(strings.TrimPrefix(problem, root(t)+"/"))
	}
}

// source is a program's packages with their syntax and types, in the order of their dependencies.
type source struct {
	fset     *token.FileSet
	info     *types.Info
	packages map[string]*types.Package
	files    []*ast.File
	external types.Importer // of all other packages
}

func newSource(exports func(path string) (io.ReadCloser, error)) *source {
	s := &source{fset: token.NewFileSet(), packages: map[string]*types.Package{}, info: &types.Info{
		Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{},
		Selections: map[*ast.SelectorExpr]*types.Selection{},
	}}
	s.external = importer.ForCompiler(s.fset, "gc", exports)
	return s
}

// Import returns packages of the program as they were checked, so that a field is the same object in all of them.
func (s *source) Import(path string) (*types.Package, error) {
	if p := s.packages[path]; p != nil {
		return p, nil
	}
	return s.external.Import(path)
}

// add checks a package whose imports are already there.
func (s *source) add(path string, files []*ast.File) error {
	config := &types.Config{Importer: s}
	p, err := config.Check(path, s.fset, files, s.info)
	s.packages[path], s.files = p, append(s.files, files...)
	return err
}

// loadProduction loads everything of the module that is built into the binary.
func loadProduction(t *testing.T) *source {
	t.Helper()
	type listed struct {
		ImportPath, Dir, Export string
		GoFiles                 []string
	}
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles", ".")
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as the binary is built
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	exports := map[string]string{}
	s := newSource(func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		exports[p.ImportPath] = p.Export
		if !within(p.ImportPath, module) {
			continue
		}
		var files []*ast.File
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(s.fset, filepath.Join(p.Dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
		if err := s.add(p.ImportPath, files); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.packages) < 8 {
		t.Fatalf("found only %d packages of the module", len(s.packages))
	}
	return s
}

// unsetFields describes the fields of package-level structs that the program reads and never sets. A field is set by
// an assignment, in a composite literal, by a conversion of its struct, or through its address, which calling a
// pointer method takes. Fields with tags are set by decoders, and those of generated files are not looked at.
func (s *source) unsetFields() []string {
	read, set := map[*types.Var]bool{}, map[*types.Var]bool{}
	for _, file := range s.files {
		s.use(file, read, set)
	}
	var out []string
	for _, file := range s.files {
		if ast.IsGenerated(file) {
			continue
		}
		for _, decl := range file.Decls {
			if types, ok := decl.(*ast.GenDecl); ok && types.Tok == token.TYPE {
				for _, spec := range types.Specs {
					out = append(out, s.unsetFieldsOf(spec, read, set)...)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

func (s *source) unsetFieldsOf(spec ast.Spec, read, set map[*types.Var]bool) (out []string) {
	named, ok := spec.(*ast.TypeSpec)
	if !ok {
		return nil
	}
	st, ok := named.Type.(*ast.StructType)
	if !ok {
		return nil
	}
	for _, f := range st.Fields.List {
		for _, name := range f.Names {
			if v, ok := s.info.Defs[name].(*types.Var); ok && f.Tag == nil && read[v] && !set[v] {
				out = append(out, fmt.Sprintf("%s: %s.%s is read and never set: only a test can set it",
					s.fset.Position(name.Pos()), named.Name.Name, name.Name))
			}
		}
	}
	return out
}

// use records which fields a file reads and sets.
func (s *source) use(file *ast.File, read, set map[*types.Var]bool) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for _, left := range n.Lhs {
				s.setPath(left, set)
			}
		case *ast.IncDecStmt:
			s.setPath(n.X, set)
		case *ast.RangeStmt:
			s.setPath(n.Key, set)
			s.setPath(n.Value, set)
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				s.setPath(n.X, set)
			}
		case *ast.SliceExpr: // of an array: takes its address
			if tv := s.info.Types[n.X]; tv.Type != nil {
				if _, ok := tv.Type.Underlying().(*types.Array); ok {
					s.setPath(n.X, set)
				}
			}
		case *ast.CompositeLit:
			s.setLiteral(n, set)
		case *ast.CallExpr:
			s.setConversion(n, set)
		case *ast.SelectorExpr:
			s.useSelector(n, read, set)
		}
		return true
	})
}

func (s *source) useSelector(n *ast.SelectorExpr, read, set map[*types.Var]bool) {
	sel := s.info.Selections[n]
	if sel == nil {
		return
	}
	switch sel.Kind() {
	case types.FieldVal:
		read[field(sel)] = true
	case types.MethodVal:
		if f, ok := sel.Obj().(*types.Func); ok {
			recv := f.Signature().Recv()
			_, byPointer := recv.Type().(*types.Pointer)
			_, isPointer := sel.Recv().(*types.Pointer)
			if byPointer && !isPointer {
				s.setPath(n.X, set)
			}
		}
	case types.MethodExpr:
	}
}

// setPath marks the fields on the way to an operand that is set: x.f.g sets f as well, unless f is a pointer.
func (s *source) setPath(e ast.Expr, set map[*types.Var]bool) {
	for {
		switch x := e.(type) {
		case *ast.ParenExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			sel := s.info.Selections[x]
			if sel == nil || sel.Kind() != types.FieldVal {
				return
			}
			set[field(sel)] = true
			if _, ok := sel.Recv().Underlying().(*types.Pointer); ok {
				return
			}
			e = x.X
		default:
			return
		}
	}
}

func (s *source) setLiteral(lit *ast.CompositeLit, set map[*types.Var]bool) {
	st := structOf(s.info.Types[lit].Type)
	if st == nil {
		return
	}
	for i, element := range lit.Elts {
		if kv, ok := element.(*ast.KeyValueExpr); ok {
			if name, ok := kv.Key.(*ast.Ident); ok {
				if v, ok := s.info.Uses[name].(*types.Var); ok {
					set[v.Origin()] = true
				}
			}
			continue
		}
		set[st.Field(i).Origin()] = true
	}
}

// setConversion marks all fields of a struct that a value of another type is converted to.
func (s *source) setConversion(call *ast.CallExpr, set map[*types.Var]bool) {
	tv := s.info.Types[call.Fun]
	if !tv.IsType() {
		return
	}
	if st := structOf(tv.Type); st != nil {
		for v := range st.Fields() {
			set[v.Origin()] = true
		}
	}
}

func structOf(t types.Type) *types.Struct {
	if t == nil {
		return nil
	}
	if p, ok := t.Underlying().(*types.Pointer); ok {
		t = p.Elem()
	}
	st, _ := t.Underlying().(*types.Struct)
	return st
}

func field(sel *types.Selection) *types.Var {
	v, _ := sel.Obj().(*types.Var)
	return v.Origin()
}

func TestTestSwitchesAreFound(t *testing.T) {
	const program = `package p

type inner struct{ n int }

type mutex struct{ locked bool }

func (m *mutex) Lock() { m.locked = !m.locked }

type Options struct {
	Delay   int
	hook    func() // switch
	guards  guards
	mu      mutex
	inner   inner
	table   [4]byte
	decoded int ` + "`json:\"x\"`" + `
	unread  int
}

type guards struct {
	skipCheck bool // switch
}

type generic[T any] struct {
	value T
	extra T // switch
}

func Run() int {
	o := Options{Delay: 1}
	o.mu.Lock()
	if o.hook != nil {
		o.hook()
	}
	if o.guards.skipCheck {
		return 0
	}
	o.inner.n++
	copy(o.table[:], "x")
	g := generic[int]{value: 1}
	return o.Delay + o.inner.n + len(o.table) + o.decoded + g.value + g.extra
}
`
	s := newSource(nil)
	file, err := parser.ParseFile(s.fset, "p.go", program, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.add("p", []*ast.File{file}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, problem := range s.unsetFields() {
		_, problem, _ = strings.Cut(problem, " ")
		name, _, _ := strings.Cut(problem, " ")
		got = append(got, name)
	}
	slices.Sort(got)
	if want := []string{"Options.guards", "Options.hook", "generic.extra", "guards.skipCheck"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
