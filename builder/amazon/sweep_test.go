package amazon

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/internal/localcloud"
)

// A mortal log kills its process at a record: from then on it takes none, and
// the process' context is over.
type mortal struct {
	builder.Log
	mu   sync.Mutex
	left int // records until then
	die  context.CancelCauseFunc
}

var errKilled = errors.New("killed")

func (l *mortal) Append(r journal.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.left--; l.left < 0 {
		l.die(errKilled)
		return errKilled
	}
	return l.Log.Append(r)
}

// killed runs a build that dies after so many records, and forgets its
// journal. whole reports that it did not die.
func (g *rig) killed(t *testing.T, b baking, after int) (set artifact.Set, whole bool) {
	t.Helper()
	run := "run-" + randomHex(6)
	info := builder.Info{Name: "a", Type: b.typ, Build: b.typ + ".a", RunID: run}
	j, err := journal.Create(filepath.Join(t.TempDir(), "run"), time.Now, journal.Header{Run: run, Builds: []string{info.Build}})
	ok(t, err)
	defer j.Close()
	ctx, die := context.WithCancelCause(t.Context())
	defer die(nil)
	m := opener{version: "test", start: time.Now(), at: g.at}.any(t, b.typ, g.options(b.typ, run, b.more), info)
	r := builder.NewRun(info, t.TempDir(), event.Discard, &mortal{Log: j, left: after, die: die}, nil)
	set, err = b.run(ctx, m.steps(), r)
	if err == nil {
		err = m.steps().Discard(ctx, r)
	}
	if err == nil {
		return set, true
	}
	if ctx.Err() == nil {
		t.Fatal(err)
	}
	return set, false
}

// swept removes everything that a sweep finds, until it finds nothing.
func (g *rig) swept(t *testing.T) (found []string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	o := opener{version: "test", at: g.at}
	for {
		finds, err := o.sweep(ctx, builder.SweepOptions{AllRegions: true})
		ok(t, err)
		if len(finds) == 0 {
			return found
		}
		for _, f := range finds {
			if f.Run == "" {
				t.Errorf("%s %s is of no run", f.Kind, f.ID)
			}
			found = append(found, f.Kind)
			ok(t, f.Remove(ctx))
		}
	}
}

// TestSweep kills builds of each kind at points spread over them, with the
// journal gone: what is left is found by its tags alone, and goes.
func TestSweep(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	for _, c := range []struct {
		name, typ, more string
		stride          int
		kinds           []string // that must be found at some point
	}{
		{"ebs", typeEBS, "ami_regions = [\"eu-west-1\"]", 4, []string{"instance", "key pair", "security group", "image", "snapshot"}},
		{"spot", typeEBS, "spot_price = \"auto\"" + ownProfile, 6, []string{"launch template", "instance profile"}},
		{"encrypted", typeEBS, "encrypt_boot = true\nami_regions = [\"eu-west-1\"]", 7, []string{"image"}},
		{"surrogate", typeSurrogate, surrogateDisks, 5, []string{"snapshot"}},
		{"volume", typeVolume, ownVolume, 3, []string{"volume"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			g := newRig(t)
			before := g.census(t)
			found := map[string]bool{}
			for n := 1; ; n += c.stride {
				set, whole := g.killed(t, baking{typ: c.typ, more: c.more}, n)
				if whole {
					// An artifact is not found, nor anything of it.
					if kinds := g.swept(t); len(kinds) > 0 {
						t.Errorf("a sweep found %q of a build that is finished", kinds)
					}
					g.nothingBut(t, before, set)
					break
				}
				for _, k := range g.swept(t) {
					found[k] = true
				}
				// A build that died behind the seal of its image leaves that one.
				now := g.census(t)
				maps.DeleteFunc(now, func(id, _ string) bool { return before[id] != "" || g.sealedID(t, id) })
				if len(now) > 0 {
					t.Fatalf("killed after %d records, and left: %q", n, slices.Sorted(maps.Values(now)))
				}
				before = g.census(t)
			}
			for _, k := range c.kinds {
				if !found[k] {
					t.Errorf("no %s was found at any point, but %v", k, slices.Sorted(maps.Keys(found)))
				}
			}
		})
	}
}

// sealedID reports whether the thing is marked as part of an artifact.
func (g *rig) sealedID(t *testing.T, id string) bool {
	t.Helper()
	for _, region := range []string{home, away} {
		if tags := g.tagsOf(t, region, id); tags[tagState] == stateSealed {
			return true
		}
	}
	return false
}

// Neither what has no mark of a run nor what a finished build made is found,
// and a mark that was taken away keeps a thing.
func TestSweepLeavesTheRest(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	b := g.bake(t, baking{typ: typeEBS, more: "ami_regions = [\"eu-west-1\"]\nlaunch_block_device_mappings {\n device_name = \"/dev/sdf\"\n volume_size = 1\n}"})
	ok(t, errors.Join(b.err, b.discard))
	if b.set.Images[0].Tags[tagState] != stateSealed {
		t.Errorf("tags of the artifact: %v", b.set.Images[0].Tags)
	}
	if kinds := g.swept(t); len(kinds) > 0 {
		t.Errorf("found %q", kinds)
	}
	if _, err := (opener{version: "test", at: g.at}).sweep(t.Context(), builder.SweepOptions{Regions: []string{"mars-north-1"}}); err == nil {
		t.Error("a region that is not there was looked into")
	}
}

// Another account's credentials are refused: what they do not find would be
// taken to be gone.
func TestReopenInAnotherAccount(t *testing.T) {
	g := newRig(t)
	t.Setenv("AWS_ENDPOINT_URL", g.cloud.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", g.cloud.Key.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", g.cloud.Key.Secret)
	for account, text := range map[string]string{localcloud.AccountID: "", "999999999999": "the account 999999999999"} {
		place := fmt.Appendf(nil, `{"region":"us-east-1","account":%q,"keys":true}`, account)
		run := "run-" + randomHex(6)
		info := builder.Info{Name: "a", Type: typeEBS, Build: "amazon-ebs.a", RunID: run}
		b, err := opener{version: "test"}.reopen(typeEBS)(place, info)
		ok(t, err)
		j, err := journal.Create(filepath.Join(t.TempDir(), "run"), time.Now, journal.Header{Run: run, Builds: []string{info.Build}})
		ok(t, err)
		r := builder.NewRun(info, t.TempDir(), event.Discard, j, nil)
		ok(t, errors.Join(r.Record(journal.KindBegin, "instance", nil), r.Record(journal.KindState, "", state{Region: home, Instance: instanceState{Begun: true}})))
		err = b.Discard(t.Context(), r)
		if text == "" && err != nil || text != "" && (err == nil || !strings.Contains(err.Error(), text) || diag.Hint(err) == "") {
			t.Errorf("account %s: %v", account, err)
		}
		_ = j.Close()
	}
}

// A sweep that was not told where to look does not ask AWS where nobody has
// set up credentials.
func TestSweepWithoutCredentials(t *testing.T) {
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("HOME", t.TempDir())
	if _, err := (opener{version: "test"}).sweep(t.Context(), builder.SweepOptions{}); !errors.Is(err, builder.ErrNotAsked) {
		t.Errorf("%v", err)
	}
}

// tagsOf are the tags of a thing of EC2.
func (g *rig) tagsOf(t *testing.T, region, id string) map[string]string {
	t.Helper()
	out, err := g.sess.EC2(region).DescribeTags(t.Context(), &ec2.DescribeTagsInput{
		Filters: []types.Filter{{Name: aws.String("resource-id"), Values: []string{id}}},
	})
	ok(t, err)
	tags := map[string]string{}
	for _, d := range out.Tags {
		tags[aws.ToString(d.Key)] = aws.ToString(d.Value)
	}
	return tags
}
