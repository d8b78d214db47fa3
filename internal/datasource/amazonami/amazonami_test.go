package amazonami

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

type img struct{ id, name, owner, date, state string }

// stand answers DescribeImages with two images a page, and keeps to owners,
// names and include_deprecated.
func stand(t *testing.T, images []img) awsaccess.Locator {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		var hit []img
		for _, i := range images {
			if match(r.Form, i) {
				hit = append(hit, i)
			}
		}
		from, _ := strconv.Atoi(r.Form.Get("NextToken"))
		to := min(from+2, len(hit))
		fmt.Fprint(w, "<DescribeImagesResponse><imagesSet>")
		for _, i := range hit[from:to] {
			fmt.Fprintf(w, `<item><imageId>%s</imageId><name>%s</name><imageOwnerId>%s</imageOwnerId><imageOwnerAlias>alias</imageOwnerAlias><creationDate>%s</creationDate><imageState>%s</imageState>`+
				`<tagSet><item><key>os</key><value>debian</value></item></tagSet></item>`, i.id, i.name, i.owner, i.date, i.state)
		}
		fmt.Fprint(w, "</imagesSet>")
		if to < len(hit) {
			fmt.Fprintf(w, "<nextToken>%d</nextToken>", to)
		}
		fmt.Fprint(w, "</DescribeImagesResponse>")
	}))
	t.Cleanup(srv.Close)
	return func(context.Context) (*awsaccess.Endpoint, error) {
		return &awsaccess.Endpoint{URL: srv.URL, Region: "eu-west-1", AccessKey: "A", SecretKey: secret.New("s")}, nil
	}
}

func values(f url.Values, prefix string) (out []string) {
	for n := 1; f.Has(prefix + "." + strconv.Itoa(n)); n++ {
		out = append(out, f.Get(prefix+"."+strconv.Itoa(n)))
	}
	return out
}

func match(f url.Values, i img) bool {
	if !slices.Contains(values(f, "Owner"), i.owner) || i.state == "deprecated" && f.Get("IncludeDeprecated") != "true" {
		return false
	}
	for n := 1; f.Has(fmt.Sprintf("Filter.%d.Name", n)); n++ {
		if f.Get(fmt.Sprintf("Filter.%d.Name", n)) != "name" || !slices.Contains(values(f, fmt.Sprintf("Filter.%d.Value", n)), i.name) {
			return false
		}
	}
	return true
}

func read(t *testing.T, at awsaccess.Locator, c Config) (Output, error) {
	t.Helper()
	d := Driver("1", at)
	cfg := d.Config().(*Config)
	*cfg = c
	src, err := d.Open(cfg)
	if err != nil {
		return Output{}, err
	}
	out, err := src.Read(t.Context())
	if err != nil {
		return Output{}, err
	}
	return out.(Output), nil
}

func TestRead(t *testing.T) {
	at := stand(t, []img{
		{"ami-1", "a", "me", "2024-01-01T00:00:00.000Z", "available"},
		{"ami-2", "b", "me", "2024-03-01T00:00:00.000Z", "available"},
		{"ami-3", "b", "me", "2024-02-01T00:00:00.000Z", "available"},
		{"ami-4", "b", "me", "2025-01-01T00:00:00.000Z", "pending"},
		{"ami-5", "a", "you", "2026-01-01T00:00:00.000Z", "available"},
	})
	o, err := read(t, at, Config{Owners: []string{"me"}, Filters: map[string]string{"name": "a"}})
	if err != nil || o.ID != "ami-1" || o.Name != "a" || o.Owner != "me" || o.OwnerName != "alias" || o.CreationDate != "2024-01-01T00:00:00.000Z" || o.Tags["os"] != "debian" {
		t.Errorf("%+v %v", o, err)
	}
	// The youngest that can be used, over several pages, of a list of names.
	if o, err = read(t, at, Config{Owners: []string{"me"}, Filters: map[string]string{"name": "a,b"}, MostRecent: true}); err != nil || o.ID != "ami-2" {
		t.Errorf("%+v %v", o, err)
	}
	if _, err = read(t, at, Config{Owners: []string{"me"}, Filters: map[string]string{"name": "b"}}); err == nil || !strings.Contains(diag.Hint(err), "most_recent") {
		t.Error(err)
	}
	if _, err = read(t, at, Config{Owners: []string{"nobody"}}); err == nil || !strings.Contains(err.Error(), "no AMI was found") {
		t.Error(err)
	}
}

func TestOpen(t *testing.T) {
	d := Driver("1", nil)
	_, err := d.Open(&Config{Config: awsaccess.Config{AccessKey: "x"}})
	var names []string
	for _, e := range diag.Flatten(err) {
		var f *diag.FieldError
		if errors.As(e, &f) {
			names = append(names, f.Paths[0])
		}
	}
	if !slices.Equal(names, []string{"access_key", "owners"}) {
		t.Error(names)
	}
}
