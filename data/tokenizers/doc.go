// Package tokenizers reads the tokenizers of the Hugging Face world and does what they do: a tokenizer.json with its chain of normaliser,
// pre-tokeniser, model, template and decoder, a vocab.txt (WordPiece), vocab.json and merges.txt (byte-level BPE), or a SentencePiece
// model (unigram). Ids, offsets and decoded text are those of the originals.
//
// What a text goes through, in the order of the files:
//
//	added tokens cut it   added.go
//	normalised            normalize.go, charsmap.go
//	cut into words        split.go
//	words into tokens     wordpiece.go, unigram.go, bpe.go
//	special tokens around template.go
//	and back              decode.go
//
// A part of a chain that is not known is refused by its name when the file is read; nothing is passed over in silence.
//
// Classes of characters are those of the originals, tokenizers 0.23: some of its tables are older than Go's, some are newer (unicode.go).
package tokenizers
