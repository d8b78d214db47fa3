package amazon

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
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

// elsewhere is the API that endpointEnv names, behind a wire.
func elsewhere(t *testing.T) (*rig, *wire) {
	t.Helper()
	to := os.Getenv(endpointEnv)
	if to == "" || testing.Short() {
		t.Skip(endpointEnv + " names no EC2 API")
	}
	w := &wire{to: strings.TrimSuffix(to, "/")}
	srv := httptest.NewServer(w)
	t.Cleanup(srv.Close)
	g := &rig{at: locate(srv.URL, "test", "test")}
	g.sess = session(t, g.at)
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
	return g, w
}

// left lists what a run made and that is still there.
func (g *rig) left(t *testing.T, run string, regions ...string) (list []string) {
	t.Helper()
	f := []types.Filter{{Name: aws.String("tag:" + tagRun), Values: []string{run}}}
	ctx := t.Context()
	for _, region := range append([]string{home}, regions...) {
		c := g.sess.EC2(region)
		inst, err := c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: f})
		ok(t, err)
		for _, res := range inst.Reservations {
			for _, i := range res.Instances {
				if i.State.Name != types.InstanceStateNameTerminated && i.State.Name != types.InstanceStateNameShuttingDown {
					list = append(list, aws.ToString(i.InstanceId))
				}
			}
		}
		groups, err := c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: f})
		ok(t, err)
		for _, x := range groups.SecurityGroups {
			list = append(list, aws.ToString(x.GroupId))
		}
		keys, err := c.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{Filters: f})
		ok(t, err)
		for _, x := range keys.KeyPairs {
			list = append(list, aws.ToString(x.KeyName))
		}
		vols, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{Filters: f})
		ok(t, err)
		for _, x := range vols.Volumes {
			if x.State != types.VolumeStateDeleting && x.State != types.VolumeStateDeleted {
				list = append(list, aws.ToString(x.VolumeId))
			}
		}
		images, err := c.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: f})
		ok(t, err)
		used := map[string]bool{}
		for _, x := range images.Images {
			list = append(list, region+":"+aws.ToString(x.ImageId))
			for _, id := range ids(snapshotsOf(x)) {
				used[id] = true
			}
		}
		snaps, err := c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: f})
		ok(t, err)
		for _, x := range snaps.Snapshots {
			if id := aws.ToString(x.SnapshotId); !used[id] {
				list = append(list, region+":"+id)
			}
		}
		templates, err := c.DescribeLaunchTemplates(ctx, &ec2.DescribeLaunchTemplatesInput{Filters: f})
		ok(t, err)
		for _, x := range templates.LaunchTemplates {
			list = append(list, aws.ToString(x.LaunchTemplateName))
		}
	}
	return list
}

// noGuest is for APIs whose instances are records only.
const noGuest = "\ncommunicator = \"none\"\ninstance_type = \"t2.micro\"\n"

func TestEndpointBuilds(t *testing.T) {
	g, w := elsewhere(t)
	for _, c := range []struct {
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
		w.reset(0)
		start := time.Now()
		b := g.bake(t, baking{typ: c.typ, more: c.more + noGuest})
		set, err := b.set, errors.Join(b.err, b.discard)
		if err != nil {
			t.Errorf("%s %s: %v", c.typ, c.more, err)
			continue
		}
		calls := w.calls()
		t.Logf("%s %q: %s in %s with %d calls: %s", c.typ, c.more, set.ID, time.Since(start).Round(time.Millisecond), len(calls), strings.Join(calls, " "))
		if len(set.Images) != c.images {
			t.Errorf("%s %s: %d images", c.typ, c.more, len(set.Images))
		}
		left := slices.DeleteFunc(g.left(t, b.run, "eu-west-1", "us-west-2", "ap-south-1"), func(id string) bool { return strings.Contains(set.ID, id) })
		if len(left) > 0 {
			t.Errorf("%s %s: left: %q", c.typ, c.more, left)
		}
		if len(calls) > 45 {
			t.Errorf("%s %s: %d calls", c.typ, c.more, len(calls))
		}
	}
}

// Each answer in turn is lost after the call had its effect: the build passes,
// and nothing is left but its images.
func TestEndpointLosesAnswers(t *testing.T) {
	g, w := elsewhere(t)
	for _, c := range []struct{ typ, more string }{
		{typeEBS, "ami_regions = [\"eu-west-1\"]\nsnapshot_users = [\"123456789012\"]"},
		{typeSurrogate, surrogateDisks},
	} {
		for n := 1; ; n++ {
			w.reset(n)
			b := g.bake(t, baking{typ: c.typ, more: c.more + noGuest})
			set, err := b.set, errors.Join(b.err, b.discard)
			calls := w.calls()
			if n > len(calls) {
				break
			}
			if err != nil {
				t.Errorf("%s, answer to %s lost: %v", c.typ, calls[n-1], err)
			}
			left := slices.DeleteFunc(g.left(t, b.run, "eu-west-1"), func(id string) bool { return strings.Contains(set.ID, id) })
			if len(left) > 0 {
				t.Errorf("%s, answer to %s lost: left: %q of %q", c.typ, calls[n-1], left, set.ID)
			}
		}
	}
}
