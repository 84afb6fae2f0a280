package testkit

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestExported: every exported name of the packages says what it is, in a comment that begins with it. Methods may leave it to the
// interface that they implement.
func TestExported(t *testing.T) {
	root := filepath.Join("..", "..")
	var files []*ast.File
	var places []string
	set := token.NewFileSet()
	for folder := range below {
		paths, err := filepath.Glob(filepath.Join(root, filepath.FromSlash(folder), "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, paths, folder)
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(set, path, nil, parser.ParseComments)
			require.NoError(t, err)
			files, places = append(files, f), append(places, path)
		}
	}
	promised := []string{"Error", "Unwrap", "String", "Read", "Write", "Close", "MarshalJSON", "UnmarshalJSON"}
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if i, ok := n.(*ast.InterfaceType); ok {
				for _, m := range i.Methods.List {
					for _, name := range m.Names {
						promised = append(promised, name.Name)
					}
				}
			}
			return true
		})
	}
	for k, f := range files {
		for _, d := range f.Decls {
			for name, doc := range exported(d, promised) {
				if !strings.HasPrefix(doc, name) && !strings.HasPrefix(doc, "A "+name) && !strings.HasPrefix(doc, "An "+name) {
					t.Errorf("%s: %s has no comment that begins with its name", places[k], name)
				}
			}
		}
	}
}

// exported returns the comments of the names that a declaration exports.
func exported(d ast.Decl, promised []string) map[string]string {
	docs := map[string]string{}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || ofExported(d.Recv) && !slices.Contains(promised, d.Name.Name)) {
			docs[d.Name.Name] = d.Doc.Text()
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			if s, ok := s.(*ast.TypeSpec); ok && s.Name.IsExported() {
				if docs[s.Name.Name] = s.Doc.Text(); s.Doc == nil && !d.Lparen.IsValid() {
					docs[s.Name.Name] = d.Doc.Text()
				} else if s.Doc == nil {
					docs[s.Name.Name] = s.Name.Name // the comment of the group is for all
				}
			}
		}
	}
	return docs
}

// ofExported tells whether a receiver is of an exported type.
func ofExported(r *ast.FieldList) bool {
	found := false
	ast.Inspect(r.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && !found {
			found = true
			if !id.IsExported() {
				r = nil
			}
		}
		return true
	})
	return r != nil
}
