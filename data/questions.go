package data

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// answer is a piece of a text that answers a question to it.
type answer struct{ start, end int } // bytes

// answersField is where a source may have several answers, as SQuAD has them: {"text": […], "answer_start": […]}.
const answersField = "answers"

// ask gives a document its answers. starts are the characters (not bytes) at which they begin in the text, as SQuAD counts; where they are lacking
// an answer is the first place with its words. Empty answers are none. It returns what is wrong, or "".
func (d *document) ask(texts, starts []string) (what string) {
	d.target = nil // the answers take its place
	if strings.TrimSpace(d.question) == "" {
		return "the question is empty"
	}
	if len(starts) > 0 && len(starts) != len(texts) {
		return fmt.Sprintf("%d answers and %d places of answers", len(texts), len(starts))
	}
	for i, text := range texts {
		if text == "" {
			continue
		}
		at := -1
		if len(starts) == 0 || starts[i] == "" {
			at = strings.Index(string(d.text), text)
		} else if n, err := strconv.Atoi(starts[i]); err == nil {
			if at = byteOf(d.text, n); at >= 0 && !strings.HasPrefix(string(d.text[at:]), text) {
				at = -1
			}
		}
		if at < 0 {
			return fmt.Sprintf("the answer %q is not in the text where it should be", shortened(text))
		}
		d.answers = append(d.answers, answer{at, at + len(text)})
	}
	return ""
}

// shortened is a text for an error.
func shortened(s string) string {
	if r := []rune(s); len(r) > 40 {
		return string(r[:40]) + "…"
	}
	return s
}

// byteOf is the byte at which character n of a text begins; -1 if there is none.
func byteOf(text []byte, n int) int {
	if n < 0 {
		return -1
	}
	at := 0
	for ; n > 0 && at < len(text); n-- {
		_, size := utf8.DecodeRune(text[at:])
		at += size
	}
	if n > 0 {
		return -1
	}
	return at
}

// one is what a source with one answer in a row has of it.
func one(v values) (texts, starts []string) {
	if v[1] == "" {
		return nil, nil
	}
	if v[5] == "" {
		return []string{v[1]}, nil
	}
	return []string{v[1]}, []string{v[5]}
}

// jsonAnswers reads the answers of SQuAD; false if there are none in its form.
func jsonAnswers(raw json.RawMessage) (texts, starts []string, ok bool) {
	var all struct {
		Text  []string      `json:"text"`
		Start []json.Number `json:"answer_start"`
	}
	if raw == nil || json.Unmarshal(raw, &all) != nil {
		return nil, nil, false
	}
	for _, n := range all.Start {
		starts = append(starts, n.String())
	}
	return all.Text, starts, true
}
