package data

import (
	"encoding/binary"
	"errors"
	"math"
)

func prefixed(b []byte) (part, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, errShort
	}
	n := binary.LittleEndian.Uint32(b)
	if b = b[4:]; uint64(n) > uint64(len(b)) {
		return nil, nil, errShort
	}
	return b[:n], b[n:], nil
}

// runs reads runs of equal numbers and packed ones, the encoding of levels, of places in a dictionary and of truth values.
type runs struct {
	b     []byte
	width int
	equal int // left of a run
	value uint32
	bits  []byte // of packed ones
	bit   int    // next of them
}

func (r *runs) next() (uint32, error) {
	for {
		if r.equal > 0 {
			r.equal--
			return r.value, nil
		}
		if len(r.bits) > 0 && r.bit+r.width <= 8*len(r.bits) {
			v := packed(r.bits, r.bit, r.width)
			r.bit += r.width
			return uint32(v), nil
		}
		if _, err := r.run(); err != nil {
			return 0, err
		}
	}
}

// run begins what comes next, and is how many numbers that has.
func (r *runs) run() (int, error) {
	head, n := binary.Uvarint(r.b)
	if n <= 0 || head>>1 > math.MaxInt32/8 {
		return 0, errShort
	}
	r.b = r.b[n:]
	count, size := int(head>>1), (r.width+7)/8
	if head&1 == 1 { // groups of 8 packed ones
		if size = count * r.width; size > len(r.b) {
			return 0, errShort
		}
		r.bits, r.bit, r.b = r.b[:size], 0, r.b[size:]
		if r.width == 0 {
			r.equal = 8 * count
		}
		return 8 * count, nil
	}
	if len(r.b) < size {
		return 0, errShort
	}
	var four [4]byte
	copy(four[:], r.b[:size])
	r.equal, r.value, r.b = count, binary.LittleEndian.Uint32(four[:]), r.b[size:]
	return count, nil
}

// checkRuns looks whether there are more numbers than the n that are wanted, but for what fills the last group up.
func checkRuns(b []byte, width, n int) error {
	const fill = 512
	r := &runs{b: b, width: width}
	for all := 0; len(r.b) > 0; {
		k, err := r.run()
		if err != nil {
			return err
		}
		if all += k; all > n+fill {
			return errParquetLarge
		}
	}
	return nil
}

// packed are width bits of b, from the lowest of a byte on.
func packed(b []byte, bit, width int) (v uint64) {
	for got := 0; got < width; {
		at := bit + got
		take := min(8-at%8, width-got)
		v |= uint64(b[at/8]>>(at%8)&(1<<take-1)) << got
		got += take
	}
	return v
}

// deltas reads numbers that are given by the differences to the ones before, in blocks of minis of equal width.
type deltas struct {
	b      []byte
	total  int // left
	minis  int // of a block
	each   int // numbers of a mini
	value  int64
	first  bool
	least  int64
	widths []byte // of the minis of the block that are left
	bits   []byte // of the mini
	bit    int    // next of them
	inMini int    // numbers left in it
	width  int
}

func newDeltas(b []byte) (*deltas, error) {
	t := &thrift{b: b}
	block, minis, total, first := t.uvarint(), t.uvarint(), t.uvarint(), t.int()
	if t.err != nil {
		return nil, t.err
	}
	if minis == 0 || minis > 1<<10 || block == 0 || block > 1<<16 || block%minis != 0 || total > math.MaxInt32 {
		return nil, errThrift
	}
	return &deltas{b: b[t.at:], total: int(total), minis: int(minis), each: int(block / minis), value: first, first: true}, nil
}

func (d *deltas) next() (int64, error) {
	d.total--
	if d.first {
		d.first = false
		return d.value, nil
	}
	if d.inMini == 0 {
		if err := d.mini(); err != nil {
			return 0, err
		}
	}
	d.inMini--
	d.value += d.least + int64(packed(d.bits, d.bit, d.width))
	d.bit += d.width
	return d.value, nil
}

func (d *deltas) mini() error {
	if len(d.widths) == 0 {
		t := &thrift{b: d.b}
		if d.least = t.int(); t.err != nil {
			return t.err
		}
		if d.b = d.b[t.at:]; len(d.b) < d.minis {
			return errShort
		}
		d.widths, d.b = d.b[:d.minis], d.b[d.minis:]
	}
	d.width, d.widths = int(d.widths[0]), d.widths[1:]
	size := (d.each*d.width + 7) / 8
	if d.width > 64 || size > len(d.b) {
		return errShort
	}
	d.bits, d.bit, d.inMini, d.b = d.b[:size], 0, d.each, d.b[size:]
	return nil
}

// zstdBound is the most that frames of Zstandard become: what their headers say, or else what their blocks can hold.
func zstdBound(b []byte) (n int64, err error) {
	torn := errors.New("damaged zstd frame")
	for len(b) > 0 {
		if len(b) < 8 {
			return 0, torn
		}
		magic := binary.LittleEndian.Uint32(b)
		if magic>>4 == 0x184D2A5 { // to be skipped
			size := uint64(binary.LittleEndian.Uint32(b[4:]))
			if b = b[8:]; size > uint64(len(b)) {
				return 0, torn
			}
			b = b[size:]
			continue
		}
		if magic != 0xFD2FB528 {
			return 0, torn
		}
		flags := b[4]
		single, sizes := flags>>5&1, [4]int{0, 2, 4, 8}
		size := sizes[flags>>6]
		if size == 0 {
			size = int(single)
		}
		head := 5 + int(1-single) + [4]int{0, 1, 2, 4}[flags&3]
		if len(b) < head+size {
			return 0, torn
		}
		var eight [8]byte
		copy(eight[:], b[head:head+size])
		said := binary.LittleEndian.Uint64(eight[:])
		if size == 2 {
			said += 256
		}
		b = b[head+size:]
		blocks := int64(0)
		for last := false; !last; {
			if len(b) < 3 {
				return 0, torn
			}
			block := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
			b = b[3:]
			last = block&1 == 1
			long := block >> 3
			stored, becomes := long, int64(128<<10)
			switch block >> 1 & 3 {
			case 0:
				becomes = int64(long)
			case 1:
				stored, becomes = 1, int64(long)
			}
			if stored > len(b) {
				return 0, torn
			}
			b, blocks = b[stored:], blocks+becomes
		}
		if flags>>2&1 == 1 { // a sum
			if len(b) < 4 {
				return 0, torn
			}
			b = b[4:]
		}
		if size > 0 {
			blocks = min(blocks, int64(min(said, math.MaxInt64))) // the library stops there, too
		}
		n += blocks
	}
	return n, nil
}
