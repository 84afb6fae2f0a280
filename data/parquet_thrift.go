package data

import (
	"encoding/binary"
	"errors"
	"math"
)

// thrift walks through the compact form of Thrift, in which a parquet file describes itself, before the library decodes it, which makes lists as long as they
// say they are and knows no depth. Here what a length says must be there. The first error stays, and all later values are 0.
type thrift struct {
	b   []byte
	at  int
	err error
}

// What can be wrong with a description. errShort is also what a reader sees that has only the beginning of one.
var (
	errShort  = errors.New("it ends too early")
	errThrift = errors.New("its description cannot be read")
)

// Types of the compact form. A truth value is a type of its own in a field, and a byte in a list.
const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12
)

// thriftDepth bounds how deep values that nobody wants may be nested.
const thriftDepth = 32

func (t *thrift) fail(err error) {
	if t.err == nil {
		t.err = err
	}
}

func (t *thrift) byte() byte {
	if t.err != nil || t.at >= len(t.b) {
		t.fail(errShort)
		return 0
	}
	t.at++
	return t.b[t.at-1]
}

func (t *thrift) uvarint() uint64 {
	if t.err != nil {
		return 0
	}
	v, n := binary.Uvarint(t.b[t.at:])
	switch {
	case n == 0:
		t.fail(errShort)
		return 0
	case n < 0:
		t.fail(errThrift)
		return 0
	}
	t.at += n
	return v
}

// int is a signed number of any size.
func (t *thrift) int() int64 {
	v := t.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

// length is a number of bytes or elements, of which each has a byte at least.
func (t *thrift) length() int {
	n := t.uvarint()
	if t.err == nil && n > uint64(len(t.b)-t.at) {
		t.fail(errShort)
	}
	if t.err != nil {
		return 0
	}
	return int(n)
}

func (t *thrift) binary() []byte {
	n := t.length()
	t.at += n
	return t.b[t.at-n : t.at]
}

// fields calls read with each field of a structure; where that returns false, the value is passed over.
func (t *thrift) fields(read func(id int64, kind byte) bool) { t.structure(thriftDepth, read) }

func (t *thrift) structure(depth int, read func(id int64, kind byte) bool) {
	id := int64(0)
	for t.err == nil {
		head := t.byte()
		if head == 0 {
			return
		}
		if delta := head >> 4; delta != 0 {
			id += int64(delta)
		} else {
			id = t.int()
		}
		if id < 0 || id > math.MaxInt16 {
			t.fail(errThrift)
		}
		if t.err == nil && !read(id, head&15) {
			t.skip(head&15, depth, false)
		}
	}
}

// list calls read for each element of a list.
func (t *thrift) list(read func(kind byte)) {
	kind, n := t.listHead()
	for range n {
		if t.err != nil {
			return
		}
		read(kind)
	}
}

func (t *thrift) listHead() (kind byte, n int) {
	head := t.byte()
	if n = int(head >> 4); n == 15 {
		n = t.length()
	} else if n > len(t.b)-t.at {
		t.fail(errShort)
	}
	return head & 15, n
}

// skip passes over a value. Truth values in lists, which no description has and of which the library does not know how long they are, are refused.
func (t *thrift) skip(kind byte, depth int, inList bool) {
	if depth--; depth < 0 {
		t.fail(errThrift)
		return
	}
	switch kind {
	case thriftTrue, thriftFalse:
		if inList {
			t.fail(errThrift)
		}
	case thriftByte:
		t.byte()
	case thriftI16, thriftI32, thriftI64:
		t.uvarint()
	case thriftDouble:
		if len(t.b)-t.at < 8 {
			t.fail(errShort)
			return
		}
		t.at += 8
	case thriftBinary:
		t.binary()
	case thriftList, thriftSet:
		kind, n := t.listHead()
		for i := 0; i < n && t.err == nil; i++ {
			t.skip(kind, depth, true)
		}
	case thriftMap:
		n := t.length()
		if n == 0 {
			return
		}
		kinds := t.byte()
		for i := 0; i < n && t.err == nil; i++ {
			t.skip(kinds>>4, depth, true)
			t.skip(kinds&15, depth, true)
		}
	case thriftStruct:
		t.structure(depth, func(int64, byte) bool { return false })
	default:
		t.fail(errThrift)
	}
}
