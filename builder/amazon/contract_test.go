package amazon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/builder/buildertest"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/awsaccess"
)

// TestContract is the suite that every builder passes, with a crash at points
// where the journal is written: at every one for amazon-ebs with two copies.
func TestContract(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	const copies = "ami_regions = [\"eu-west-1\", \"us-west-2\"]"
	for _, c := range []struct {
		name, typ, more string
		stride, first   int
	}{
		// Together all points, each part in a cloud that stays small.
		{"ebs/1", typeEBS, copies, 4, 1},
		{"ebs/2", typeEBS, copies, 4, 2},
		{"ebs/3", typeEBS, copies, 4, 3},
		{"ebs/4", typeEBS, copies, 4, 4},
		{"spot", typeEBS, "spot_price = \"auto\"" + ownProfile, 7, 1},
		{"encrypted", typeEBS, "encrypt_boot = true\nami_regions = [\"eu-west-1\"]", 6, 1},
		{"surrogate", typeSurrogate, surrogateDisks, 5, 1},
		{"swap", typeSurrogate, surrogateDisks + "use_create_image = true", 5, 1},
		{"volume", typeVolume, ownVolume, 3, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			contract(t, c.typ, c.more, c.stride, c.first)
		})
	}
}

// contract runs the suite in a cloud of its own: builds of one run have the
// same run id, and would take each other's things for their own.
func contract(t *testing.T, typ, more string, stride, first int) {
	g := newRig(t)
	before := g.census(t)
	names := map[string]string{} // by subtest: a build keeps its name in a new process
	sealed := artifact.Set{}
	buildertest.Run(t, buildertest.Config{
		Stride:    stride,
		First:     first,
		Timeout:   patience,
		Provision: hello,
		Reopen:    opener{version: "test", at: g.at}.reopen(typ),
		Open: func(t *testing.T) (builder.Builder, builder.Info) {
			if names[t.Name()] == "" {
				names[t.Name()] = "image-" + randomHex(6)
				calls := len(g.cloud.Calls())
				t.Cleanup(func() {
					if all := g.cloud.Calls()[calls:]; t.Failed() {
						t.Log("the last calls: ", all[max(0, len(all)-20):])
					}
				})
			}
			info := builder.Info{Name: "a", Type: typ, Build: typ + ".a", RunID: suiteRun(t.Name())}
			m := opener{version: "test", start: time.Now(), at: g.at}.any(t, typ, g.options(typ, names[t.Name()], more), info)
			return m.steps(), info
		},
		Leftovers: func() []string {
			now, parts := g.census(t), g.parts(t, sealed)
			maps.DeleteFunc(now, func(id, _ string) bool { return before[id] != "" || parts[id] })
			return slices.Sorted(maps.Values(now))
		},
		Survives: func(set artifact.Set) error {
			sealed = set
			now := g.census(t)
			for id := range g.parts(t, set) {
				if now[id] == "" {
					return fmt.Errorf("%s is gone", id)
				}
			}
			return nil
		},
		Remove: func(set artifact.Set) error {
			defer func() { sealed = artifact.Set{} }()
			return g.remove(set)
		},
	})
}

// remove removes an artifact as its owner would.
func (g *rig) remove(set artifact.Set) error {
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	var errs []error
	for part := range strings.SplitSeq(set.ID, ",") {
		region, id, _ := strings.Cut(part, ":")
		c := cloud{g.sess.EC2(region), g.sess}
		switch {
		case strings.HasPrefix(id, "vol-"):
			errs = append(errs, c.deleteVolume(ctx, id))
		case strings.HasPrefix(id, "snap-"):
			errs = append(errs, c.deleteSnapshot(ctx, id))
		default:
			i, err := c.awaitImage(ctx, id)
			if err == nil {
				err = c.deregister(ctx, id, ids(snapshotsOf(i)))
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
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

// What keeps a snapshot from being deleted is told, in AWS's words, when the
// time is over that it may take to be free.
func TestSnapshotInUse(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	b := g.must(t, baking{typ: typeEBS})
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	o := awsaccess.Config{Region: home, Polling: &awsaccess.Polling{DelaySeconds: 1, MaxAttempts: 2}}
	ok(t, o.Prepare())
	sess, err := awsaccess.Open(ctx, o, "test", g.at)
	ok(t, err)
	c := cloud{sess.EC2(home), sess}
	snap := g.snapshots(t, home, b.in(t, home))[0].ID
	err = c.deleteSnapshot(ctx, snap)
	wantText(t, "a snapshot in use", err, "currently in use by "+b.in(t, home))
}
