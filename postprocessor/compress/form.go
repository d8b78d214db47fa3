package compress

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/internal/diag"
)

// A form is what an output file is made of.
type form struct{ archive, algorithm string }

const (
	none       = ""
	tarArchive = "tar"
	zipArchive = "zip"
)

// algorithms by extension.
var algorithms = map[string]string{"gz": "pgzip", "lz4": "lz4", "bgzf": "bgzf", "xz": "xz", "bzip2": "bzip2"}

const formNames = "tar, zip, gz, lz4, bgzf, xz, bzip2"

var extension = regexp.MustCompile(`\.([a-z0-9]+)`)

// formOf reads the form from the last two extensions of name. What is not
// known is a compressed tar.
func formOf(name string) (f form, known bool) {
	found := extension.FindAllStringSubmatch(name, -1)
	last, before := "", ""
	if n := len(found); n > 0 {
		last = found[n-1][1]
		if n > 1 {
			before = found[n-2][1]
		}
	}
	if last == tarArchive || last == zipArchive {
		return form{archive: last}, true
	}
	if a, ok := algorithms[last]; ok {
		f.algorithm = a
		if before == tarArchive {
			f.archive = tarArchive
		}
		return f, true
	}
	return form{archive: tarArchive, algorithm: "pgzip"}, false
}

// replace sets what the options archive and algorithm say.
func (f *form) replace(archive, algorithm string) (errs []error) {
	switch archive {
	case none:
	case tarArchive:
		f.archive = archive
	case zipArchive:
		*f = form{archive: archive}
	default:
		errs = append(errs, diag.Fieldf("archive", "%q is neither tar nor zip", archive))
	}
	if algorithm == none {
		return errs
	}
	if a, ok := algorithms[algorithm]; ok {
		algorithm = a
	}
	switch {
	case !slices.Contains(slices.Collect(maps.Values(algorithms)), algorithm):
		errs = append(errs, diag.Fieldf("algorithm", "%q is not one of pgzip, lz4, bgzf, xz, bzip2", algorithm))
	case f.archive == zipArchive:
		errs = append(errs, diag.Fieldsf([]string{"algorithm", "archive", "output", "format"}, "a zip archive has a compression of its own"))
	default:
		f.algorithm = algorithm
	}
	return errs
}

func (f form) say(target string, files []string) string {
	with := f.algorithm
	if with == none {
		with = "no compression"
	}
	switch f.archive {
	case tarArchive:
		return fmt.Sprintf("Tarring %s with %s", target, with)
	case zipArchive:
		return "Zipping " + target
	}
	return fmt.Sprintf("Archiving %s with %s", strings.Join(files, ", "), with)
}
