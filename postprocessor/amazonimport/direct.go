package amazonimport

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/ebsdirect"
	"github.com/ingot-build/ingot/internal/event"
)

// direct makes the image from a snapshot of the disk.
func (j *job) direct(ctx context.Context) (image, error) {
	name := j.Name
	if name == "" {
		name = "packer-import-" + unclean.ReplaceAllString(j.build.Name, "-")
		name = name[:min(len(name), 100)] + "-" + j.token[:12]
	}
	// The name first: the upload would be in vain.
	img, found, err := j.named(ctx, name)
	if err != nil {
		return image{}, err
	}
	if !found {
		if img, err = j.register(ctx, name); err != nil {
			return image{}, err
		}
	}
	done, err := j.available(ctx, img.id)
	if err == nil {
		err = j.share(ctx, img.id)
	}
	if err != nil {
		return image{}, cleanUp(ctx, err, func(ctx context.Context) error { return j.remove(ctx, img) })
	}
	return done, nil
}

// register uploads the disk and makes an image of it.
func (j *job) register(ctx context.Context, name string) (image, error) {
	if j.src.more > 0 {
		j.warn("%s is the first of %d disks; the others are not imported", j.src.path, j.src.more+1)
	}
	rec, err := j.memory(inUploads, j.token)
	if err != nil {
		return image{}, err
	}
	up := &ebsdirect.Uploader{Blocks: j.sess.EBS(""), Snapshots: j.ec2, Wait: j.sess.Wait}
	if !j.sess.Local() {
		rate := j.BlocksPerSecond
		if rate == 0 {
			rate = ebsdirect.DefaultRate
		}
		up.Pace = ebsdirect.NewPace(float64(rate))
	}
	r, err := j.upload(ctx, up, rec)
	if err == nil {
		var img image
		if img, err = j.registerSnapshot(ctx, name, r); err == nil {
			// The image is there: what is left here is no reason to lose it.
			if ferr := forget(rec); ferr != nil {
				j.warn("The record of the upload is left: %s", ferr)
			}
			j.keep(r, img)
			return img, nil
		}
	}
	return image{}, j.giveUp(ctx, up, rec, r.SnapshotID, err)
}

func forget(rec *ebsdirect.FileRecord) error {
	if rec == nil {
		return nil
	}
	return rec.Remove()
}

// giveUp keeps an upload that a passing fault ended, with its record, and
// removes any other.
func (j *job) giveUp(ctx context.Context, up *ebsdirect.Uploader, rec *ebsdirect.FileRecord, snapshot string, err error) error {
	var begun *ebsdirect.SnapshotError
	if errors.As(err, &begun) {
		snapshot = begun.SnapshotID
	}
	if rec != nil && ctx.Err() == nil && awsaccess.IsTemporary(err) {
		return errors.Join(diag.WithHint(err, "what was sent is kept for an hour: ingot resume goes on from there"), rec.Close())
	}
	if snapshot != "" {
		if derr := up.Discard(ctx, snapshot); derr != nil {
			// The record still names it.
			if rec != nil {
				derr = errors.Join(derr, rec.Close())
			}
			return errors.Join(err, derr)
		}
	}
	return errors.Join(err, forget(rec))
}

func (j *job) upload(ctx context.Context, up *ebsdirect.Uploader, rec *ebsdirect.FileRecord) (_ ebsdirect.Result, err error) {
	disk, closeDisk, err := j.src.open(ctx)
	if err != nil {
		return ebsdirect.Result{}, err
	}
	defer func() { err = errors.Join(err, closeDisk()) }()
	key, err := j.keyARN(ctx)
	if err != nil {
		return ebsdirect.Result{}, err
	}
	j.say("Uploading %s to a snapshot in %s", j.src.path, j.sess.Region())
	meter := event.NewMeter(j.out, "upload "+j.src.path, 0)
	u := ebsdirect.Upload{
		Disk: disk, Token: j.token, Tags: j.allTags(), Description: j.describe(),
		Encrypted: j.Encrypt, KMSKey: key,
		Progress: func(done, total int64) { meter.SetTotal(total); meter.Set(done) },
	}
	if rec != nil {
		u.Record = rec
	}
	if j.Incremental {
		if u.Parent, u.ParentManifest, err = j.last(ctx, disk.Size()); err != nil {
			return ebsdirect.Result{}, err
		}
	}
	r, err := up.Publish(ctx, u)
	if err != nil {
		return r, err
	}
	meter.End()
	j.say("Snapshot %s is complete: %d MiB sent for a disk of %d GiB", r.SnapshotID, int64(r.Sent)*ebsdirect.BlockSize>>20, r.VolumeSize)
	return r, nil
}

func (j *job) describe() string {
	if j.Description != "" {
		return j.Description
	}
	return "Imported by Ingot from " + filepath.Base(j.src.path)
}

// keyARN returns ami_kms_key as the EBS direct APIs want it, which take no
// shorter form.
func (j *job) keyARN(ctx context.Context) (string, error) {
	if !j.Encrypt || j.KMSKey == "" || strings.HasPrefix(j.KMSKey, "arn:") {
		return j.KMSKey, nil
	}
	account, err := j.sess.AccountID(ctx)
	if err != nil {
		return "", err
	}
	key := j.KMSKey
	if !strings.HasPrefix(key, "alias/") {
		key = "key/" + key
	}
	return fmt.Sprintf("arn:%s:kms:%s:%s:%s", j.sess.Partition(), j.sess.Region(), account, key), nil
}

// registerSnapshot makes an image of the snapshot. Architecture and
// virtualization are always said: EC2's defaults are of another age.
func (j *job) registerSnapshot(ctx context.Context, name string, r ebsdirect.Result) (image, error) {
	tags := j.allTags()
	in := &ec2.RegisterImageInput{
		Name: &name, Architecture: types.ArchitectureValues(j.arch), VirtualizationType: aws.String("hvm"),
		BootMode: types.BootModeValues(j.boot), EnaSupport: aws.Bool(true), ImdsSupport: types.ImdsSupportValues(j.IMDSSupport),
		RootDeviceName: aws.String(rootDevice),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String(rootDevice), Ebs: &types.EbsBlockDevice{
			SnapshotId: &r.SnapshotID, VolumeType: types.VolumeTypeGp3, DeleteOnTermination: aws.Bool(true),
		}}},
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeImage, Tags: ec2Tags(tags)}},
	}
	if j.Description != "" {
		in.Description = &j.Description
	}
	if j.arch == "i386" {
		in.EnaSupport = nil
	}
	var img image
	err := j.sess.Once(ctx,
		func(ctx context.Context) (found bool, err error) {
			img, found, err = j.named(ctx, name)
			return found, err
		},
		func(ctx context.Context) error {
			out, err := j.ec2.RegisterImage(ctx, in)
			if err == nil {
				img = image{id: aws.ToString(out.ImageId), name: name, snaps: []string{r.SnapshotID}, gib: r.VolumeSize, tags: tags}
			}
			return err
		})
	if err != nil {
		return image{}, fmt.Errorf("register image %q: %w", name, err)
	}
	j.say("Registered %s (%s) from %s", img.id, name, r.SnapshotID)
	return img, nil
}
