// Package amazonimport is the post-processor "amazon-import": it makes an AMI
// of a disk image that is here.
//
// It sends the disk's blocks to a snapshot by the EBS direct APIs and registers
// that, which takes no bucket and no role, or uploads a file to S3 and has EC2
// import it, where the options ask for what only that can do.
package amazonimport

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/postprocessor"
)

// BuilderID is Packer's id of what this makes.
const BuilderID = "packer.post-processor.amazon-import"

const provider = "amazon"

// Driver returns the post-processor "amazon-import". Its input is dropped
// unless keep_input_artifact says otherwise.
func Driver(version string, at awsaccess.Locator) postprocessor.Driver {
	return postprocessor.NewDriver("amazon-import", postprocessor.DropInput,
		func(c Config, b postprocessor.Build) (postprocessor.PostProcessor, error) {
			err := c.prepare()
			return &importer{cfg: c, build: b, version: version, at: at, start: time.Now()}, err
		})
}

type importer struct {
	cfg     Config
	build   postprocessor.Build
	version string
	at      awsaccess.Locator
	start   time.Time
}

var _ postprocessor.PostProcessor = (*importer)(nil)

// A job is one image being made.
type job struct {
	Options
	sess    *awsaccess.Session
	ec2     ec2API
	build   postprocessor.Build
	version string
	out     event.Sink
	src     source
	token   string // the same for the same run, input and options
	line    string // the same for all runs with these options
	arch    artifact.Arch
	boot    artifact.BootMode
}

// Process implements [postprocessor.PostProcessor]. Called again with the same
// run, input and options it finds what it had made. When it fails nothing it
// made is left, but for an upload that a fault of the network ended: that goes
// on when Process is called again within the hour, and EBS drops it otherwise.
func (p *importer) Process(ctx context.Context, in artifact.Set, out event.Sink) (artifact.Set, error) {
	j := &job{Options: p.cfg.Options, build: p.build, version: p.version, out: out}
	if err := j.render(p.build, p.version, p.start); err != nil {
		return artifact.Set{}, err
	}
	var err error
	if j.src, err = findSource(in, j.Format); err != nil {
		return artifact.Set{}, err
	}
	method, err := j.method()
	if err != nil {
		return artifact.Set{}, err
	}
	if err := j.settleNature(in, method); err != nil {
		return artifact.Set{}, err
	}
	if j.sess, err = awsaccess.Open(ctx, p.cfg.Config, p.version, p.at); err != nil {
		return artifact.Set{}, err
	}
	j.ec2 = j.sess.EC2("")
	if j.token, err = p.token(j.src, j.sess.Region()); err != nil {
		return artifact.Set{}, err
	}
	if j.line, err = p.line(j.sess.Region()); err != nil {
		return artifact.Set{}, err
	}
	var img image
	if method == methodDirect {
		img, err = j.direct(ctx)
	} else {
		img, err = j.imported(ctx, p.start)
	}
	if err != nil {
		return artifact.Set{}, awsaccess.Explain(ctx, j.sess, err)
	}
	return j.artifact(in, img), nil
}

// method decides how to import and says so.
func (j *job) method() (string, error) {
	m := j.ImportMethod
	if m == "" {
		m = methodDirect
		if j.onlyImport() != "" || j.src.format == "ova" {
			m = methodImport
		}
	}
	switch {
	case m == methodDirect && j.src.format == "ova":
		return "", diag.WithHint(diag.Fieldf("import_method", "%s cannot read %s, an .ova", methodDirect, j.src.path), "use %s, or an image that is a disk", methodImport)
	case m == methodImport && j.S3Bucket == "":
		return "", diag.Fieldf("s3_bucket_name", "must be set: EC2 imports %s from a bucket", j.src.path)
	case m == methodImport && j.src.format == "qcow2":
		return "", diag.WithHint(fmt.Errorf("EC2 cannot import %s, a qcow2 image", j.src.path),
			"have the builder write raw, or leave import_method, license_type, role_name and platform = \"windows\" out")
	case m == methodDirect && j.S3Bucket != "":
		j.say("Uploading by the EBS direct APIs: bucket %s is not needed and not used (import_method = %q would use it)", j.S3Bucket, methodImport)
	}
	return m, nil
}

// settleNature decides architecture and firmware, and refuses an image that
// would not boot.
func (j *job) settleNature(in artifact.Set, method string) error {
	var known artifact.SystemImage
	if len(in.Images) > 0 {
		known = in.Images[0]
	}
	j.arch = artifact.X8664
	if known.Arch != "" {
		j.arch = known.Arch
	}
	if j.Architecture != "" {
		want, err := artifact.ParseArch(j.Architecture)
		if err != nil {
			return diag.Fieldf("architecture", "%w", err)
		}
		if known.Arch != "" && want != known.Arch {
			return diag.Fieldf("architecture", "is %s, but the image to import is %s", want, known.Arch)
		}
		j.arch = want
	}
	j.boot = artifact.BootMode(j.BootMode)
	if j.boot == "" && method == methodDirect {
		j.boot = known.Boot
	}
	if j.boot == "" {
		j.boot = artifact.BIOS
		if j.arch == artifact.ARM64 {
			j.boot = artifact.UEFI
		}
	}
	if j.arch == artifact.ARM64 && j.boot != artifact.UEFI {
		return diag.Fieldf("boot_mode", "is %s, but an arm64 image boots with uefi only", j.boot)
	}
	return nil
}

// token names the job: the same run, input and options give the same.
func (p *importer) token(src source, region string) (string, error) {
	id, err := src.identity()
	if err != nil {
		return "", err
	}
	return p.hash(region, p.build.RunID, id)
}

// line names the succession of images that the same options make.
func (p *importer) line(region string) (string, error) { return p.hash(region) }

func (p *importer) hash(more ...string) (string, error) {
	js, err := json.Marshal([]any{1, p.build.Name, p.cfg.AccessKey, p.cfg.Profile, p.cfg.Options, more})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(js)
	return hex.EncodeToString(sum[:20]), nil
}

func (j *job) artifact(in artifact.Set, img image) artifact.Set {
	region := j.sess.Region()
	return artifact.Set{
		BuilderID: BuilderID, ID: region + ":" + img.id, Text: "AMIs were created:\n" + region + ": " + img.id + "\n",
		Data: in.Data,
		Images: []artifact.SystemImage{{
			Ref: artifact.Ref{Provider: provider, Region: region, ID: img.id}, Name: img.name,
			Arch: j.arch, Virtualization: artifact.HVM, Boot: j.boot, Digest: j.src.digest,
			Disks: []artifact.Disk{{Device: rootDevice, Size: img.gib << 30}},
			Tags:  img.tags, Created: img.created,
		}},
	}
}

func (j *job) say(format string, args ...any) {
	j.out.Emit(event.Say{Text: fmt.Sprintf(format, args...)})
}

func (j *job) warn(format string, args ...any) {
	j.out.Emit(event.Warn{Text: fmt.Sprintf(format, args...)})
}

// cleanUp runs f on a context that outlives ctx and joins its error to err.
func cleanUp(ctx context.Context, err error, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	return errors.Join(err, f(ctx))
}
