package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// Bounds of what is read: a configuration is small, and a file that is not one shall not cost memory.
const (
	MaxBytes = 16 << 20
	maxDepth = 64
	maxNodes = 1 << 20
)

// node is a JSON value with its place in the text.
type node struct {
	kind   byte // '{', '[', '"', '0' a number, 't' true, 'f' false, 'n' null
	start  int  // the text is src[start:end]
	end    int
	str    string // of a string: its value
	keys   []key  // of an object, in order
	values []*node
}

type key struct {
	name  string
	start int
}

// word names a kind of value for people.
func (n *node) word() string {
	switch n.kind {
	case '{':
		return "object"
	case '[':
		return "list"
	case '"':
		return "string"
	case '0':
		return "number"
	case 'n':
		return "null"
	}
	return "true or false"
}

// get returns the value of a key, the first if there are several.
func (n *node) get(name string) *node {
	for i, k := range n.keys {
		if k.name == name {
			return n.values[i]
		}
	}
	return nil
}

// parser reads one JSON text by RFC 8259.
type parser struct {
	src   []byte
	at    int
	nodes int
}

// parse returns the tree of a text, or a *SyntaxError.
func parse(src []byte) (*node, error) {
	if len(src) > MaxBytes {
		return nil, &SyntaxError{Line: 1, Col: 1, What: fmt.Sprintf("larger than %d MiB, not a configuration", MaxBytes>>20)}
	}
	p := &parser{src: src}
	n, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.src) {
		return nil, p.fail("something follows after the end")
	}
	return n, nil
}

// position turns an offset into line and column, both from 1; columns count characters.
func position(src []byte, at int) (line, col int) {
	at = min(at, len(src))
	line = 1 + bytes.Count(src[:at], []byte{'\n'})
	return line, 1 + utf8.RuneCount(src[bytes.LastIndexByte(src[:at], '\n')+1:at])
}

func (p *parser) fail(what string) error {
	line, col := position(p.src, p.at)
	return &SyntaxError{Line: line, Col: col, What: what}
}

func (p *parser) space() {
	for p.at < len(p.src) && (p.src[p.at] == ' ' || p.src[p.at] == '\n' || p.src[p.at] == '\t' || p.src[p.at] == '\r') {
		p.at++
	}
}

// next is the byte at hand, 0 at the end.
func (p *parser) next() byte {
	if p.at < len(p.src) {
		return p.src[p.at]
	}
	return 0
}

func (p *parser) value(depth int) (*node, error) {
	p.space()
	if depth > maxDepth {
		return nil, p.fail(fmt.Sprintf("nested deeper than %d", maxDepth))
	}
	if p.nodes++; p.nodes > maxNodes {
		return nil, p.fail(fmt.Sprintf("more than %d values, not a configuration", maxNodes))
	}
	n := &node{start: p.at}
	var err error
	switch c := p.next(); {
	case c == '{':
		err = p.object(n, depth)
	case c == '[':
		err = p.list(n, depth)
	case c == '"':
		n.kind = '"'
		n.str, err = p.string()
	case c == '-' || '0' <= c && c <= '9':
		n.kind = '0'
		err = p.number()
	default:
		err = p.word(n)
	}
	n.end = p.at
	return n, err
}

func (p *parser) object(n *node, depth int) error {
	n.kind = '{'
	p.at++
	if p.space(); p.next() == '}' {
		p.at++
		return nil
	}
	for {
		p.space()
		if p.next() != '"' {
			return p.expected("a key in double quotes")
		}
		k := key{start: p.at}
		var err error
		if k.name, err = p.string(); err != nil {
			return err
		}
		if p.space(); p.next() != ':' {
			return p.expected("':' after the key " + strconv.Quote(k.name))
		}
		p.at++
		v, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		n.keys, n.values = append(n.keys, k), append(n.values, v)
		p.space()
		switch p.next() {
		case ',':
			p.at++
		case '}':
			p.at++
			return nil
		default:
			return p.expected("',' or '}'")
		}
	}
}

func (p *parser) list(n *node, depth int) error {
	n.kind = '['
	p.at++
	if p.space(); p.next() == ']' {
		p.at++
		return nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return err
		}
		n.values = append(n.values, v)
		p.space()
		switch p.next() {
		case ',':
			p.at++
		case ']':
			p.at++
			return nil
		default:
			return p.expected("',' or ']'")
		}
	}
}

// string reads a string and leaves its escapes to encoding/json.
func (p *parser) string() (string, error) {
	start := p.at
	for p.at++; p.at < len(p.src); p.at++ {
		switch c := p.src[p.at]; {
		case c == '\\':
			p.at++
		case c < ' ':
			return "", p.fail("a control character in a string")
		case c == '"':
			p.at++
			var s string
			if err := json.Unmarshal(p.src[start:p.at], &s); err != nil {
				p.at = start
				return "", p.fail("a string with a wrong escape")
			}
			return s, nil
		}
	}
	p.at = len(p.src)
	return "", p.fail("the text ends within a string")
}

func (p *parser) number() error {
	start := p.at
	for p.at < len(p.src) && bytes.IndexByte([]byte("+-.eE0123456789"), p.src[p.at]) >= 0 {
		p.at++
	}
	if !json.Valid(p.src[start:p.at]) {
		p.at = start
		return p.fail("not a number")
	}
	return nil
}

func (p *parser) word(n *node) error {
	for _, w := range []string{"true", "false", "null"} {
		if bytes.HasPrefix(p.src[p.at:], []byte(w)) {
			n.kind = w[0]
			p.at += len(w)
			return nil
		}
	}
	return p.expected("a value")
}

func (p *parser) expected(what string) error {
	if p.at >= len(p.src) {
		return p.fail("the text ends where " + what + " should be")
	}
	r, _ := utf8.DecodeRune(p.src[p.at:])
	return p.fail(fmt.Sprintf("%q where %s should be", r, what))
}
