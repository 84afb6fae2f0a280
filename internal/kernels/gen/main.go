// Command gen writes the assembly kernels of one part for one vector width; regen.sh runs it for all of them.
//
//	go run main.go width.go gemm.go -part gemm -set avx2 -pkg kernels -out ../gemm_avx2_amd64.s -stubs ../gemm_avx2_amd64.go
//
// A part is a file (or several, part_*.go) that adds itself to parts. One body serves both widths; what differs is asked of w.
package main

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"

	"github.com/mmcloughlin/avo/build"
)

var parts = map[string]func(){}

func main() {
	log.SetFlags(0)
	set := flag.String("set", "avx2", "avx2 or avx512")
	part := flag.String("part", "gemm", "kernels to write")
	flag.Parse()
	switch *set {
	case "avx2":
		w = ymm
	case "avx512":
		w = zmm
	default:
		log.Fatalf("-set %s: not avx2 or avx512", *set)
	}
	emit, ok := parts[*part]
	if !ok {
		log.Fatalf("-part %s: no file of it was given to go run", *part)
	}
	sum, err := sources(*part)
	if err != nil {
		log.Fatal(err)
	}
	build.ConstraintExpr("amd64,!noasm")
	emit()
	build.Generate()
	for _, f := range []string{"out", "stubs"} {
		if err := stamp(flag.Lookup(f).Value.String(), sum); err != nil {
			log.Fatal(err)
		}
	}
}

// sources is the hash of everything that the kernels of a part are made from. The test of package kernels computes it again.
func sources(part string) (string, error) {
	files, err := filepath.Glob(part + "*.go")
	if err != nil {
		return "", err
	}
	files = append(files, "go.mod", "main.go", "width.go")
	slices.Sort(files)
	h := sha256.New()
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n", f, len(b))
		h.Write(b)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// stamp writes the hash below the first line of a generated file.
func stamp(file, sum string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	first, rest, _ := bytes.Cut(b, []byte("\n"))
	b = slices.Concat(first, []byte("\n// Generator sources: sha256 "+sum+"\n"), rest)
	return os.WriteFile(file, b, 0o644)
}
