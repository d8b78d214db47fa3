package storage

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) defaults() awswire.Operations {
	return awswire.Operations{
		"GetEbsEncryptionByDefault":         awswire.Op(a.getEncryption),
		"EnableEbsEncryptionByDefault":      awswire.Op(a.enableEncryption),
		"DisableEbsEncryptionByDefault":     awswire.Op(a.disableEncryption),
		"GetEbsDefaultKmsKeyId":             awswire.Op(a.getKey),
		"ModifyEbsDefaultKmsKeyId":          awswire.Op(a.modifyKey),
		"ResetEbsDefaultKmsKeyId":           awswire.Op(a.resetKey),
		"EnableImageBlockPublicAccess":      awswire.Op(a.blockImages),
		"DisableImageBlockPublicAccess":     awswire.Op(a.unblockImages),
		"EnableSnapshotBlockPublicAccess":   awswire.Op(a.blockSnapshots),
		"DisableSnapshotBlockPublicAccess":  awswire.Op(a.unblockSnapshots),
		"GetImageBlockPublicAccessState":    awswire.Op(a.imageBlock),
		"GetSnapshotBlockPublicAccessState": awswire.Op(a.snapshotBlock),
	}
}

type encryptionOut struct {
	On bool `xml:"ebsEncryptionByDefault"`
}

func (a *api) getEncryption(ctx context.Context, c *awswire.Call, in *ec2wire.DryRun) (*encryptionOut, error) {
	d, err := a.cloud.EBSDefaults(ctx, c.Region)
	if err == nil {
		err = in.Check()
	}
	return &encryptionOut{d.Encrypted}, err
}

func (a *api) setEncryption(ctx context.Context, c *awswire.Call, in *ec2wire.DryRun, on bool) (*encryptionOut, error) {
	d, err := a.cloud.ChangeEBSDefaults(dry(ctx, *in), c.Region, func(d *localcloud.EBSDefaults) error {
		d.Encrypted = on
		return nil
	})
	return &encryptionOut{d.Encrypted}, err
}

func (a *api) enableEncryption(ctx context.Context, c *awswire.Call, in *ec2wire.DryRun) (*encryptionOut, error) {
	return a.setEncryption(ctx, c, in, true)
}

func (a *api) disableEncryption(ctx context.Context, c *awswire.Call, in *ec2wire.DryRun) (*encryptionOut, error) {
	return a.setEncryption(ctx, c, in, false)
}

type keyOut struct {
	ID string `xml:"kmsKeyId"`
}

func (a *api) getKey(ctx context.Context, c *awswire.Call, in *ec2wire.DryRun) (*keyOut, error) {
	d, err := a.cloud.EBSDefaults(ctx, c.Region)
	if err == nil {
		err = in.Check()
	}
	return &keyOut{d.KMSKeyID}, err
}

type modifyKeyIn struct {
	ec2wire.DryRun
	Key string `q:"KmsKeyId,required"`
}

func (a *api) modifyKey(ctx context.Context, c *awswire.Call, in *modifyKeyIn) (*keyOut, error) {
	d, err := a.cloud.ChangeEBSDefaults(dry(ctx, in.DryRun), c.Region, func(d *localcloud.EBSDefaults) (err error) {
		d.KMSKeyID, err = localcloud.KeyARN(c.Region, in.Key)
		return err
	})
	return &keyOut{d.KMSKeyID}, err
}

func (a *api) resetKey(ctx context.Context, c *awswire.Call, in *ec2wire.DryRun) (*keyOut, error) {
	d, err := a.cloud.ChangeEBSDefaults(dry(ctx, *in), c.Region, func(d *localcloud.EBSDefaults) error {
		d.KMSKeyID = ""
		return nil
	})
	return &keyOut{d.KMSKeyID}, err
}

type imageBlockOut struct {
	State   string `xml:"imageBlockPublicAccessState"`
	Managed string `xml:"managedBy,omitempty"`
}

func blocked(state string) string {
	if state == "" {
		return "unblocked"
	}
	return state
}

func (a *api) imageBlock(ctx context.Context, c *awswire.Call, in *ec2wire.DryRun) (*imageBlockOut, error) {
	d, err := a.cloud.EBSDefaults(ctx, c.Region)
	if err == nil {
		err = in.Check()
	}
	return &imageBlockOut{blocked(d.BlockImages), "account"}, err
}

type blockImagesIn struct {
	ec2wire.DryRun
	State string `q:"ImageBlockPublicAccessState,required"`
}

func (a *api) blockImages(ctx context.Context, c *awswire.Call, in *blockImagesIn) (*imageBlockOut, error) {
	if in.State != "block-new-sharing" {
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter imageBlockPublicAccessState is invalid. It must be block-new-sharing", in.State)
	}
	return a.setImageBlock(dry(ctx, in.DryRun), c.Region, in.State)
}

func (a *api) unblockImages(ctx context.Context, c *awswire.Call, in *ec2wire.DryRun) (*imageBlockOut, error) {
	return a.setImageBlock(dry(ctx, *in), c.Region, "")
}

func (a *api) setImageBlock(ctx context.Context, region, state string) (*imageBlockOut, error) {
	_, err := a.cloud.ChangeEBSDefaults(ctx, region, func(d *localcloud.EBSDefaults) error {
		d.BlockImages = state
		return nil
	})
	return &imageBlockOut{State: blocked(state)}, err
}

type snapshotBlockOut struct {
	State   string `xml:"state"`
	Managed string `xml:"managedBy,omitempty"`
}

func (a *api) snapshotBlock(ctx context.Context, c *awswire.Call, in *ec2wire.DryRun) (*snapshotBlockOut, error) {
	d, err := a.cloud.EBSDefaults(ctx, c.Region)
	if err == nil {
		err = in.Check()
	}
	return &snapshotBlockOut{blocked(d.BlockSnapshots), "account"}, err
}

type blockSnapshotsIn struct {
	ec2wire.DryRun
	State string `q:"State,required"`
}

func (a *api) blockSnapshots(ctx context.Context, c *awswire.Call, in *blockSnapshotsIn) (*snapshotBlockOut, error) {
	if in.State != "block-new-sharing" && in.State != "block-all-sharing" {
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter state is invalid. It must be block-all-sharing or block-new-sharing", in.State)
	}
	return a.setSnapshotBlock(dry(ctx, in.DryRun), c.Region, in.State)
}

func (a *api) unblockSnapshots(ctx context.Context, c *awswire.Call, in *ec2wire.DryRun) (*snapshotBlockOut, error) {
	return a.setSnapshotBlock(dry(ctx, *in), c.Region, "")
}

func (a *api) setSnapshotBlock(ctx context.Context, region, state string) (*snapshotBlockOut, error) {
	_, err := a.cloud.ChangeEBSDefaults(ctx, region, func(d *localcloud.EBSDefaults) error {
		d.BlockSnapshots = state
		return nil
	})
	return &snapshotBlockOut{State: blocked(state)}, err
}
