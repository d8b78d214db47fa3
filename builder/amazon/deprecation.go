package amazon

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// deprecate sets the time from which the image no longer shows to others.
func (m *machine) deprecate(ctx context.Context, c cloud, image string) error {
	if m.img.DeprecateAt == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339, m.img.DeprecateAt)
	if err != nil {
		return err
	}
	_, err = c.EnableImageDeprecation(ctx, &ec2.EnableImageDeprecationInput{ImageId: &image, DeprecateAt: &at})
	return err
}

// protect keeps the image from being deregistered.
func (m *machine) protect(ctx context.Context, c cloud, image string) error {
	p := m.img.Protection
	if !p.Enabled {
		return nil
	}
	in := &ec2.EnableImageDeregistrationProtectionInput{ImageId: &image}
	if p.WithCooldown {
		in.WithCooldown = aws.Bool(true)
	}
	_, err := c.EnableImageDeregistrationProtection(ctx, in)
	return err
}
