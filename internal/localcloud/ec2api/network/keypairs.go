package network

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) keyPairs() awswire.Operations {
	return awswire.Operations{
		"DescribeKeyPairs": awswire.Op(a.describeKeyPairs),
		"CreateKeyPair":    awswire.Op(a.createKeyPair),
		"ImportKeyPair":    awswire.Op(a.importKeyPair),
		"DeleteKeyPair":    awswire.Op(a.deleteKeyPair),
	}
}

type keyPair struct {
	ID          string        `xml:"keyPairId"`
	Name        string        `xml:"keyName"`
	Fingerprint string        `xml:"keyFingerprint"`
	Material    string        `xml:"keyMaterial,omitempty"` // of one that was just made
	Type        string        `xml:"keyType,omitempty"`     // of listed ones
	Public      string        `xml:"publicKey,omitempty"`
	Created     string        `xml:"createTime,omitempty"`
	Tags        []ec2wire.Tag `xml:"tagSet>item"`
}

var keyPairFilters = ec2wire.FilterBy[localcloud.KeyPair]{
	"key-name":    func(k localcloud.KeyPair) []string { return ec2wire.One(k.Name) },
	"key-pair-id": func(k localcloud.KeyPair) []string { return ec2wire.One(k.ID) },
	"fingerprint": func(k localcloud.KeyPair) []string { return ec2wire.One(k.Fingerprint) },
}

type describeKeyPairsIn struct {
	ec2wire.DryRun
	Names   []string        `q:"KeyName"`
	IDs     []string        `q:"KeyPairId"`
	Public  bool            `q:"IncludePublicKey"`
	Filters ec2wire.Filters `q:"Filter"`
}

type describeKeyPairsOut struct {
	Keys []keyPair `xml:"keySet>item"`
}

func (a *api) describeKeyPairs(ctx context.Context, c *awswire.Call, in *describeKeyPairsIn) (*describeKeyPairsOut, error) {
	all, err := records[localcloud.KeyPair](ctx, a, c.Region)
	if err != nil {
		return nil, err
	}
	all, err = pick(all, in.Names, func(k localcloud.KeyPair) string { return k.Name }, notFound("", "InvalidKeyPair.NotFound", "", "key pair"))
	if err != nil {
		return nil, err
	}
	all, err = pick(all, in.IDs, func(k localcloud.KeyPair) string { return k.ID }, notFound("key", "InvalidKeyPair.NotFound", "", "key pair"))
	if err != nil {
		return nil, err
	}
	if all, err = keyPairFilters.Match(in.Filters, all, func(k localcloud.KeyPair) localcloud.Tags { return k.Tags }); err != nil {
		return nil, err
	}
	return &describeKeyPairsOut{Keys: ec2wire.Mapped(all, func(k localcloud.KeyPair) keyPair {
		out := keyPair{ID: k.ID, Name: k.Name, Fingerprint: k.Fingerprint, Type: k.Type, Created: awswire.Time(k.Created), Tags: ec2wire.Tags(k.Tags)}
		if in.Public {
			out.Public = k.PublicKey
		}
		return out
	})}, in.Check()
}

type createKeyPairIn struct {
	ec2wire.DryRun
	Name   string            `q:"KeyName,required"`
	Type   string            `q:"KeyType"`
	Format string            `q:"KeyFormat"`
	Tags   []ec2wire.TagSpec `q:"TagSpecification"`
}

func (a *api) createKeyPair(ctx context.Context, c *awswire.Call, in *createKeyPairIn) (*keyPair, error) {
	tags, err := ec2wire.SpecTags(in.Tags, "key-pair")
	if err != nil {
		return nil, err
	}
	k, private, err := a.cloud.CreateKeyPair(dry(ctx, in.DryRun), c.Region, localcloud.KeyPairParams{
		Name: in.Name, Type: in.Type, Format: in.Format, Tags: tags,
	})
	if err != nil {
		return nil, err
	}
	return &keyPair{ID: k.ID, Name: k.Name, Fingerprint: k.Fingerprint, Material: private.Reveal(), Tags: ec2wire.Tags(k.Tags)}, nil
}

type importKeyPairIn struct {
	ec2wire.DryRun
	Name   string            `q:"KeyName,required"`
	Public []byte            `q:"PublicKeyMaterial,required"`
	Tags   []ec2wire.TagSpec `q:"TagSpecification"`
}

func (a *api) importKeyPair(ctx context.Context, c *awswire.Call, in *importKeyPairIn) (*keyPair, error) {
	tags, err := ec2wire.SpecTags(in.Tags, "key-pair")
	if err != nil {
		return nil, err
	}
	k, err := a.cloud.ImportKeyPair(dry(ctx, in.DryRun), c.Region, in.Name, in.Public, tags)
	if err != nil {
		return nil, err
	}
	return &keyPair{ID: k.ID, Name: k.Name, Fingerprint: k.Fingerprint, Tags: ec2wire.Tags(k.Tags)}, nil
}

type deleteKeyPairIn struct {
	ec2wire.DryRun
	Name string `q:"KeyName"`
	ID   string `q:"KeyPairId"`
}

type deleteKeyPairOut struct {
	Return bool   `xml:"return"`
	ID     string `xml:"keyPairId,omitempty"`
}

func (a *api) deleteKeyPair(ctx context.Context, c *awswire.Call, in *deleteKeyPairIn) (*deleteKeyPairOut, error) {
	id, err := a.cloud.DeleteKeyPair(dry(ctx, in.DryRun), c.Region, in.Name, in.ID)
	return &deleteKeyPairOut{Return: true, ID: id}, err
}
