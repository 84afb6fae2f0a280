package data_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/euryale-ml/euryale/data"
)

// Text becomes ids and ids become text. Any text has ids, and special tokens are never those of a text.
func ExampleNewTokenizer() {
	tok, err := data.NewTokenizer("bytes+special") // or the path of a tokenizer.json, or of a folder of Hugging Face
	if err != nil {
		log.Fatal(err)
	}
	ids := tok.Encode("[CLS] é")
	fmt.Println(ids)
	fmt.Println(tok.Decode(ids))
	cls, _ := data.Special(tok, "[CLS]")
	fmt.Println(cls, tok.VocabSize())
	// Output:
	// [91 67 76 83 93 32 195 169]
	// [CLS] é
	// 258 262
}

// The vocabulary of a BERT, as it lies in a folder of Hugging Face.
func ExampleLoadTokenizer() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	vocab := "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nsea\nwhale\n##s\n"
	if err := os.WriteFile(filepath.Join(dir, "vocab.txt"), []byte(vocab), 0o600); err != nil {
		log.Fatal(err)
	}
	tok, found, err := data.LoadTokenizer(dir)
	if err != nil || !found {
		log.Fatal(found, err)
	}
	ids := tok.Encode("The Whales")
	fmt.Println(ids, tok.Decode(ids))
	// Output:
	// [5 7 8]  the whales
}

// A table of documents with their classes, cut into three parts; a batch of the validation part.
func ExampleLoad() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	table := "body,kind\n"
	for i := range 40 {
		table += fmt.Sprintf("\"letter %d, sent\",%s\n", i, []string{"ham", "spam"}[i%2])
	}
	path := filepath.Join(dir, "letters.csv")
	if err := os.WriteFile(path, []byte(table), 0o600); err != nil {
		log.Fatal(err)
	}
	corpus, err := data.Load(data.Config{Path: path, Objective: "sequence_classification", TextField: "body", LabelField: "kind"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(corpus.Classes, corpus.Train.Documents(), corpus.Val.Documents(), corpus.Test.Documents())
	b := corpus.Val.Shape(20).NewBatch(2, 20)
	corpus.Val.PlainWindows(20).Fill(0, b)
	fmt.Println(b.Lens, b.Labels, corpus.Tokenizer.Decode(b.IDs[:20]))
	// Output:
	// [ham spam] 36 2 2
	// [15 16] [1 1] letter 9, sent
}

// A question to a text that is longer than a window: each window says where its text stands, and whether the answer is in it.
func ExampleWindows_Question() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "questions.jsonl")
	line := `{"question": "who?", "context": "It was told by Ishmael, who went to sea.", "answer": "Ishmael", "answer_start": 15}`
	if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
		log.Fatal(err)
	}
	part, err := data.LoadWhole(data.Config{Path: path, Objective: "question_answering", DocStride: 12})
	if err != nil {
		log.Fatal(err)
	}
	const length = 31
	w := part.PlainWindows(length)
	b := part.Shape(length).NewBatch(w.Len(), length)
	w.Fill(0, b)
	for i := range w.Len() {
		q, _ := w.Question(i)
		fmt.Printf("%q %v", q.Text(0, q.Tokens-1), b.Labels[2*i:2*i+2])
		if first := int(b.Labels[2*i]); first >= 0 {
			fmt.Printf(" %q", q.Text(first-q.First, int(b.Labels[2*i+1])-q.First))
		}
		fmt.Println()
	}
	// Output:
	// "It was told by Ishmael, " [21 27] "Ishmael"
	// "by Ishmael, who went to " [9 15] "Ishmael"
	// "who went to sea." [-1 -1]
}

// A folder that need not fit into memory, read while it is trained on. What was saved at a place goes on from there to the bit.
func ExampleSampler_State() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for shard := range 3 {
		lines := ""
		for i := range 50 {
			lines += fmt.Sprintf("{\"text\": \"letter %d of shard %d\"}\n", i, shard)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.jsonl", shard)), []byte(lines), 0o600); err != nil {
			log.Fatal(err)
		}
	}
	// Each call reads the files anew, as another process would.
	sampler := func() *data.Sampler {
		corpus, err := data.Load(data.Config{Path: dir, Streaming: true, ShuffleBuffer: 20, HeldOut: 10})
		if err != nil {
			log.Fatal(err)
		}
		s, err := corpus.Train.Sampler(18, 1)
		if err != nil {
			log.Fatal(err)
		}
		return s
	}
	first := sampler()
	defer first.Close()
	b := data.NewBatch(2, 18)
	for position := int64(0); position < 200; position += 2 {
		if err := first.Fill(position, b); err != nil {
			log.Fatal(err)
		}
	}
	state := first.State()
	again := sampler()
	defer again.Close()
	if err := again.Restore(state); err != nil {
		log.Fatal(err)
	}
	if err := again.Fill(200, b); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d examples, epoch %d; then %q\n", state.Drawn, state.Epoch, data.Bytes{}.Decode(b.IDs[:18]))
	// Output:
	// 200 examples, epoch 1; then "etter 32 of shard "
}
