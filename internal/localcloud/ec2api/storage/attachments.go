package storage

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) attachments() awswire.Operations {
	return awswire.Operations{
		"AttachVolume": awswire.Op(a.attachVolume),
		"DetachVolume": awswire.Op(a.detachVolume),
	}
}

type attachVolumeIn struct {
	volumeIn
	InstanceID string `q:"InstanceId,required"`
	Device     string `q:"Device,required"`
}

func (a *api) attachVolume(ctx context.Context, c *awswire.Call, in *attachVolumeIn) (*attachment, error) {
	v, err := a.cloud.AttachVolume(dry(ctx, in.DryRun), c.Region, in.ID, in.InstanceID, in.Device)
	out := attachmentOf(v)
	return &out, err
}

type detachVolumeIn struct {
	volumeIn
	InstanceID string `q:"InstanceId"`
	Device     string `q:"Device"`
	Force      bool   `q:"Force"` // a guest that does not answer is asked as long as it runs all the same
}

func (a *api) detachVolume(ctx context.Context, c *awswire.Call, in *detachVolumeIn) (*attachment, error) {
	v, err := a.cloud.DetachVolume(dry(ctx, in.DryRun), c.Region, in.ID, in.InstanceID, in.Device)
	out := attachmentOf(v)
	return &out, err
}

type volumeAttributeIn struct {
	volumeIn
	Attribute string `q:"Attribute,required"`
}

type volumeAttributeOut struct {
	ID       string      `xml:"volumeId"`
	AutoIO   *boolValue  `xml:"autoEnableIO"`
	Products *emptyItems `xml:"productCodes"`
}

type emptyItems struct{}

func (a *api) describeVolumeAttribute(ctx context.Context, c *awswire.Call, in *volumeAttributeIn) (*volumeAttributeOut, error) {
	vs, err := a.cloud.Volumes(ctx, c.Region, []string{in.ID})
	if err != nil {
		return nil, err
	}
	out := &volumeAttributeOut{ID: in.ID}
	switch in.Attribute {
	case "autoEnableIO":
		out.AutoIO = &boolValue{vs[0].AutoEnableIO}
	case "productCodes":
		out.Products = &emptyItems{}
	default:
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. It must be autoEnableIO or productCodes", in.Attribute)
	}
	return out, in.DryRun.Check()
}

type modifyVolumeAttributeIn struct {
	volumeIn
	AutoIO *boolValue `q:"AutoEnableIO"`
}

func (a *api) modifyVolumeAttribute(ctx context.Context, c *awswire.Call, in *modifyVolumeAttributeIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.Update(dry(ctx, in.DryRun), c.Region, func(t *localcloud.Tx) error {
		v, err := t.FindVolume(in.ID)
		if err != nil || in.AutoIO == nil {
			return err
		}
		v.AutoEnableIO = in.AutoIO.Value
		return localcloud.Put(t, v)
	})
}
