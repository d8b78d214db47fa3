package ebsapi

import (
	"net/http"
	"net/url"
	"testing"
)

// A page starts inside of its list, and the token that it ends with leads on.
func FuzzPages(f *testing.F) {
	f.Add("100", "7", "")
	f.Add("", "", "c25hcC0wIDEwMA")
	f.Add("-1", "99999999999999999999", "===")
	f.Fuzz(func(t *testing.T, size, start, token string) {
		p, err := readPage(url.Values{"maxResults": {size}, "startingBlockIndex": {start}, "pageToken": {token}}, "snap-0")
		if err != nil {
			if faultOf(err).status != http.StatusBadRequest {
				t.Errorf("%v", err)
			}
			return
		}
		if p.start < 0 || p.size < leastBlocks || p.size > mostBlocks {
			t.Fatalf("%+v", p)
		}
		all := func(yield func(int64, error) bool) {
			for i := range int64(mostBlocks + 5) {
				if !yield(p.start+i, nil) {
					return
				}
			}
		}
		if p.start > 1<<62 {
			return
		}
		out, next, err := p.take(all)
		if err != nil || len(out) != p.size || next == "" {
			t.Fatalf("%d blocks, the token %q: %v", len(out), next, err)
		}
		q, err := readPage(url.Values{"pageToken": {next}}, "snap-0")
		if err != nil || q.start != out[len(out)-1]+1 {
			t.Errorf("the next page is %+v: %v", q, err)
		}
	})
}

func FuzzRoute(f *testing.F) {
	for _, p := range []string{"/snapshots", "/snapshots/completion/snap-0", "/snapshots/snap-0/blocks/1", "/snapshots/snap-0/changedblocks", "//"} {
		f.Add(http.MethodPost, p)
		f.Add(http.MethodGet, p)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		action, snapshot, _ := route(&http.Request{Method: method, URL: &url.URL{Path: path}})
		if action == "" && snapshot != "" {
			t.Errorf("%s %s names the snapshot %q of no action", method, path, snapshot)
		}
	})
}
