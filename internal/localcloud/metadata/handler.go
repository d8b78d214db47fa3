package metadata

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Headers of version 2
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html).
const (
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	maxTTL      = 21600 // seconds
)

// versions are those EC2 lists; all are answered alike.
var versions = []string{
	"1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01", "2009-04-04",
	"2011-01-01", "2011-05-01", "2012-01-12", "2014-02-25", "2014-11-05", "2015-10-20", "2016-04-19", "2016-06-30", "2016-09-02",
	"2018-03-28", "2018-08-17", "2018-09-24", "2019-10-01", "2020-10-27", "2021-01-03", "2021-03-23", "2021-07-15", "2022-09-24",
	"latest",
}

// Options of [New].
type Options struct {
	Key []byte           // makes and checks tokens; nil: a new one, with which no older token is valid
	Now func() time.Time // nil: the clock
}

// Handler answers for one instance.
type Handler struct {
	source Source
	key    []byte
	now    func() time.Time
}

// New returns the handler of the instance that source knows.
func New(source Source, o Options) *Handler {
	h := &Handler{source: source, key: o.Key, now: o.Now}
	if h.key == nil {
		h.key = make([]byte, 32)
		_, _ = rand.Read(h.key) // never fails
	}
	if h.now == nil {
		h.now = time.Now
	}
	return h
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i, err := h.source.Instance(r.Context())
	w.Header().Set("Server", "EC2ws")
	switch {
	case err != nil:
		refuse(w, http.StatusInternalServerError)
	case i.Disabled:
		refuse(w, http.StatusForbidden)
	case r.Method == http.MethodPut:
		h.makeToken(w, r, i.ID)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "OPTIONS, GET, HEAD, PUT")
		refuse(w, http.StatusMethodNotAllowed)
	case !h.allowed(w, r, &i):
		refuse(w, http.StatusUnauthorized)
	default:
		serve(w, r, &i)
	}
}

// refuse answers with the page that EC2 has for an error.
func refuse(w http.ResponseWriter, status int) {
	text := strconv.Itoa(status) + " - " + http.StatusText(status)
	page := `<?xml version="1.0" encoding="iso-8859-1"?>` + "\n<html>\n <head>\n  <title>" + text + "</title>\n </head>\n <body>\n  <h1>" + text + "</h1>\n </body>\n</html>\n"
	w.Header().Set("Content-Type", "text/html")
	w.Header().Set("Content-Length", strconv.Itoa(len(page)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(page)) // a client that is gone
}

func (h *Handler) makeToken(w http.ResponseWriter, r *http.Request, id string) {
	ttl, err := strconv.Atoi(r.Header.Get(ttlHeader))
	rest, known := cutVersion(r.URL.Path)
	switch {
	case !known || rest != "api/token":
		refuse(w, http.StatusNotFound)
	case r.Header.Get("X-Forwarded-For") != "": // came through a proxy
		refuse(w, http.StatusForbidden)
	case err != nil || ttl < 1 || ttl > maxTTL:
		refuse(w, http.StatusBadRequest)
	default:
		token := h.token(id, h.now().Add(time.Duration(ttl)*time.Second))
		w.Header().Set(ttlHeader, strconv.Itoa(ttl))
		write(w, r, "text/plain", []byte(token))
	}
}

// token is good for the instance until end.
func (h *Handler) token(id string, end time.Time) string {
	raw := binary.BigEndian.AppendUint64(nil, uint64(end.UnixMilli())) //nolint:gosec // after 1970
	mac := hmac.New(sha256.New, h.key)
	mac.Write(raw)
	mac.Write([]byte(id))
	return base64.URLEncoding.EncodeToString(mac.Sum(raw))
}

// allowed reports whether the request's token, or its lack, lets it in.
func (h *Handler) allowed(w http.ResponseWriter, r *http.Request, i *Instance) bool {
	got := r.Header.Values(tokenHeader)
	if len(got) == 0 {
		return !i.TokensRequired
	}
	raw, err := base64.URLEncoding.DecodeString(got[0])
	if err != nil || len(raw) != 8+sha256.Size {
		return false
	}
	end := time.UnixMilli(int64(binary.BigEndian.Uint64(raw))) //nolint:gosec // checked by what follows
	if !hmac.Equal([]byte(h.token(i.ID, end)), []byte(got[0])) || !h.now().Before(end) {
		return false
	}
	left := (end.Sub(h.now()) + time.Second - 1) / time.Second
	w.Header().Set(ttlHeader, strconv.Itoa(int(left)))
	return true
}

// cutVersion takes the version off a path.
func cutVersion(path string) (rest string, known bool) {
	version, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	for _, v := range versions {
		if v == version {
			return rest, true
		}
	}
	return "", false
}

func serve(w http.ResponseWriter, r *http.Request, i *Instance) {
	if r.URL.Path == "/" || r.URL.Path == "" {
		write(w, r, "text/plain", []byte(strings.Join(versions, "\n")))
		return
	}
	path, known := cutVersion(r.URL.Path)
	if !known {
		refuse(w, http.StatusNotFound)
		return
	}
	top, rest, _ := strings.Cut(path, "/")
	text, ok := "", false
	switch top {
	case "":
		names := []string{"dynamic", "meta-data"}
		if i.UserData != nil {
			names = append(names, "user-data")
		}
		text, ok = strings.Join(names, "\n"), true
	case "meta-data":
		text, ok = i.find(rest)
	case "user-data":
		if i.UserData != nil && rest == "" {
			write(w, r, "application/octet-stream", i.UserData)
			return
		}
	case "dynamic":
		switch strings.TrimSuffix(rest, "/") {
		case "":
			text, ok = "instance-identity/", true
		case "instance-identity":
			text, ok = "document", true
		case "instance-identity/document":
			text, ok = i.identity(), true
		}
	}
	if !ok {
		refuse(w, http.StatusNotFound)
		return
	}
	write(w, r, "text/plain", []byte(text))
}

// write sends an answer with its length: some clients know nothing of chunks.
// http takes care of HEAD and of ranges.
func write(w http.ResponseWriter, r *http.Request, kind string, body []byte) {
	w.Header().Set("Content-Type", kind)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}
