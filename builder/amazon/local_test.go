package amazon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/builder/buildertest"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
	"github.com/ingot-build/ingot/internal/secret"
)

// TestLocalCloud bakes with a real SSH connection to a machine of the local
// cloud that is a stand-in.
func TestLocalCloud(t *testing.T) {
	needLocal(t)
	g, cloud := newLocalRig(t)
	for _, c := range []struct{ typ, more string }{
		{typeEBS, "ami_regions = [\"eu-west-1\", \"us-west-2\", \"ap-southeast-1\"]\nami_users = [\"123456789012\"]\nsnapshot_users = [\"123456789012\"]\ntags = { A = \"b\" }\ndeprecate_at = \"2030-01-01T00:00:00Z\""},
		{typeEBS, "encrypt_boot = true\nami_regions = [\"eu-west-1\"]"},
		{typeEBS, "spot_price = \"auto\"\nassociate_public_ip_address = true"},
		{typeEBS, "temporary_iam_instance_profile_policy_document {\n Statement {\n Action = [\"s3:*\"]\n Effect = \"Allow\"\n Resource = [\"*\"]\n }\n}"},
		{typeSurrogate, surrogateDisks},
		{typeSurrogate, surrogateDisks + "use_create_image = true"},
		{typeVolume, "ebs_volumes {\n device_name = \"/dev/sdf\"\n volume_size = 1\n snapshot_volume = true\n tags = { X = \"y\" }\n}"},
	} {
		t.Run(c.typ, func(t *testing.T) { g.local(t, cloud, c.typ, c.more) })
	}
}

// localEnv turns on the tests that serve a local cloud.
const localEnv = "INGOT_TEST_AMAZON_LOCAL"

func needLocal(t *testing.T) {
	t.Helper()
	if testing.Short() || os.Getenv(localEnv) == "" {
		t.Skip(localEnv + " is not set")
	}
}

// newLocalRig serves a local cloud with one base image.
func newLocalRig(t *testing.T) (*rig, *cloudtest.Cloud) {
	t.Helper()
	cloud := cloudtest.New(t)
	disk := filepath.Join(t.TempDir(), "disk.raw")
	ok(t, os.WriteFile(disk, bytes.Repeat([]byte("disk"), 1<<18), 0o600))
	bases, err := cloud.RegisterBase(t.Context(), localcloud.BaseImage{Path: disk, Format: "raw", Name: "debian-13-amd64-20260101-1", Arch: "x86_64", Created: start, SizeGiB: 1})
	ok(t, err)
	g := &rig{t: t, base: bases["us-east-1"], wire: &wire{to: cloud.URL}}
	srv := httptest.NewServer(g.wire)
	t.Cleanup(srv.Close)
	g.at = func(context.Context) (*awsaccess.Endpoint, error) {
		return &awsaccess.Endpoint{URL: srv.URL, Region: "us-east-1", AccessKey: cloud.Key.AccessKey, SecretKey: secret.New(cloud.Key.Secret)}, nil
	}
	c := awsaccess.Config{Region: "us-east-1"}
	ok(t, c.Prepare())
	g.sess, err = awsaccess.Open(t.Context(), c, "test", g.at)
	ok(t, err)
	return g, cloud
}

func (g *rig) local(t *testing.T, cloud *cloudtest.Cloud, typ, more string) {
	run := "run-" + randomHex(4)
	info := builder.Info{Name: "a", Type: typ, Build: typ + ".a", RunID: run, Template: "sha256:abc"}
	dir := filepath.Join(t.TempDir(), "run")
	j, err := journal.Create(dir, time.Now, journal.Header{Run: run, Builds: []string{info.Build}})
	ok(t, err)
	defer j.Close()
	o := opener{version: "test", start: time.Now(), at: g.at}
	body := fmt.Sprintf("region = \"us-east-1\"\nsource_ami = %q\ninstance_type = \"t3.micro\"\nssh_username = \"admin\"\n", g.base) + more
	if typ != typeVolume {
		body += "\nami_name = \"" + run + "\"\n"
	}
	b := o.openAny(t, typ, body, info)
	before := len(cloud.Calls())
	r := builder.NewRun(info, t.TempDir(), event.Discard, j, nil)
	g.t = t
	began := time.Now()
	set, err := g.bake(provisioned{b}, r)
	ctx, stop := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Minute)
	defer stop()
	if derr := b.Discard(ctx, r); derr != nil {
		t.Errorf("discard: %v", derr)
	}
	ok(t, err)
	calls := cloud.Calls()[before:]
	t.Logf("%s in %s, %d calls: %s", set.ID, time.Since(began).Round(time.Millisecond), len(calls), strings.ReplaceAll(strings.Join(calls, " "), "ec2:", ""))
	var left []string
	for _, id := range g.left(run, "eu-west-1", "us-west-2", "ap-southeast-1") {
		if !strings.Contains(set.ID, id) {
			left = append(left, id)
		}
	}
	if len(left) > 0 {
		t.Errorf("left: %q of %q", left, set.ID)
	}
	for _, i := range set.Images {
		out, err := g.sess.EC2(i.Region).DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{i.ID}})
		ok(t, err)
		tags := tagMap(out.Images[0].Tags)
		if tags[tagArch] != "x86_64" || tags[tagSource] != g.base || tags[tagRun] != run || tags[tagTemplate] != "sha256:abc" {
			t.Errorf("%s: tags %v", i.Region, tags)
		}
	}
}

// provisioned runs a command on each guest.
type provisioned struct{ builder.Builder }

func (p provisioned) Boot(ctx context.Context, r *builder.Run) (communicator.Guest, error) {
	g, err := p.Builder.Boot(ctx, r)
	if err != nil {
		return g, err
	}
	var out bytes.Buffer
	if err := g.Run(ctx, communicator.Cmd{Line: "echo hello", Stdout: &out}); err != nil || strings.TrimSpace(out.String()) != "hello" {
		return g, fmt.Errorf("provision: %w: %q", err, out.String())
	}
	return g, nil
}

// TestContract is the suite that every builder passes, with a crash at every
// point where the journal is written.
func TestContract(t *testing.T) {
	needLocal(t)
	g, _ := newLocalRig(t)
	g.sealed = map[string]bool{}
	body := fmt.Sprintf("region = \"us-east-1\"\nsource_ami = %q\ninstance_type = \"t3.micro\"\nssh_username = \"admin\"\n", g.base)
	for _, c := range []struct {
		name, typ, more string
		stride          int
	}{
		{"ebs", typeEBS, "", 4},
		{"spot", typeEBS, "spot_price = \"auto\"", 11},
		{"surrogate", typeSurrogate, surrogateDisks, 11},
		{"swap", typeSurrogate, surrogateDisks + "use_create_image = true", 11},
		{"volume", typeVolume, "ebs_volumes {\n device_name = \"/dev/sdf\"\n volume_size = 1\n snapshot_volume = true\n}", 11},
	} {
		t.Run(c.name, func(t *testing.T) { g.contract(t, c.typ, body+c.more, c.stride) })
	}
}

func (g *rig) contract(t *testing.T, typ, body string, stride int) {
	names := map[string]string{} // by subtest: a build keeps its name in a new process
	buildertest.Run(t, buildertest.Config{
		Stride: stride,
		Open: func(t *testing.T) (builder.Builder, builder.Info) {
			g.t = t
			g.wire.reset(0)
			t.Cleanup(func() {
				if calls := g.wire.calls(); t.Failed() {
					t.Log("the last calls: ", calls[max(0, len(calls)-20):])
				}
			})
			if names[t.Name()] == "" {
				names[t.Name()] = "image-" + randomHex(6)
			}
			text := body
			if typ != typeVolume {
				text += "\nami_name = \"" + names[t.Name()] + "\"\n"
			}
			info := builder.Info{Name: "a", Type: typ, Build: typ + ".a", RunID: suiteRun(t.Name())}
			return opener{version: "test", start: time.Now(), at: g.at}.openAny(t, typ, text, info), info
		},
		Leftovers: func() []string {
			return slices.DeleteFunc(g.left(""), func(id string) bool { return g.sealed[id[strings.LastIndex(id, ":")+1:]] })
		},
		Survives: func(set artifact.Set) error {
			var errs []error
			for _, part := range strings.Split(set.ID, ",") {
				_, id, _ := strings.Cut(part, ":")
				g.sealed[id] = true
				var err error
				switch c := g.sess.EC2(""); {
				case strings.HasPrefix(id, "ami-"):
					_, err = c.DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{id}})
				case strings.HasPrefix(id, "snap-"):
					_, err = c.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
				default:
					_, err = c.DescribeVolumes(t.Context(), &ec2.DescribeVolumesInput{VolumeIds: []string{id}})
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
		Remove: func(artifact.Set) error { return nil },
	})
}

// suiteRun is the run id that the suite gives a subtest.
func suiteRun(test string) string {
	name := strings.ReplaceAll(test[strings.LastIndex(test, "/")+1:], "_", " ")
	crash, rest, crashes := strings.Cut(strings.TrimPrefix(name, "crash "), ", ")
	if crashes {
		return fmt.Sprintf("buildertest-%s-%t", crash, rest == "resume")
	}
	return "buildertest-" + name
}

// openAny opens the builder of that type.
func (o opener) openAny(t testing.TB, typ, body string, info builder.Info) (b builder.Builder) {
	t.Helper()
	var err error
	switch typ {
	case typeEBS:
		var c EBSConfig
		decode(t, typ, body, &c)
		b, err = o.ebs(c, info)
	case typeSurrogate:
		var c SurrogateConfig
		decode(t, typ, body, &c)
		b, err = o.surrogate(c, info)
	default:
		var c VolumeConfig
		decode(t, typ, body, &c)
		b, err = o.volume(c, info)
	}
	ok(t, err)
	return b
}

// TestLostAnswers loses the answer to each call in turn, after it had its
// effect.
func TestLostAnswers(t *testing.T) {
	needLocal(t)
	g, cloud := newLocalRig(t)
	for n := 1; ; n++ {
		g.wire.reset(n)
		name := fmt.Sprint("call ", n)
		over := false
		t.Run(name, func(t *testing.T) {
			g.local(t, cloud, typeEBS, "ami_regions = [\"eu-west-1\"]\nsnapshot_users = [\"123456789012\"]")
			calls := g.wire.calls()
			if over = n > len(calls); !over {
				t.Log("lost: ", calls[n-1])
			}
		})
		if over || t.Failed() {
			break
		}
	}
}
