package data

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// readJSONL reads one document from each line: an object with the text in the field textField and, if it likes, "split" with the
// part that the document belongs to (train, val or test). Blank lines and empty texts are passed over.
func readJSONL(path, textField string) (*source, error) {
	if textField == "" {
		textField = "text"
	}
	src := &source{name: path}
	left := maxBytes
	err := open(path, &left, func(r io.Reader) error {
		lines := bufio.NewReaderSize(r, 1<<16)
		for number := 1; ; number++ {
			line, err := lines.ReadBytes('\n')
			if err != nil && !errors.Is(err, io.EOF) {
				return fileError(path, err)
			}
			if len(bytes.TrimSpace(line)) > 0 {
				doc, fault := parseLine(path, number, line, textField)
				if fault != nil {
					return fault
				}
				if len(doc.text) > 0 {
					src.docs = append(src.docs, doc)
				}
			}
			if err != nil {
				return nil
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if len(src.docs) == 0 {
		return nil, &Error{Kind: ErrEmpty, Path: path, What: "no document in it", Fix: fmt.Sprintf("give lines such as {%q: \"…\"}", textField)}
	}
	return src, nil
}

// parseLine reads the object of one line.
func parseLine(path string, number int, line []byte, textField string) (document, error) {
	fault := func(kind error, what, fix string) (document, error) {
		return document{}, &Error{Kind: kind, Path: path, Line: number, What: what, Fix: fix}
	}
	if bytes.IndexByte(line, 0) >= 0 {
		return fault(ErrBinary, "binary file (a byte is 0)", "give one JSON object on each line")
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(line, &object); err != nil || object == nil {
		what := "not a JSON object"
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			what = fmt.Sprintf("damaged JSON at column %d (%v)", syntax.Offset, err)
		}
		return fault(ErrTorn, what, fmt.Sprintf("write one object such as {%q: \"…\"} on each line", textField))
	}
	raw, ok := object[textField]
	if !ok {
		return fault(ErrFormat, fmt.Sprintf("no field %q (there are: %s)", textField, strings.Join(slices.Sorted(maps.Keys(object)), ", ")),
			"name the field of the text with data.text_field")
	}
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return fault(ErrFormat, fmt.Sprintf("field %q is not a string", textField), "name the field of the text with data.text_field")
	}
	doc := document{name: fmt.Sprintf("%s:%d", path, number), text: []byte(text)}
	if raw, ok := object["split"]; ok {
		var part string
		if json.Unmarshal(raw, &part) == nil && slices.Contains(PartNames, part) {
			doc.part = part
		}
	}
	return doc, nil
}
