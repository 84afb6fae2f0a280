package data

import (
	"bufio"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// extension returns the lower-case extension of a path without its compression, and the compression.
func extension(path string) (ext, compression string) {
	path = strings.ToLower(filepath.Base(path))
	ext = filepath.Ext(path)
	if ext == ".gz" || ext == ".bz2" {
		return filepath.Ext(strings.TrimSuffix(path, ext)), ext
	}
	return ext, ""
}

// open calls read with the unpacked bytes of a file. More than left are ErrTooLarge, never a silent end.
func open(path string, left *int64, read func(io.Reader) error) error {
	in, err := openInput(path, 0, left)
	if err != nil {
		return err
	}
	defer in.close()
	return read(in)
}

// input is an open file, unpacked.
type input struct {
	io.Reader
	file *os.File
}

// openInput opens a file to be read from some place on, in bytes of what is unpacked. More than left bytes after it are ErrTooLarge.
func openInput(path string, from int64, left *int64) (*input, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	_, compression := extension(path)
	if compression == "" && from > 0 {
		if _, err = file.Seek(from, io.SeekStart); err != nil {
			err = fileError(path, err)
		}
	}
	var r io.Reader
	if err == nil {
		r, err = unpacked(path, compression, file)
	}
	if err == nil && compression != "" {
		_, err = io.CopyN(io.Discard, r, from)
		if errors.Is(err, io.EOF) {
			err = changedError(path, "it ends before the place up to which it was read")
		}
	}
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	return &input{&capped{r, path, left}, file}, nil
}

func (in *input) close() { _ = in.file.Close() }

// unpack calls read with the bytes of r without their compression.
func unpack(path, compression string, r io.Reader, read func(io.Reader) error) error {
	u, err := unpacked(path, compression, r)
	if err != nil {
		return err
	}
	return read(u)
}

// unpacked is r without its compression.
func unpacked(path, compression string, r io.Reader) (io.Reader, error) {
	torn := func(err error) error {
		return &Error{Kind: ErrTorn, Path: path, What: fmt.Sprintf("damaged %s data (%v)", strings.TrimPrefix(compression, "."), err),
			Fix: "fetch or pack the file again", Err: err}
	}
	switch compression {
	case ".gz":
		z, err := gzip.NewReader(bufio.NewReader(r))
		if errors.Is(err, io.EOF) {
			return nil, emptyError(path)
		}
		if err != nil {
			return nil, torn(err)
		}
		return &unpacker{z, torn}, nil
	case ".bz2":
		return &unpacker{bzip2.NewReader(bufio.NewReader(r)), torn}, nil
	}
	return r, nil
}

// unpacker gives the errors of a decompressor their form.
type unpacker struct {
	r    io.Reader
	torn func(error) error
}

func (u *unpacker) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = u.torn(err)
	}
	return n, err
}

// capped fails when more than left bytes are read.
type capped struct {
	r    io.Reader
	path string
	left *int64
}

func (c *capped) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if *c.left -= int64(n); *c.left < 0 {
		return n, &Error{Kind: ErrTooLarge, Path: c.path, What: fmt.Sprintf("more than %d bytes of text, with what was read before", maxBytes),
			Fix: "train on a part of it"}
	}
	return n, err
}
