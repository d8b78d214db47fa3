// Package amazonami is the data source "amazon-ami": an AMI, found by filters.
package amazonami

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/datasource"
	"github.com/ingot-build/ingot/internal/diag"
)

// page is how many images one answer holds at most.
const page = 1000

// Config is the options of the data source.
type Config struct {
	awsaccess.Config

	// Filters are those of DescribeImages
	// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImages.html);
	// a value may be several, joined with commas.
	Filters           map[string]string `hcl:"filters"`
	Owners            []string          `hcl:"owners"`
	MostRecent        bool              `hcl:"most_recent"`
	IncludeDeprecated bool              `hcl:"include_deprecated"`
}

// Output is what it gives.
type Output struct {
	ID           string            `hcl:"id"`
	Name         string            `hcl:"name"`
	CreationDate string            `hcl:"creation_date"`
	Owner        string            `hcl:"owner"`
	OwnerName    string            `hcl:"owner_name"`
	Tags         map[string]string `hcl:"tags"`
}

// Driver returns the data source "amazon-ami".
func Driver(version string, at awsaccess.Locator) datasource.Driver {
	return datasource.NewDriver[Config, Output]("amazon-ami", func(c Config) (datasource.DataSource, error) {
		return source{c, version, at}, c.prepare()
	})
}

type source struct {
	cfg     Config
	version string
	at      awsaccess.Locator
}

var _ datasource.DataSource = source{}

func (c *Config) prepare() error {
	errs := []error{c.Config.Prepare()}
	if len(c.Owners) == 0 {
		errs = append(errs, diag.Fieldf("owners", "must be set: an image of anybody could bear the name you look for; use self, amazon, aws-marketplace or account numbers"))
	}
	for _, k := range []string{"", " "} {
		if _, ok := c.Filters[k]; ok {
			errs = append(errs, diag.Fieldf("filters", "a filter has no name"))
		}
	}
	return errors.Join(errs...)
}

// Read implements [datasource.DataSource].
func (s source) Read(ctx context.Context) (any, error) {
	c := s.cfg
	if err := c.prepare(); err != nil {
		return nil, err
	}
	sess, err := awsaccess.Open(ctx, c.Config, s.version, s.at)
	if err != nil {
		return nil, err
	}
	images, err := find(ctx, sess.EC2(""), c)
	if err != nil {
		return nil, awsaccess.Explain(ctx, sess, err)
	}
	img, err := choose(images, c.MostRecent)
	if err != nil {
		return nil, fmt.Errorf("in %s: %w", sess.Region(), err)
	}
	o := Output{
		ID: aws.ToString(img.ImageId), Name: aws.ToString(img.Name), CreationDate: aws.ToString(img.CreationDate),
		Owner: aws.ToString(img.OwnerId), OwnerName: aws.ToString(img.ImageOwnerAlias), Tags: map[string]string{},
	}
	for _, t := range img.Tags {
		o.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return o, nil
}

// find returns the images that match and can be used.
func find(ctx context.Context, client ec2.DescribeImagesAPIClient, c Config) ([]types.Image, error) {
	in := &ec2.DescribeImagesInput{
		Owners: c.Owners, IncludeDeprecated: &c.IncludeDeprecated, MaxResults: aws.Int32(page),
	}
	for k, v := range c.Filters {
		in.Filters = append(in.Filters, types.Filter{Name: &k, Values: strings.Split(v, ",")})
	}
	slices.SortFunc(in.Filters, func(a, b types.Filter) int { return strings.Compare(*a.Name, *b.Name) })
	var out []types.Image
	for p := ec2.NewDescribeImagesPaginator(client, in); p.HasMorePages(); {
		got, err := p.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, i := range got.Images {
			if i.State == "" || i.State == types.ImageStateAvailable {
				out = append(out, i)
			}
		}
	}
	return out, nil
}

// choose returns the one image, or the youngest of several.
func choose(images []types.Image, mostRecent bool) (types.Image, error) {
	switch {
	case len(images) == 0:
		return types.Image{}, diag.WithHint(errors.New("no AMI was found matching filters"),
			"check filters and owners, that the image is in this region and available, and include_deprecated")
	case len(images) > 1 && !mostRecent:
		return types.Image{}, diag.WithHint(
			fmt.Errorf("the query returned more than one result (%d)", len(images)),
			"try a more specific search, or set most_recent = true to take the youngest")
	}
	return slices.MaxFunc(images, func(a, b types.Image) int {
		if c := created(a).Compare(created(b)); c != 0 {
			return c
		}
		return strings.Compare(aws.ToString(a.ImageId), aws.ToString(b.ImageId))
	}), nil
}

func created(i types.Image) time.Time {
	t, err := time.Parse(time.RFC3339, aws.ToString(i.CreationDate))
	if err != nil {
		return time.Time{}
	}
	return t
}
