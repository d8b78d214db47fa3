package amazon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/internal/secret"
)

// endpointEnv names an EC2 API that takes any credentials, such as another
// project's emulator: the tests here run the builders against it.
const endpointEnv = "INGOT_TEST_EC2"

// A wire is a proxy in front of an EC2 API that counts the calls and can lose
// an answer after the call had its effect.
type wire struct {
	to   string
	mu   sync.Mutex
	made []string
	lose int // the so many-th call, 0: none
}

func (w *wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	action := "?"
	if form, err := url.ParseQuery(string(body)); err == nil {
		action = form.Get("Action")
	}
	w.mu.Lock()
	w.made = append(w.made, action)
	lost := len(w.made) == w.lose
	w.mu.Unlock()
	req, err := http.NewRequestWithContext(r.Context(), r.Method, w.to+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	req.Header, req.Host = r.Header.Clone(), r.Host // as it was signed
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || lost {
		panic(http.ErrAbortHandler)
	}
	maps.Copy(rw.Header(), res.Header)
	rw.WriteHeader(res.StatusCode)
	_, _ = rw.Write(answer)
}

func (w *wire) reset(lose int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made, w.lose = nil, lose
}

func (w *wire) calls() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.made)
}

// A rig is the builders in front of an API.
type rig struct {
	t    *testing.T
	wire *wire
	at   awsaccess.Locator
	sess *awsaccess.Session
	base string // a source image

	sealed map[string]bool // ids of artifacts
}

func newRig(t *testing.T) *rig {
	t.Helper()
	to := os.Getenv(endpointEnv)
	if to == "" || testing.Short() {
		t.Skip(endpointEnv + " names no EC2 API")
	}
	g := &rig{t: t, wire: &wire{to: strings.TrimSuffix(to, "/")}}
	srv := httptest.NewServer(g.wire)
	srv.Config.ErrorLog = nil
	t.Cleanup(srv.Close)
	g.at = func(context.Context) (*awsaccess.Endpoint, error) {
		return &awsaccess.Endpoint{URL: srv.URL, Region: "us-east-1", AccessKey: "test", SecretKey: secret.New("test")}, nil
	}
	c := awsaccess.Config{Region: "us-east-1"}
	ok(t, c.Prepare())
	var err error
	g.sess, err = awsaccess.Open(t.Context(), c, "test", g.at)
	ok(t, err)
	out, err := g.sess.EC2("").DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}})
	ok(t, err)
	for _, i := range out.Images {
		if i.Architecture == types.ArchitectureValuesX8664 && i.RootDeviceType == types.DeviceTypeEbs && i.VirtualizationType == types.VirtualizationTypeHvm && i.Platform == "" {
			g.base = aws.ToString(i.ImageId)
			break
		}
	}
	if g.base == "" {
		t.Fatal("the API has no image to start from")
	}
	return g
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// options are those of a build of its own.
func (g *rig) options(typ, name, more string) string {
	body := fmt.Sprintf("region = \"us-east-1\"\nsource_ami = %q\ninstance_type = \"t2.micro\"\ncommunicator = \"none\"\n", g.base)
	if typ != typeVolume {
		body += fmt.Sprintf("ami_name = %q\n", name)
	}
	return body + more
}

// build runs a whole build and cleans up after it.
func (g *rig) build(typ, run, more string) (artifact.Set, error) {
	g.t.Helper()
	info := builder.Info{Name: "a", Type: typ, Build: typ + ".a", RunID: run}
	dir := filepath.Join(g.t.TempDir(), "run")
	j, err := journal.Create(dir, time.Now, journal.Header{Run: run, Builds: []string{info.Build}})
	ok(g.t, err)
	defer j.Close()
	o := opener{version: "test", start: time.Now(), at: g.at}
	b := o.openAny(g.t, typ, g.options(typ, run, more), info)
	r := builder.NewRun(info, g.t.TempDir(), event.Discard, j, nil)
	set, err := g.bake(b, r)
	ctx, stop := context.WithTimeout(context.WithoutCancel(g.t.Context()), 2*time.Minute)
	defer stop()
	return set, errors.Join(err, b.Discard(ctx, r))
}

func (g *rig) bake(b builder.Builder, r *builder.Run) (artifact.Set, error) {
	ctx := g.t.Context()
	if err := b.Check(ctx); err != nil {
		return artifact.Set{}, err
	}
	if _, err := b.Base(ctx); err != nil {
		return artifact.Set{}, err
	}
	if _, err := b.Boot(ctx, r); err != nil {
		return artifact.Set{}, err
	}
	set, err := b.Seal(ctx, r)
	if err != nil {
		return set, err
	}
	if p, isProvisioned := b.(provisioned); isProvisioned {
		b = p.Builder
	}
	copier := b.(builder.Copier)
	regions, err := copier.Regions(ctx, r)
	if err != nil || len(regions) == 0 {
		return set, err
	}
	copies := make([]artifact.SystemImage, len(regions))
	var asks []func() error
	for n, region := range regions {
		asks = append(asks, func() (err error) {
			c := builder.NewCopy(r, region, nil, event.Discard, func(json.RawMessage) error { return nil })
			copies[n], err = copier.Copy(ctx, c, set)
			return err
		})
	}
	if err := together(asks...); err != nil {
		return set, err
	}
	return copier.Conclude(ctx, r, set, copies)
}

// left lists what a run made and that is still there.
func (g *rig) left(run string, regions ...string) (list []string) {
	g.t.Helper()
	f := []types.Filter{{Name: aws.String("tag:" + tagRun), Values: []string{run}}}
	if run == "" { // any
		f = []types.Filter{{Name: aws.String("tag-key"), Values: []string{tagRun}}}
	}
	ctx := g.t.Context()
	for _, region := range append([]string{"us-east-1"}, regions...) {
		c := g.sess.EC2(region)
		inst, err := c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: f})
		ok(g.t, err)
		for _, res := range inst.Reservations {
			for _, i := range res.Instances {
				if i.State.Name != types.InstanceStateNameTerminated && i.State.Name != types.InstanceStateNameShuttingDown {
					list = append(list, aws.ToString(i.InstanceId))
				}
			}
		}
		groups, err := c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: f})
		ok(g.t, err)
		for _, x := range groups.SecurityGroups {
			list = append(list, aws.ToString(x.GroupId))
		}
		keys, err := c.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{Filters: f})
		ok(g.t, err)
		for _, x := range keys.KeyPairs {
			list = append(list, aws.ToString(x.KeyName))
		}
		vols, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{Filters: f})
		ok(g.t, err)
		for _, x := range vols.Volumes {
			if x.State != types.VolumeStateDeleting && x.State != types.VolumeStateDeleted {
				list = append(list, aws.ToString(x.VolumeId))
			}
		}
		images, err := c.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: f})
		ok(g.t, err)
		used := map[string]bool{}
		for _, x := range images.Images {
			list = append(list, region+":"+aws.ToString(x.ImageId))
			for _, id := range ids(snapshotsOf(x)) {
				used[id] = true
			}
		}
		snaps, err := c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: f})
		ok(g.t, err)
		for _, x := range snaps.Snapshots {
			if id := aws.ToString(x.SnapshotId); !used[id] {
				list = append(list, region+":"+id)
			}
		}
		templates, err := c.DescribeLaunchTemplates(ctx, &ec2.DescribeLaunchTemplatesInput{Filters: f})
		ok(g.t, err)
		for _, x := range templates.LaunchTemplates {
			list = append(list, aws.ToString(x.LaunchTemplateName))
		}
	}
	return list
}

func TestEndpointBuilds(t *testing.T) {
	g := newRig(t)
	for n, c := range []struct {
		typ, more string
		images    int
	}{
		{typeEBS, "", 1},
		{typeEBS, "ami_regions = [\"eu-west-1\", \"us-west-2\", \"ap-south-1\"]\nami_users = [\"123456789012\"]\ntags = { A = \"{{ .SourceAMI }}\" }\nami_description = \"d\"", 4},
		{typeEBS, "encrypt_boot = true\nami_regions = [\"eu-west-1\"]", 2},
		{typeEBS, "skip_save_build_region = true\nami_regions = [\"eu-west-1\"]", 1},
		{typeEBS, "skip_create_ami = true", 0},
		{typeEBS, "associate_public_ip_address = true\nrun_tags = { B = \"c\" }", 1},
		{typeSurrogate, surrogateDisks, 1},
		{typeVolume, "ebs_volumes {\n device_name = \"/dev/sdf\"\n volume_size = 1\n delete_on_termination = true\n snapshot_volume = true\n tags = { X = \"y\" }\n}", 0},
	} {
		run := fmt.Sprintf("e-%d-%s", n, randomHex(4))
		g.wire.reset(0)
		start := time.Now()
		set, err := g.build(c.typ, run, c.more)
		if err != nil {
			t.Errorf("%s %s: %v", c.typ, c.more, err)
			continue
		}
		calls := g.wire.calls()
		t.Logf("%s %q: %s in %s with %d calls: %s", c.typ, c.more, set.ID, time.Since(start).Round(time.Millisecond), len(calls), strings.Join(calls, " "))
		if len(set.Images) != c.images {
			t.Errorf("%s %s: %d images", c.typ, c.more, len(set.Images))
		}
		left := slices.DeleteFunc(g.left(run, "eu-west-1", "us-west-2", "ap-south-1"), func(id string) bool { return strings.Contains(set.ID, id) })
		if len(left) > 0 {
			t.Errorf("%s %s: left: %q", c.typ, c.more, left)
		}
		if len(calls) > 45 {
			t.Errorf("%s %s: %d calls", c.typ, c.more, len(calls))
		}
	}
}

const surrogateDisks = `
  ami_virtualization_type = "hvm"
  launch_block_device_mappings {
    device_name           = "/dev/sdf"
    volume_size           = 8
    delete_on_termination = true
  }
  ami_root_device {
    source_device_name    = "/dev/sdf"
    device_name           = "/dev/xvda"
    volume_size           = 8
    delete_on_termination = true
  }
`

// Each answer in turn is lost after the call had its effect: the build passes,
// and nothing is left but its images.
func TestEndpointLosesAnswers(t *testing.T) {
	g := newRig(t)
	for _, c := range []struct{ typ, more string }{
		{typeEBS, "ami_regions = [\"eu-west-1\"]\nsnapshot_users = [\"123456789012\"]"},
		{typeSurrogate, surrogateDisks},
	} {
		for n := 1; ; n++ {
			run := fmt.Sprintf("l-%d-%s", n, randomHex(4))
			g.wire.reset(n)
			set, err := g.build(c.typ, run, c.more)
			calls := g.wire.calls()
			if n > len(calls) {
				break
			}
			if err != nil {
				t.Errorf("%s, answer to %s lost: %v", c.typ, calls[n-1], err)
			}
			left := slices.DeleteFunc(g.left(run, "eu-west-1"), func(id string) bool { return strings.Contains(set.ID, id) })
			if len(left) > 0 {
				t.Errorf("%s, answer to %s lost: left: %q of %q", c.typ, calls[n-1], left, set.ID)
			}
		}
	}
}
