package secret

import (
	"sort"
	"strings"
	"sync"
)

// A Set knows the secrets of one run and masks them in text. It is safe for
// concurrent use; the zero value is ready.
type Set struct {
	mu       sync.RWMutex
	known    map[string]struct{}
	replacer *strings.Replacer
}

// Add registers v, v with its line ends made LF, and every line of v, so that
// a secret is also found when it is printed line by line. Empty and
// white-space-only texts are ignored: masking them would garble all output.
func (s *Set) Add(v string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lf := strings.ReplaceAll(v, "\r\n", "\n")
	for _, t := range append(strings.Split(lf, "\n"), v, lf) {
		t = strings.TrimSuffix(t, "\r")
		if strings.TrimSpace(t) == "" {
			continue
		}
		if s.known == nil {
			s.known = map[string]struct{}{}
		}
		if _, ok := s.known[t]; !ok {
			s.known[t] = struct{}{}
			s.replacer = nil
		}
	}
}

// Mask returns text with every known secret replaced by [Redacted]. Where two
// secrets overlap the longer one is replaced whole.
func (s *Set) Mask(text string) string {
	if s == nil {
		return text
	}
	s.mu.RLock()
	r, n := s.replacer, len(s.known)
	s.mu.RUnlock()
	if n == 0 {
		return text
	}
	if r == nil {
		r = s.build()
	}
	return r.Replace(text)
}

func (s *Set) build() *strings.Replacer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replacer != nil {
		return s.replacer
	}
	known := make([]string, 0, len(s.known))
	for k := range s.known {
		known = append(known, k)
	}
	// Replacer tries its pairs in the order given at each position.
	sort.Slice(known, func(i, j int) bool {
		if len(known[i]) != len(known[j]) {
			return len(known[i]) > len(known[j])
		}
		return known[i] < known[j]
	})
	pairs := make([]string, 0, 2*len(known))
	for _, k := range known {
		pairs = append(pairs, k, Redacted)
	}
	s.replacer = strings.NewReplacer(pairs...)
	return s.replacer
}
