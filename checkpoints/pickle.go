package checkpoints

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"strings"
)

// Limits of the pickle reader: a state dict of ten thousand tensors needs a tenth of them.
const (
	maxPickle  = 8 << 20
	maxObjects = 400_000
)

// What a pickle may hold here, besides string, bool, int64, float64 and nil.
type (
	pickleDict  struct{ keys, values []any }
	pickleList  struct{ items []any }
	pickleTuple []any
	pickleName  string // module.name
	pickleMark  struct{}
	// pickleStorage is a piece of memory that lies outside of the pickle.
	pickleStorage struct {
		key   string
		dtype Dtype
		size  int // elements
		view  int // first element, of the old format
	}
	// pickleTensor is a view of a storage.
	pickleTensor struct {
		storage       *pickleStorage
		offset        int
		shape, stride []int
	}
)

// unpickler reads the pickle of a state dict. A pickle is a program: this one knows the instructions that build plain values and
// the five calls that build tensors, and refuses whatever else by its name. Nothing is ever run.
// Source: PEP 307, PEP 3154; the layout of tensors: torch.serialization, torch._utils.
type unpickler struct {
	r       *bytes.Reader
	stack   []any
	memo    map[uint32]any
	objects int
}

// unpickle reads one pickle and leaves r behind it.
func unpickle(r *bytes.Reader) (any, error) {
	u := &unpickler{r: r, memo: map[uint32]any{}}
	for {
		op, err := r.ReadByte()
		if err != nil {
			return nil, fmt.Errorf("ends in the middle")
		}
		if op == '.' {
			if len(u.stack) != 1 {
				return nil, fmt.Errorf("ends with %d values, not one", len(u.stack))
			}
			return u.stack[0], nil
		}
		if err := u.step(op); err != nil {
			return nil, err
		}
	}
}

func (u *unpickler) push(v any) error {
	if u.objects++; u.objects > maxObjects {
		return fmt.Errorf("builds more than %d values", maxObjects)
	}
	u.stack = append(u.stack, v)
	return nil
}

func (u *unpickler) pop() (any, error) {
	if len(u.stack) == 0 {
		return nil, fmt.Errorf("takes a value from an empty stack")
	}
	v := u.stack[len(u.stack)-1]
	u.stack = u.stack[:len(u.stack)-1]
	if _, is := v.(pickleMark); is {
		return nil, fmt.Errorf("takes a mark for a value")
	}
	return v, nil
}

// popMark takes everything above the last mark, and the mark.
func (u *unpickler) popMark() ([]any, error) {
	for i := len(u.stack) - 1; i >= 0; i-- {
		if _, is := u.stack[i].(pickleMark); is {
			items := append([]any(nil), u.stack[i+1:]...)
			u.stack = u.stack[:i]
			if u.objects += len(items); u.objects > maxObjects {
				return nil, fmt.Errorf("builds more than %d values", maxObjects)
			}
			return items, nil
		}
	}
	return nil, fmt.Errorf("has no mark where one is needed")
}

func (u *unpickler) bytes(n uint64) ([]byte, error) {
	if n > uint64(u.r.Len()) {
		return nil, fmt.Errorf("declares %d bytes where %d are left", n, u.r.Len())
	}
	b := make([]byte, n)
	_, err := u.r.Read(b)
	if n == 0 {
		err = nil
	}
	return b, err
}

// uint reads a whole number of so many bytes, little endian.
func (u *unpickler) uint(width uint64) (uint64, error) {
	b, err := u.bytes(width)
	if err != nil {
		return 0, err
	}
	var w [8]byte
	copy(w[:], b)
	return binary.LittleEndian.Uint64(w[:]), nil
}

func (u *unpickler) line() (string, error) {
	var b strings.Builder
	for {
		c, err := u.r.ReadByte()
		if err != nil || b.Len() > 1000 {
			return "", fmt.Errorf("has a line without an end")
		}
		if c == '\n' {
			return b.String(), nil
		}
		b.WriteByte(c)
	}
}

// text pushes a text whose length is a number of so many bytes.
func (u *unpickler) text(width uint64) error {
	n, err := u.uint(width)
	if err != nil {
		return err
	}
	b, err := u.bytes(n)
	if err != nil {
		return err
	}
	return u.push(string(b))
}

// step does one instruction.
func (u *unpickler) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		v, err := u.uint(1)
		if err == nil && v > 5 {
			err = fmt.Errorf("is of protocol %d, which is not known", v)
		}
		return err
	case 0x95: // FRAME
		_, err := u.uint(8)
		return err
	case '(':
		return u.push(pickleMark{})
	case 'N':
		return u.push(nil)
	case 0x88:
		return u.push(true)
	case 0x89:
		return u.push(false)
	case 'K', 'M', 'J': // BININT1, BININT2, BININT
		v, err := u.uint(map[byte]uint64{'K': 1, 'M': 2, 'J': 4}[op])
		if err != nil {
			return err
		}
		if op == 'J' {
			return u.push(int64(int32(v)))
		}
		return u.push(int64(v))
	case 0x8a: // LONG1
		return u.long()
	case 'G': // BINFLOAT, big endian
		b, err := u.bytes(8)
		if err != nil {
			return err
		}
		return u.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
	case 0x8c:
		return u.text(1)
	case 'X':
		return u.text(4)
	case 0x8d:
		return u.text(8)
	case '}':
		return u.push(&pickleDict{})
	case ']':
		return u.push(&pickleList{})
	case ')':
		return u.push(pickleTuple{})
	case 't':
		items, err := u.popMark()
		if err != nil {
			return err
		}
		return u.push(pickleTuple(items))
	case 0x85, 0x86, 0x87: // TUPLE1, TUPLE2, TUPLE3
		t := make(pickleTuple, op-0x84)
		for i := len(t) - 1; i >= 0; i-- {
			var err error
			if t[i], err = u.pop(); err != nil {
				return err
			}
		}
		return u.push(t)
	case 'q', 'r', 0x94, 'h', 'j':
		return u.remember(op)
	case 's', 'u', 'a', 'e':
		return u.fill(op)
	case 'c', 0x93, 'Q', 'R', 'b':
		return u.call(op)
	}
	return fmt.Errorf("has instruction %#02x, which plain tensors do not need: it was not run", op)
}

// long pushes a number of up to 8 bytes.
func (u *unpickler) long() error {
	n, err := u.uint(1)
	if err != nil {
		return err
	}
	b, err := u.bytes(n)
	if err != nil {
		return err
	}
	if n > 8 { // such as the magic number of the old format, which is only compared
		for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
		return u.push(new(big.Int).SetBytes(b).String())
	}
	var w [8]byte
	copy(w[:], b)
	v := int64(binary.LittleEndian.Uint64(w[:]))
	if n > 0 && n < 8 && b[n-1] >= 0x80 {
		v -= 1 << (8 * n)
	}
	return u.push(v)
}

// remember stores the top in the memo, or pushes what is there.
func (u *unpickler) remember(op byte) error {
	at, width := uint64(len(u.memo)), uint64(1)
	if op == 'r' || op == 'j' {
		width = 4
	}
	if op != 0x94 { // MEMOIZE
		var err error
		if at, err = u.uint(width); err != nil {
			return err
		}
	}
	if op == 'h' || op == 'j' {
		v, ok := u.memo[uint32(at)]
		if !ok {
			return fmt.Errorf("reads entry %d of its memo, which is not there", at)
		}
		return u.push(v)
	}
	if len(u.stack) == 0 {
		return fmt.Errorf("takes a value from an empty stack")
	}
	if u.objects++; u.objects > maxObjects {
		return fmt.Errorf("builds more than %d values", maxObjects)
	}
	u.memo[uint32(at)] = u.stack[len(u.stack)-1]
	return nil
}

// fill adds to a dict (SETITEM, SETITEMS) or to a list (APPEND, APPENDS).
func (u *unpickler) fill(op byte) error {
	var items []any
	var err error
	if op == 'u' || op == 'e' {
		items, err = u.popMark()
	} else {
		for range map[byte]int{'s': 2, 'a': 1}[op] {
			var v any
			if v, err = u.pop(); err != nil {
				break
			}
			items = append([]any{v}, items...)
		}
	}
	if err != nil {
		return err
	}
	if len(u.stack) == 0 {
		return fmt.Errorf("takes a value from an empty stack")
	}
	switch to := u.stack[len(u.stack)-1].(type) {
	case *pickleDict:
		if op == 'a' || op == 'e' || len(items)%2 != 0 {
			break
		}
		for i := 0; i < len(items); i += 2 {
			to.keys, to.values = append(to.keys, items[i]), append(to.values, items[i+1])
		}
		return nil
	case *pickleList:
		if op == 'a' || op == 'e' {
			to.items = append(to.items, items...)
			return nil
		}
	}
	return fmt.Errorf("adds items to something that takes none")
}
