package ebsdirect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/secret"
)

// TestMain hides the settings of whoever runs the tests from the SDK.
func TestMain(m *testing.M) {
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "AWS_") {
			_ = os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}

// A snap is a snapshot of a [stand].
type snap struct {
	state  string
	parent string
	size   int64
	tags   map[string]string
	blocks map[int32][]byte
}

// A stand is EBS as far as it is needed: it keeps the blocks, checks every
// digest and the checksum over them, and misbehaves when told to.
type stand struct {
	mu     sync.Mutex
	snaps  map[string]*snap
	tokens map[string]string // token -> id, and "id/what was asked"
	asked  map[string]string
	puts   int
	keep   bool // keep the blocks' content, not needed for a benchmark

	// fault is called with what a request is ("PUT 5") and how often that came
	// before; an answer other than 0 is its status. A negative one is sent
	// after the effect.
	fault func(what string, n int) int
	seen  map[string]int
}

func newStand(t testing.TB) (*stand, *Uploader) {
	t.Helper()
	s := &stand{snaps: map[string]*snap{}, tokens: map[string]string{}, asked: map[string]string{}, seen: map[string]int{}, keep: true}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	sess, err := awsaccess.Open(context.Background(), awsaccess.Config{}, "test", func(context.Context) (*awsaccess.Endpoint, error) {
		return &awsaccess.Endpoint{URL: srv.URL, Region: "eu-west-1", AccessKey: "A", SecretKey: secret.New("s")}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, &Uploader{Blocks: sess.EBS(""), Snapshots: sess.EC2(""), Wait: sess.Wait}
}

func (s *stand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := make([]byte, max(r.ContentLength, 0))
	_, err := io.ReadFull(r.Body, body)
	if err != nil {
		return // the client has gone
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	s.mu.Lock()
	what := r.Method + " " + parts[len(parts)-1]
	if len(parts) == 3 && parts[1] == "completion" {
		what = "complete"
	}
	n := s.seen[what]
	s.seen[what]++
	status := 0
	if s.fault != nil {
		status = s.fault(what, n)
	}
	s.mu.Unlock()
	if status > 0 {
		refuse(w, status, "InternalServerException")
		return
	}
	out := w
	if status < 0 {
		out = httptest.NewRecorder()
		defer refuse(w, -status, "InternalServerException")
	}
	switch {
	case r.URL.Path == "/":
		s.ec2(out, string(body))
	case what == "POST snapshots":
		s.start(out, body)
	case what == "complete":
		s.complete(out, parts[2], r.Header)
	case r.Method == http.MethodPut:
		s.put(out, parts[1], parts[3], r.Header, body)
	default:
		refuse(out, 404, "ResourceNotFoundException")
	}
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("X-Amzn-Errortype", code)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"Message":"refused"}`)
}

func (s *stand) start(w http.ResponseWriter, body []byte) {
	var in struct {
		VolumeSize                    int64
		ClientToken, ParentSnapshotId string
		Tags                          []struct{ Key, Value string }
	}
	if json.Unmarshal(body, &in) != nil || in.ClientToken == "" {
		refuse(w, 400, "ValidationException")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.tokens[in.ClientToken]
	if id != "" && s.asked[id] != string(body) {
		refuse(w, 400, "ConflictException")
		return
	}
	if id == "" {
		id = fmt.Sprintf("snap-%d", len(s.asked)+1)
		sn := &snap{state: "pending", parent: in.ParentSnapshotId, size: in.VolumeSize, tags: map[string]string{}, blocks: map[int32][]byte{}}
		for _, t := range in.Tags {
			sn.tags[t.Key] = t.Value
		}
		s.snaps[id], s.tokens[in.ClientToken], s.asked[id] = sn, id, string(body)
	}
	status := "error" // deleted since
	if sn := s.snaps[id]; sn != nil {
		status = sn.state
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"SnapshotId": id, "BlockSize": BlockSize, "VolumeSize": in.VolumeSize, "Status": status})
}

func (s *stand) put(w http.ResponseWriter, id, index string, h http.Header, data []byte) {
	i, err := strconv.Atoi(index)
	sum := sha256.Sum256(data)
	text := base64.StdEncoding.EncodeToString(sum[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	sn := s.snaps[id]
	switch {
	case sn == nil:
		refuse(w, 404, "ResourceNotFoundException")
		return
	case err != nil, sn.state != "pending", len(data) != BlockSize, h.Get("X-Amz-Checksum") != text,
		h.Get("X-Amz-Checksum-Algorithm") != "SHA256", int64(i)*BlockSize >= sn.size<<30:
		refuse(w, 400, "ValidationException")
		return
	}
	s.puts++
	if !s.keep {
		data = data[:0]
	}
	sn.blocks[int32(i)] = data
	w.Header().Set("X-Amz-Checksum", text)
	w.Header().Set("X-Amz-Checksum-Algorithm", "SHA256")
	w.WriteHeader(201)
}

func (s *stand) complete(w http.ResponseWriter, id string, h http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sn := s.snaps[id]
	if sn == nil {
		refuse(w, 404, "ResourceNotFoundException")
		return
	}
	var all []byte
	indices := make([]int32, 0, len(sn.blocks))
	for i := range sn.blocks {
		indices = append(indices, i)
	}
	slices.Sort(indices)
	for _, i := range indices {
		d := sha256.Sum256(sn.blocks[i])
		all = append(all, d[:]...)
	}
	sum := sha256.Sum256(all)
	want := base64.StdEncoding.EncodeToString(sum[:])
	if sn.state != "pending" || h.Get("X-Amz-Changedblockscount") != strconv.Itoa(len(indices)) ||
		s.keep && h.Get("X-Amz-Checksum") != want || h.Get("X-Amz-Checksum-Aggregation-Method") != "LINEAR" {
		refuse(w, 400, "ValidationException")
		return
	}
	sn.state = "sealed"
	w.WriteHeader(202)
	_, _ = io.WriteString(w, `{"Status":"pending"}`)
}

func (s *stand) ec2(w http.ResponseWriter, form string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := ""
	for _, kv := range strings.Split(form, "&") {
		if k, v, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "SnapshotId") {
			id = v
		}
	}
	sn := s.snaps[id]
	if sn == nil {
		w.WriteHeader(400)
		_, _ = io.WriteString(w, `<Response><Errors><Error><Code>InvalidSnapshot.NotFound</Code><Message>x</Message></Error></Errors></Response>`)
		return
	}
	if strings.Contains(form, "Action=DeleteSnapshot") {
		delete(s.snaps, id)
		_, _ = io.WriteString(w, `<DeleteSnapshotResponse><return>true</return></DeleteSnapshotResponse>`)
		return
	}
	st := sn.state
	if st == "sealed" { // shows as completed from the next look on
		st, sn.state = "pending", "completed"
	}
	fmt.Fprintf(w, `<DescribeSnapshotsResponse><snapshotSet><item><snapshotId>%s</snapshotId><status>%s</status></item></snapshotSet></DescribeSnapshotsResponse>`, id, st)
}

// misbehave sets the fault.
func (s *stand) misbehave(fault func(what string, n int) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// counts returns how many snapshots there are and how many blocks were taken
// since the last call. Requests of a killed upload may still be under way.
func (s *stand) counts() (snaps, puts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	puts, s.puts = s.puts, 0
	return len(s.snaps), puts
}

// content returns what a volume made of the snapshot would hold.
func (s *stand) content(id string, size int64) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]byte, (size+BlockSize-1)/BlockSize*BlockSize)
	var fill func(id string)
	fill = func(id string) {
		sn := s.snaps[id]
		if sn == nil {
			return
		}
		fill(sn.parent)
		for i, b := range sn.blocks {
			copy(out[int64(i)*BlockSize:], b)
		}
	}
	fill(id)
	return bytes.Clone(out[:size])
}
