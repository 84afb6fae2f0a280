package kernels

import "fmt"

// IndexError says that an id lies outside a table.
type IndexError struct{ Index, ID, Rows int }

func (e *IndexError) Error() string {
	return fmt.Sprintf("id %d at index %d is outside [0, %d): check the tokenizer against vocab_size", e.ID, e.Index, e.Rows)
}

// Embed copies row ids[r] of table [vocab,d] to row r of out [rows,d]. The error is an *IndexError; out is untouched then.
func Embed[F Float](rows, d, vocab int, table []F, ids []int32, out []F) error {
	ids = ids[:rows]
	for i, id := range ids {
		if id < 0 || int(id) >= vocab {
			return &IndexError{i, int(id), vocab}
		}
	}
	j := newJob(opEmbed, elem[F]())
	j.d, j.x, j.y, j.ids = d, table[:vocab*d], out[:rows*d], ids
	j.do(rows, rowChunk(d))
	j.free()
	return nil
}

// embedCols columns are one task of EmbedGrad.
const embedCols = 64

// EmbedGrad clears dtable [vocab,d] and adds row r of dout [rows,d] to row ids[r] of it, r rising, so that the sum has one order.
// The ids must have passed Embed. The work is cut by columns.
func EmbedGrad[F Float](rows, d, vocab int, ids []int32, dout, dtable []F) {
	j := newJob(opEmbedGrad, elem[F]())
	j.d, j.x, j.y, j.ids = d, dout[:rows*d], dtable[:vocab*d], ids[:rows]
	j.do(d, embedCols)
	j.free()
}

func embedGradCols[F Float](k *elemTable[F], d, lo, hi int, ids []int32, dout, dtable []F) {
	for o := 0; o < len(dtable); o += d {
		clear(dtable[o+lo : o+hi])
	}
	for r, id := range ids {
		t := dtable[int(id)*d+lo : int(id)*d+hi]
		k.add(t, dout[r*d+lo:r*d+hi], t)
	}
}
