package amazonimport

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
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

const block = 512 << 10

type standSnap struct {
	state string
	form  map[string]any // of StartSnapshot
	data  map[int64][]byte
	tags  map[string]string
}

type standImage struct {
	id, name, snap string
	form           url.Values
	tags           map[string]string
	perms          []string
	attrs          map[string]string
}

// A stand is as much of EBS, EC2 and S3 as an import needs, with state.
type stand struct {
	*httptest.Server
	mu      sync.Mutex
	n       int
	snaps   map[string]*standSnap
	tokens  map[string]string
	images  map[string]*standImage
	objects map[string][]byte
	parts   map[string]map[int][]byte // of uploads under way
	tasks   map[string]url.Values
	result  map[string]string // of tasks: image
	calls   []string
	refuse  map[string]string // action -> code; "lose " before it: after the effect, once
}

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{
		snaps: map[string]*standSnap{}, tokens: map[string]string{}, images: map[string]*standImage{},
		objects: map[string][]byte{}, parts: map[string]map[int][]byte{}, tasks: map[string]url.Values{},
		result: map[string]string{}, refuse: map[string]string{},
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	return s
}

func (s *stand) at(context.Context) (*awsaccess.Endpoint, error) {
	return &awsaccess.Endpoint{URL: s.URL, Region: "eu-west-1", AccessKey: "A", SecretKey: secret.New("s")}, nil
}

func (s *stand) id(kind string) string {
	s.n++
	return kind + "-" + strconv.Itoa(s.n)
}

func (s *stand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case strings.Contains(r.Header.Get("Authorization"), "/ebs/"):
		s.ebs(w, r, body)
	case strings.Contains(r.Header.Get("Authorization"), "/s3/"):
		s.s3(w, r, body)
	default:
		f, _ := url.ParseQuery(string(body))
		action := f.Get("Action")
		s.calls = append(s.calls, action)
		if code := s.refuse[action]; code != "" {
			if lost, ok := strings.CutPrefix(code, "lose "); ok {
				delete(s.refuse, action)
				s.ec2(httptest.NewRecorder(), action, f)
				ec2Error(w, 500, lost)
				return
			}
			ec2Error(w, 400, code)
			return
		}
		s.ec2(w, action, f)
	}
}

func ec2Error(w http.ResponseWriter, status int, code string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `<Response><Errors><Error><Code>%s</Code><Message>no</Message></Error></Errors></Response>`, code)
}

func (s *stand) ebs(w http.ResponseWriter, r *http.Request, body []byte) {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	bad := func() {
		w.Header().Set("X-Amzn-Errortype", "ValidationException")
		w.WriteHeader(400)
		_, _ = io.WriteString(w, `{"Message":"bad"}`)
	}
	switch {
	case len(parts) == 1: // start
		var in map[string]any
		_ = json.Unmarshal(body, &in)
		token := fmt.Sprint(in["ClientToken"])
		id := s.tokens[token]
		if id == "" {
			id = s.id("snap")
			sn := &standSnap{state: "pending", form: in, data: map[int64][]byte{}, tags: map[string]string{}}
			tags, _ := in["Tags"].([]any)
			for _, t := range tags {
				t := t.(map[string]any)
				sn.tags[fmt.Sprint(t["Key"])] = fmt.Sprint(t["Value"])
			}
			s.tokens[token], s.snaps[id] = id, sn
		}
		status := "error"
		if sn := s.snaps[id]; sn != nil {
			status = sn.state
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"SnapshotId": id, "BlockSize": block, "Status": status})
	case parts[1] == "completion":
		sn := s.snaps[parts[2]]
		if sn == nil || sn.state != "pending" || r.Header.Get("X-Amz-Changedblockscount") != strconv.Itoa(len(sn.data)) {
			bad()
			return
		}
		sn.state = "completed"
		_, _ = io.WriteString(w, `{"Status":"completed"}`)
	default:
		i, _ := strconv.ParseInt(parts[3], 10, 64)
		sum := sha256.Sum256(body)
		text := base64.StdEncoding.EncodeToString(sum[:])
		sn := s.snaps[parts[1]]
		if code := s.refuse["PutSnapshotBlock"]; code != "" || sn == nil || sn.state != "pending" || len(body) != block || r.Header.Get("X-Amz-Checksum") != text {
			bad()
			return
		}
		sn.data[i] = body
		w.Header().Set("X-Amz-Checksum", text)
		w.WriteHeader(201)
	}
}

func (s *stand) s3(w http.ResponseWriter, r *http.Request, body []byte) {
	q, name := r.URL.Query(), strings.TrimPrefix(r.URL.Path, "/")
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		id := s.id("up")
		s.parts[id] = map[int][]byte{}
		fmt.Fprintf(w, `<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>`, id)
	case r.Method == http.MethodPut:
		n, _ := strconv.Atoi(q.Get("partNumber"))
		s.parts[q.Get("uploadId")][n] = body
		w.Header().Set("ETag", fmt.Sprintf(`"%d"`, n))
	case r.Method == http.MethodPost:
		var in struct {
			Part []struct {
				PartNumber int
				ETag       string
			}
		}
		_ = xml.Unmarshal(body, &in)
		up := s.parts[q.Get("uploadId")]
		var all []byte
		for i, p := range in.Part {
			if p.PartNumber != i+1 || p.ETag != fmt.Sprintf(`"%d"`, i+1) {
				w.WriteHeader(400)
				return
			}
			all = append(all, up[p.PartNumber]...)
		}
		delete(s.parts, q.Get("uploadId"))
		s.objects[name] = all
		_, _ = io.WriteString(w, `<CompleteMultipartUploadResult/>`)
	case r.Method == http.MethodDelete && q.Has("uploadId"):
		delete(s.parts, q.Get("uploadId"))
		w.WriteHeader(204)
	case r.Method == http.MethodDelete:
		delete(s.objects, name)
		w.WriteHeader(204)
	}
}

// list returns the members of a list parameter.
func list(f url.Values, format string) (out []string) {
	for n := 1; f.Has(fmt.Sprintf(format, n)); n++ {
		out = append(out, f.Get(fmt.Sprintf(format, n)))
	}
	return out
}

func formTags(f url.Values, prefix string) map[string]string {
	out := map[string]string{}
	values := list(f, prefix+"%d.Value")
	for i, k := range list(f, prefix+"%d.Key") {
		out[k] = values[i]
	}
	return out
}

func (s *stand) add(f url.Values, snap string) *standImage {
	i := &standImage{id: s.id("ami"), name: f.Get("Name"), snap: snap, form: f, tags: formTags(f, "TagSpecification.1.Tag."), attrs: map[string]string{}}
	s.images[i.id] = i
	return i
}

func (s *stand) ec2(w http.ResponseWriter, action string, f url.Values) {
	ok := func(text string, args ...any) {
		fmt.Fprintf(w, "<"+action+"Response>"+text+"</"+action+"Response>", args...)
	}
	img := s.images[f.Get("ImageId")]
	switch action {
	case "DescribeImages":
		var b strings.Builder
		for _, i := range s.images {
			if f.Get("Filter.1.Name") == "name" && i.name != f.Get("Filter.1.Value.1") || f.Has("ImageId.1") && i.id != f.Get("ImageId.1") {
				continue
			}
			fmt.Fprintf(&b, `<item><imageId>%s</imageId><name>%s</name><imageState>available</imageState><creationDate>2026-01-02T03:04:05.000Z</creationDate><rootDeviceName>/dev/sda1</rootDeviceName>`+
				`<blockDeviceMapping><item><deviceName>/dev/sda1</deviceName><ebs><snapshotId>%s</snapshotId><volumeSize>1</volumeSize></ebs></item></blockDeviceMapping><tagSet>`, i.id, i.name, i.snap)
			for k, v := range i.tags {
				fmt.Fprintf(&b, `<item><key>%s</key><value>%s</value></item>`, k, v)
			}
			b.WriteString("</tagSet></item>")
		}
		ok("<imagesSet>%s</imagesSet>", b.String())
	case "RegisterImage", "CopyImage":
		for _, i := range s.images {
			if i.name == f.Get("Name") {
				ec2Error(w, 400, "InvalidAMIName.Duplicate")
				return
			}
		}
		snap := f.Get("BlockDeviceMapping.1.Ebs.SnapshotId")
		if action == "CopyImage" {
			snap = s.id("snap")
			s.snaps[snap] = &standSnap{state: "completed", tags: map[string]string{}}
		}
		if sn := s.snaps[snap]; sn == nil || sn.state != "completed" {
			ec2Error(w, 400, "InvalidSnapshot.NotFound")
			return
		}
		ok("<imageId>%s</imageId>", s.add(f, snap).id)
	case "DeregisterImage":
		if img == nil {
			ec2Error(w, 400, "InvalidAMIID.NotFound")
			return
		}
		delete(s.images, img.id)
		ok("<return>true</return>")
	case "ModifyImageAttribute":
		for n := range 9 {
			for _, who := range []string{"UserId", "Group"} {
				if v := f.Get(fmt.Sprintf("LaunchPermission.Add.%d.%s", n, who)); v != "" {
					img.perms = append(img.perms, v)
				}
			}
		}
		for _, a := range []string{"Description.Value", "ImdsSupport.Value"} {
			if f.Has(a) {
				img.attrs[a] = f.Get(a)
			}
		}
		ok("<return>true</return>")
	case "CreateTags":
		for _, id := range list(f, "ResourceId.%d") {
			if i := s.images[id]; i != nil {
				i.tags = formTags(f, "Tag.")
			} else if sn := s.snaps[id]; sn != nil {
				sn.tags = formTags(f, "Tag.")
			}
		}
		ok("<return>true</return>")
	case "DescribeSnapshots", "DeleteSnapshot":
		id := f.Get("SnapshotId") + f.Get("SnapshotId.1")
		sn := s.snaps[id]
		used := slices.ContainsFunc(slices.Collect(mapsValues(s.images)), func(i *standImage) bool { return i.snap == id })
		switch {
		case sn == nil:
			ec2Error(w, 400, "InvalidSnapshot.NotFound")
		case action == "DeleteSnapshot" && used:
			ec2Error(w, 400, "InvalidSnapshot.InUse")
		case action == "DeleteSnapshot":
			delete(s.snaps, id)
			ok("<return>true</return>")
		default:
			ok("<snapshotSet><item><snapshotId>%s</snapshotId><status>%s</status></item></snapshotSet>", id, sn.state)
		}
	case "ImportImage":
		key := f.Get("DiskContainer.1.UserBucket.S3Bucket") + "/" + f.Get("DiskContainer.1.UserBucket.S3Key")
		if s.objects[key] == nil {
			ec2Error(w, 400, "InvalidParameter")
			return
		}
		id := s.id("import-ami")
		s.tasks[id] = f
		if strings.HasPrefix(string(s.objects[key]), "broken") {
			s.result[id] = ""
		} else {
			snap := s.id("snap")
			s.snaps[snap] = &standSnap{state: "completed", tags: map[string]string{}}
			f.Set("Name", id)
			s.result[id] = s.add(f, snap).id
		}
		ok("<importTaskId>%s</importTaskId>", id)
	case "DescribeImportImageTasks":
		var b strings.Builder
		for id, tf := range s.tasks {
			if f.Has("ImportTaskId.1") && f.Get("ImportTaskId.1") != id ||
				f.Has("Filters.1.Name") && formTags(tf, "TagSpecification.1.Tag.")[tagImport] != f.Get("Filters.1.Value.1") {
				continue
			}
			status := "completed"
			if s.result[id] == "" {
				status = "deleted"
			}
			fmt.Fprintf(&b, `<item><importTaskId>%s</importTaskId><status>%s</status><statusMessage>ClientError: unknown OS</statusMessage><imageId>%s</imageId>`+
				`<snapshotDetailSet><item><userBucket><s3Bucket>b</s3Bucket><s3Key>%s</s3Key></userBucket></item></snapshotDetailSet></item>`,
				id, status, s.result[id], tf.Get("DiskContainer.1.UserBucket.S3Key"))
		}
		ok("<importImageTaskSet>%s</importImageTaskSet>", b.String())
	case "CancelImportTask":
		ok("<importTaskId>%s</importTaskId>", f.Get("ImportTaskId"))
	default:
		ec2Error(w, 400, "InvalidAction")
	}
}

func mapsValues[K comparable, V any](m map[K]V) func(func(V) bool) {
	return func(yield func(V) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}

// content is what the snapshot's first bytes are.
func (s *stand) content(snap string, size int) []byte {
	out := make([]byte, (size+block-1)/block*block)
	for i, b := range s.snaps[snap].data {
		copy(out[i*block:], b)
	}
	return bytes.Clone(out[:size])
}
