package amazonimport

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
)

const (
	taskTime = 6 * time.Hour
	roleTime = 30 * time.Second // a role just made is not known everywhere
)

// imported makes the image with EC2's ImportImage.
func (j *job) imported(ctx context.Context, start time.Time) (img image, err error) {
	if j.Name != "" {
		img, found, err := j.named(ctx, j.Name)
		if err != nil {
			return image{}, err
		}
		if found {
			return j.finish(ctx, img)
		}
	}
	client := j.sess.S3("")
	task, key, err := j.task(ctx)
	if err != nil {
		return image{}, err
	}
	if task == "" {
		if key, err = j.key(start); err != nil {
			return image{}, err
		}
		if err = j.put(ctx, client, key); err != nil {
			return image{}, err
		}
		task, err = j.startTask(ctx, key)
	}
	var id string
	if err == nil {
		id, err = j.follow(ctx, task)
	}
	if id == "" {
		return image{}, cleanUp(ctx, err, func(ctx context.Context) error {
			return errors.Join(j.cancel(ctx, task), j.deleteObject(ctx, client, key))
		})
	}
	if !j.SkipClean {
		if derr := cleanUp(ctx, nil, func(ctx context.Context) error { return j.deleteObject(ctx, client, key) }); derr != nil {
			j.warn("The uploaded file is left: %s", derr)
		}
	}
	first, err := j.available(ctx, id)
	img = first
	if err == nil && j.Name != "" {
		img, err = j.rename(ctx, first)
	}
	if err != nil {
		first.id = id
		return image{}, cleanUp(ctx, err, func(ctx context.Context) error { return j.remove(ctx, first) })
	}
	return j.finish(ctx, img)
}

// finish gives the image its attributes; when that fails there is no image.
func (j *job) finish(ctx context.Context, img image) (image, error) {
	err := j.attributes(ctx, img)
	done := img
	if err == nil {
		done, err = j.available(ctx, img.id)
	}
	if err != nil {
		return image{}, cleanUp(ctx, err, func(ctx context.Context) error { return j.remove(ctx, img) })
	}
	return done, nil
}

func (j *job) attributes(ctx context.Context, img image) error {
	_, err := j.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: append([]string{img.id}, img.snaps...), Tags: ec2Tags(j.allTags())})
	if err != nil {
		return fmt.Errorf("tag image %s: %w", img.id, err)
	}
	if j.Description != "" {
		_, err := j.ec2.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{
			ImageId: &img.id, Description: &types.AttributeValue{Value: &j.Description},
		})
		if err != nil {
			return fmt.Errorf("describe image %s: %w", img.id, err)
		}
	}
	if j.IMDSSupport != "" {
		_, err := j.ec2.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{
			ImageId: &img.id, ImdsSupport: &types.AttributeValue{Value: &j.IMDSSupport},
		})
		if err != nil {
			return fmt.Errorf("metadata service of image %s: %w", img.id, err)
		}
	}
	return j.share(ctx, img.id)
}

// key is the name of the object, which says what the file is.
func (j *job) key(start time.Time) (string, error) {
	if j.S3Key == "" {
		o := Options{S3Key: defaultKey + j.src.format}
		err := o.render(j.build, j.version, start)
		return o.S3Key, err
	}
	return j.S3Key, nil
}

// task returns a task that this job has begun before, with its object.
func (j *job) task(ctx context.Context) (id, key string, err error) {
	out, err := j.ec2.DescribeImportImageTasks(ctx, &ec2.DescribeImportImageTasksInput{
		Filters: []types.Filter{{Name: aws.String("tag:" + tagImport), Values: []string{j.token}}},
	})
	if err != nil {
		return "", "", fmt.Errorf("look for an import: %w", err)
	}
	for _, t := range out.ImportImageTasks {
		if s := aws.ToString(t.Status); s != "active" && s != "completed" {
			continue
		}
		for _, d := range t.SnapshotDetails {
			if d.UserBucket != nil {
				key = aws.ToString(d.UserBucket.S3Key)
			}
		}
		return aws.ToString(t.ImportTaskId), key, nil
	}
	return "", "", nil
}

func (j *job) startTask(ctx context.Context, key string) (string, error) {
	in := &ec2.ImportImageInput{
		Architecture: aws.String(string(j.arch)), BootMode: types.BootModeValues(j.boot), Description: aws.String(j.describe()),
		// A killed process may have used the token with another object.
		ClientToken: aws.String(j.token[:24] + "-" + shortHash(key)),
		DiskContainers: []types.ImageDiskContainer{{
			Format: aws.String(j.src.format), UserBucket: &types.UserBucket{S3Bucket: &j.S3Bucket, S3Key: &key},
		}},
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeImportImageTask, Tags: ec2Tags(j.allTags())}},
	}
	for _, o := range []struct {
		value string
		field **string
	}{{j.LicenseType, &in.LicenseType}, {j.Platform, &in.Platform}, {j.RoleName, &in.RoleName}} {
		if o.value != "" {
			*o.field = aws.String(o.value)
		}
	}
	if j.Encrypt {
		in.Encrypted = aws.Bool(true)
		if j.KMSKey != "" {
			in.KmsKeyId = &j.KMSKey
		}
	}
	j.say("Importing s3://%s/%s", j.S3Bucket, key)
	var out *ec2.ImportImageOutput
	var refused error
	err := j.sess.Wait(ctx, roleTime, func(ctx context.Context) (_ bool, err error) {
		out, err = j.ec2.ImportImage(ctx, in)
		refused = err
		if awsaccess.Code(err) == "InvalidParameter" && strings.Contains(strings.ToLower(err.Error()), "role") {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		if refused != nil {
			err = refused
		}
		if strings.Contains(strings.ToLower(err.Error()), "role") {
			err = diag.WithHint(err, "EC2 needs the role %s with access to the bucket (docs.aws.amazon.com/vm-import/latest/userguide/required-permissions.html); import_method = %q needs none", j.role(), methodDirect)
		}
		return "", fmt.Errorf("import image: %w", err)
	}
	return aws.ToString(out.ImportTaskId), nil
}

func (j *job) role() string {
	if j.RoleName != "" {
		return j.RoleName
	}
	return "vmimport"
}

// follow waits for the task and returns its image.
func (j *job) follow(ctx context.Context, task string) (string, error) {
	id, told := "", ""
	err := j.sess.Wait(ctx, taskTime, func(ctx context.Context) (bool, error) {
		out, err := j.ec2.DescribeImportImageTasks(ctx, &ec2.DescribeImportImageTasksInput{ImportTaskIds: []string{task}})
		if err != nil || len(out.ImportImageTasks) == 0 {
			return false, err
		}
		t := out.ImportImageTasks[0]
		text := strings.TrimSpace(aws.ToString(t.StatusMessage) + " " + aws.ToString(t.Progress))
		if text != told {
			told = text
			j.out.Emit(event.Detail{Text: "import " + task + ": " + text})
		}
		switch aws.ToString(t.Status) {
		case "completed":
			id = aws.ToString(t.ImageId)
			if id == "" {
				return false, errors.New("it names no image")
			}
			return true, nil
		case "deleting", "deleted":
			return false, errors.New(aws.ToString(t.StatusMessage))
		}
		return false, nil
	})
	if err != nil {
		return "", fmt.Errorf("import %s: %w", task, err)
	}
	return id, nil
}

// cancel ends a task that has not made an image.
func (j *job) cancel(ctx context.Context, task string) error {
	if task == "" {
		return nil
	}
	_, err := j.ec2.CancelImportTask(ctx, &ec2.CancelImportTaskInput{ImportTaskId: &task})
	if c := awsaccess.Code(err); err != nil && !strings.HasPrefix(c, "InvalidConversionTaskId") && c != "InvalidImportTaskId.NotFound" && c != "InvalidParameter" {
		return fmt.Errorf("cancel import %s: %w", task, err)
	}
	return nil
}

// rename copies the image under the name that was asked for, which an import
// cannot give, and removes the first.
func (j *job) rename(ctx context.Context, img image) (image, error) {
	j.say("Copying %s to the name %s", img.id, j.Name)
	in := &ec2.CopyImageInput{
		Name: &j.Name, SourceImageId: &img.id, SourceRegion: aws.String(j.sess.Region()), ClientToken: aws.String(j.token),
		TagSpecifications: []types.TagSpecification{
			{ResourceType: types.ResourceTypeImage, Tags: ec2Tags(j.allTags())},
			{ResourceType: types.ResourceTypeSnapshot, Tags: ec2Tags(j.allTags())},
		},
	}
	if j.Description != "" {
		in.Description = &j.Description
	}
	if j.Encrypt {
		in.Encrypted = aws.Bool(true)
		if j.KMSKey != "" {
			in.KmsKeyId = &j.KMSKey
		}
	}
	out, err := j.ec2.CopyImage(ctx, in)
	if err != nil {
		return img, fmt.Errorf("copy image %s: %w", img.id, err)
	}
	id := aws.ToString(out.ImageId)
	named, err := j.available(ctx, id)
	if err != nil {
		return img, cleanUp(ctx, err, func(ctx context.Context) error { return j.remove(ctx, image{id: id}) })
	}
	if err := j.remove(ctx, img); err != nil {
		j.warn("The image that %s was copied from is left: %s", named.id, err)
	}
	return named, nil
}
