package data

import (
	"bufio"
	"bytes"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/draw"
	_ "image/jpeg" // registered
	_ "image/png"  // registered
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

//go:embed corpus/digits.csv.gz
var embeddedDigits []byte

// Bounds of what an image may be before it is read: what a file declares is looked at before any memory is taken for it.
const (
	maxSide   = 1 << 16
	maxPixels = 1 << 25
)

// photoExtensions are the names under which an image is one file.
var photoExtensions = []string{".png", ".jpg", ".jpeg"}

// isIDX reports whether a file has the name of images in the format of MNIST, such as train-images-idx3-ubyte.gz.
func isIDX(path string) bool {
	name := strings.ToLower(filepath.Base(path))
	return strings.Contains(name, "idx3") || strings.Contains(name, "idx4")
}

// readImages hands on the images of a path or of a set by name, in their order. values is what those of a file with whole numbers are less than.
//
// Errors: ErrMissing, ErrEmpty, ErrFormat, ErrTorn, ErrTooLarge, each with the file.
func readImages(name string, values int, yield func(picture) error) error {
	path := name
	if set, ok := imageSetOf(name); ok {
		if set.File == "" {
			left := maxBytes
			return unpack(name, ".gz", bytes.NewReader(embeddedDigits), func(r io.Reader) error {
				return readCSV(name, &capped{r, name, &left}, values, yield)
			})
		}
		var err error
		if path, err = inRoot(set.Name, set.File); err != nil {
			return err
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return fileError(path, err)
	}
	ext, _ := extension(path)
	left := maxBytes
	switch {
	case info.IsDir():
		return readPhotos(path, &left, yield)
	case isIDX(path):
		return readIDX(path, &left, yield)
	case ext == ".csv":
		return open(path, &left, func(r io.Reader) error { return readCSV(path, r, values, yield) })
	case slices.Contains(photoExtensions, ext):
		return readPhoto(path, "", &left, yield)
	}
	return &Error{Kind: ErrFormat, Path: path, What: fmt.Sprintf("unknown extension %q of images", ext),
		Fix: "give a folder of .png and .jpg files, one such file, an IDX file (-idx3-ubyte, also .gz) or a .csv of pixels (also .gz), or one of the sets " + strings.Join(imageNames(), ", ")}
}

func imageNames() []string {
	var all []string
	for _, s := range imageSets {
		all = append(all, s.Name)
	}
	return all
}

// readPhotos reads every .png and .jpg below a folder, in the order of their paths. The class of one is the name of the folder that it is in, if
// that is not the folder itself.
func readPhotos(root string, left *int64, yield func(picture) error) error {
	var paths []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fileError(path, err)
		}
		if entry.Type().IsRegular() && slices.Contains(photoExtensions, strings.ToLower(filepath.Ext(path))) {
			paths = append(paths, path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		return &Error{Kind: ErrEmpty, Path: root, What: "no .png or .jpg file in this folder or below", Fix: "put images there"}
	}
	slices.SortFunc(paths, func(a, b string) int { return strings.Compare(filepath.ToSlash(a), filepath.ToSlash(b)) })
	for _, path := range paths {
		label := ""
		if dir := filepath.Dir(path); dir != filepath.Clean(root) {
			label = filepath.Base(dir)
		}
		if err := readPhoto(path, label, left, yield); err != nil {
			return err
		}
	}
	return nil
}

// readPhoto reads a PNG or JPEG file. What is transparent is black.
func readPhoto(path, label string, left *int64, yield func(picture) error) error {
	var file []byte
	err := open(path, left, func(r io.Reader) (err error) {
		file, err = io.ReadAll(r)
		return err
	})
	if err != nil {
		return fileError(path, err)
	}
	if len(file) == 0 {
		return &Error{Kind: ErrEmpty, Path: path, What: "the file is empty", Fix: "take it away, or give an image"}
	}
	p, err := decodePhoto(path, file)
	if err != nil {
		return err
	}
	p.label = label
	return yield(p)
}

func decodePhoto(path string, file []byte) (picture, error) {
	torn := func(err error) error {
		return &Error{Kind: ErrTorn, Path: path, What: fmt.Sprintf("no image that can be read (%v)", err), Fix: "take it away, or write it again as PNG or JPEG", Err: err}
	}
	declared, _, err := image.DecodeConfig(bytes.NewReader(file))
	if err != nil {
		return picture{}, torn(err)
	}
	if err := checkSide(path, declared.Height, declared.Width); err != nil {
		return picture{}, err
	}
	img, _, err := image.Decode(bytes.NewReader(file))
	if err != nil {
		return picture{}, torn(err)
	}
	b := img.Bounds()
	p := picture{name: path, height: b.Dy(), width: b.Dx(), channels: 3, values: make([]byte, 0, b.Dx()*b.Dy()*3)}
	rgba := image.NewRGBA(image.Rect(0, 0, p.width, p.height))
	draw.Draw(rgba, rgba.Bounds(), img, b.Min, draw.Over)
	for i := 0; i < len(rgba.Pix); i += 4 {
		p.values = append(p.values, rgba.Pix[i:i+3]...)
	}
	return p, nil
}

func checkSide(path string, h, w int) error {
	if h < 1 || w < 1 {
		return &Error{Kind: ErrFormat, Path: path, What: fmt.Sprintf("an image of %dx%d pixels", h, w), Fix: "take it away"}
	}
	if h > maxSide || w > maxSide || h*w > maxPixels {
		return &Error{Kind: ErrTooLarge, Path: path, What: fmt.Sprintf("an image of %dx%d pixels, more than %d", h, w, maxPixels), Fix: "make it smaller first"}
	}
	return nil
}

// readIDX reads images as MNIST has them: magic 00 00 08 03, their number, height and width (08 04: and channels), then a byte for each value. Their
// classes are in the file with "labels-idx1" in its name in place of "images-idx3", if there is one.
func readIDX(path string, left *int64, yield func(picture) error) error {
	labels, err := readIDXLabels(path, left)
	if err != nil {
		return err
	}
	return open(path, left, func(r io.Reader) error {
		r = bufio.NewReader(r)
		size, err := idxHeader(path, r, 3, 4)
		if err != nil {
			return err
		}
		n, h, w, channels := size[0], size[1], size[2], 1
		if len(size) == 4 {
			channels = size[3]
		}
		if err := checkSide(path, h, w); err != nil {
			return err
		}
		if channels != 1 && channels != 3 {
			return &Error{Kind: ErrFormat, Path: path, What: fmt.Sprintf("images of %d channels", channels), Fix: "give images of 1 or 3"}
		}
		if labels != nil && len(labels) != n {
			return &Error{Kind: ErrTorn, Path: path, What: fmt.Sprintf("%d images, but %d classes in %s", n, len(labels), labelsOf(path)), Fix: "fetch both files again"}
		}
		for i := range n {
			p := picture{name: fmt.Sprintf("%s: image %d", path, i), height: h, width: w, channels: channels, values: make([]byte, h*w*channels)}
			if _, err := io.ReadFull(r, p.values); err != nil {
				return idxError(path, fmt.Sprintf("ends in image %d of %d", i, n), err)
			}
			if labels != nil {
				p.label = strconv.Itoa(int(labels[i]))
			}
			if err := yield(p); err != nil {
				return err
			}
		}
		return idxEnd(path, r)
	})
}

// labelsOf is the name of the file with the classes of images.
func labelsOf(path string) string {
	dir, name := filepath.Split(path)
	return dir + strings.NewReplacer("images", "labels", "idx3", "idx1", "idx4", "idx1").Replace(name)
}

// readIDXLabels reads the classes of images; nil without an error if there are none.
func readIDXLabels(images string, left *int64) (labels []byte, err error) {
	path := labelsOf(images)
	if _, err := os.Stat(path); err != nil || path == images {
		return nil, nil
	}
	err = open(path, left, func(r io.Reader) error {
		r = bufio.NewReader(r)
		size, err := idxHeader(path, r, 1)
		if err != nil {
			return err
		}
		if labels, err = io.ReadAll(io.LimitReader(r, int64(size[0]))); err != nil {
			return fileError(path, err)
		}
		if len(labels) < size[0] {
			return idxError(path, fmt.Sprintf("ends after %d of %d classes", len(labels), size[0]), io.ErrUnexpectedEOF)
		}
		return idxEnd(path, r)
	})
	return labels, err
}

// idxHeader reads the sizes of a file of bytes with so many axes.
func idxHeader(path string, r io.Reader, axes ...int) (size []int, err error) {
	var magic [4]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil {
		return nil, idxError(path, "has no header", err)
	}
	if magic[0] != 0 || magic[1] != 0 || magic[2] != 8 || !slices.Contains(axes, int(magic[3])) {
		return nil, &Error{Kind: ErrFormat, Path: path, What: fmt.Sprintf("begins with % x, no IDX file of bytes with %d axes", magic, axes[0]), Fix: "give a file like that of MNIST"}
	}
	raw := make([]uint32, magic[3])
	if err := binary.Read(r, binary.BigEndian, raw); err != nil {
		return nil, idxError(path, "has half a header", err)
	}
	for _, n := range raw {
		if n > math.MaxInt32 {
			return nil, &Error{Kind: ErrTooLarge, Path: path, What: fmt.Sprintf("an axis of %d", n), Fix: "fetch the file again"}
		}
		size = append(size, int(n))
	}
	return size, nil
}

// idxEnd refuses more than the header says.
func idxEnd(path string, r io.Reader) error {
	n, err := r.Read(make([]byte, 1))
	if n > 0 {
		return idxError(path, "holds more than its header says", io.ErrShortWrite)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return fileError(path, err)
	}
	return nil
}

func idxError(path, what string, err error) error {
	var own *Error
	if errors.As(err, &own) {
		return err
	}
	return &Error{Kind: ErrTorn, Path: path, What: "the IDX file " + what, Fix: "fetch the file again", Err: err}
}

// readCSV reads an image on each line: the pixels of a square row by row as whole numbers less than values, and behind them its class, if there is a
// number more than a square has. A first line of names is left out.
func readCSV(path string, r io.Reader, values int, yield func(picture) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<24)
	columns := 0
	for n := 1; lines.Scan(); n++ {
		fail := func(what, fix string) error {
			return &Error{Kind: ErrFormat, Path: path, Line: n, What: what, Fix: fix}
		}
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\uFEFF"))
		if line == "" || n == 1 && strings.ContainsFunc(line, func(r rune) bool { return r == '_' || r|0x20 >= 'a' && r|0x20 <= 'z' }) {
			continue
		}
		fields := strings.Split(line, ",")
		if columns == 0 {
			columns = len(fields)
		}
		if len(fields) != columns {
			return fail(fmt.Sprintf("%d numbers, but %d in the lines before", len(fields), columns), "give lines of the same length")
		}
		side := int(math.Sqrt(float64(columns)))
		if d := columns - side*side; d > 1 || columns < 1 {
			return fail(fmt.Sprintf("%d numbers, which are no square of pixels, with or without a class behind it", columns), "give side*side numbers and the class")
		}
		p := picture{name: fmt.Sprintf("%s:%d", path, n), height: side, width: side, channels: 1, values: make([]byte, side*side)}
		for i := range p.values {
			v, err := strconv.Atoi(strings.TrimSpace(fields[i]))
			if err != nil || v < 0 || v >= values {
				return fail(fmt.Sprintf("pixel %d is %q, want a whole number from 0 to %d", i, cutText(fields[i]), values-1), "see data.image_values")
			}
			p.values[i] = byte(v)
		}
		if columns > side*side {
			p.label = strings.TrimSpace(fields[columns-1])
		}
		if err := yield(p); err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return &Error{Kind: ErrTooLarge, Path: path, What: "a line of more than 16 MB", Fix: "give a line for each image"}
	}
	if err := lines.Err(); err != nil {
		return fileError(path, err)
	}
	return nil
}

// cutText is the beginning of a text that is to be told.
func cutText(s string) string {
	if len(s) > 20 {
		return s[:20] + "…"
	}
	return s
}
