// Package data turns text into batches of token ids.
//
//	source (text, folder, lines, set) -> documents -> parts train/val/test -> tokens -> view (what is asked) -> Batch
//
// A sequence holds consecutive tokens of one document, never of two: attention cannot see across a document's end. A document shorter
// than a sequence is padded (targets -1, its length in Batch.Lens).
//
// What is asked of a text is its objective: the next token, hidden tokens, the class of a document, the target of a pair. Synthetic tasks
// come as examples of their own length, with targets at the answers alone, see Tasks.
//
// Nothing here has hidden state. The order of the sequences of an epoch and where each document is cut are pure functions of (seed, epoch),
// and the whole position of a training run is one number, the count of sequences it has read.
//
// Legend: B batch, T sequence length, L tokens of a document, N sequences of an epoch.
package data
