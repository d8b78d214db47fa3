package amazon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
)

// whereabouts is what the journal keeps of the options, so that what a build
// made can be removed without its template. No secret is in it: keys that the
// template held are to be given by the environment.
type whereabouts struct {
	Region  string `json:"region"`
	Account string `json:"account,omitempty"` // "" when the credentials were not asked whose they are

	Profile     string                 `json:"profile,omitempty"`
	Credentials string                 `json:"shared_credentials_file,omitempty"`
	Role        *awsaccess.AssumeRole  `json:"assume_role,omitempty"`
	Vault       *awsaccess.VaultEngine `json:"vault_aws_engine,omitempty"`
	Endpoint    string                 `json:"custom_endpoint_ec2,omitempty"`
	SkipTLS     bool                   `json:"insecure_skip_tls_verify,omitempty"`
	SkipIMDS    bool                   `json:"skip_metadata_api_check,omitempty"`
	SkipCheck   bool                   `json:"skip_credential_validation,omitempty"`
	Keys        bool                   `json:"keys,omitempty"` // the template held the credentials

	KeyName      string   `json:"temporary_key_pair_name,omitempty"`
	Devices      []string `json:"devices,omitempty"`      // disks that are the user's to keep
	Intermediary bool     `json:"intermediary,omitempty"` // the image of the build region only serves to be copied
	Swap         bool     `json:"use_create_image,omitempty"`
}

// where implements [builder.Machine.Where].
func (m *machine) where(ctx context.Context) (any, error) {
	s, err := m.session(ctx)
	if err != nil {
		return nil, m.explain(ctx, err)
	}
	a := m.access
	w := whereabouts{
		Region: s.Region(), Profile: a.Profile, Credentials: a.SharedCredentialsFile, Role: a.AssumeRole, Vault: a.VaultAWSEngine,
		Endpoint: a.CustomEndpointEC2, SkipTLS: a.InsecureSkipTLSVerify, SkipIMDS: a.SkipMetadataAPICheck,
		SkipCheck: a.SkipCredentialValidation, Keys: a.AccessKey != "",
		KeyName: m.comm.TemporaryKeyPairName, Intermediary: m.intermediary(), Swap: m.sur != nil && m.sur.UseCreateImage,
	}
	for _, b := range m.launch {
		w.Devices = append(w.Devices, b.DeviceName)
	}
	if !s.Local() && !a.SkipCredentialValidation {
		if w.Account, err = s.AccountID(ctx); err != nil {
			return nil, m.explain(ctx, err)
		}
	}
	return w, nil
}

// reopen returns the driver's Reopen for a type.
func (o opener) reopen(typ string) func(json.RawMessage, builder.Info) (builder.Builder, error) {
	return func(place json.RawMessage, info builder.Info) (builder.Builder, error) {
		var w whereabouts
		if err := json.Unmarshal(place, &w); err != nil {
			return nil, fmt.Errorf("place of the build in the journal: %w", err)
		}
		m := o.machine(typ, info)
		m.access = &Access{
			Region: w.Region, Profile: w.Profile, SharedCredentialsFile: w.Credentials, AssumeRole: w.Role, VaultAWSEngine: w.Vault,
			CustomEndpointEC2: w.Endpoint, InsecureSkipTLSVerify: w.SkipTLS, SkipMetadataAPICheck: w.SkipIMDS, SkipCredentialValidation: w.SkipCheck,
		}
		if err := m.access.Prepare(); err != nil {
			return nil, err
		}
		m.account, m.ownKeys = w.Account, w.Keys
		m.comm, m.run = &Comm{TemporaryKeyPairName: w.KeyName}, &RunOptions{}
		for _, d := range w.Devices {
			m.launch = append(m.launch, BlockDevice{DeviceName: d})
		}
		switch typ {
		case typeVolume:
			m.vol = &VolumeConfig{}
		case typeSurrogate:
			m.sur = &SurrogateConfig{UseCreateImage: w.Swap}
			m.img = &m.sur.ImageOptions
		default:
			m.ebs = &EBSConfig{}
			m.img = &m.ebs.ImageOptions
		}
		if m.img != nil {
			m.img.SkipBuildRegion = w.Intermediary
		}
		return m.steps(), nil
	}
}

// rightAccount refuses credentials of another account than the build's: what
// is not found there would be taken to be gone.
func (m *machine) rightAccount(ctx context.Context, s *awsaccess.Session) error {
	if m.account == "" || s.Local() {
		return nil
	}
	id, err := s.AccountID(ctx)
	if err != nil {
		return err
	}
	if id == m.account {
		return nil
	}
	err = fmt.Errorf("the build worked in the account %s, and the credentials here are of %s", m.account, id)
	if m.ownKeys {
		return diag.WithHint(err, "its template held the keys, which are kept nowhere: give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	return diag.WithHint(err, "give the credentials of that account, with AWS_PROFILE for example")
}

// holds implements [builder.Machine.Holds].
func (m *machine) holds(_ *builder.Run, s *state) []builder.Thing {
	var out []builder.Thing
	add := func(step, kind, id string) {
		out = append(out, builder.Thing{Kind: kind, ID: id, At: s.Region, Step: step})
	}
	if s.Key.Begun {
		add("key-pair", "key pair", s.Key.Name)
	}
	for _, t := range []struct {
		step, kind string
		thing
	}{
		{"security-group", "security group", s.Group}, {"instance-profile", "instance profile", s.Profile.thing}, {"launch-template", "launch template", s.Template},
	} {
		if t.Begun {
			add(t.step, t.kind, or(t.ID, t.Name))
		}
	}
	if i := s.Instance; i.Begun && !i.Gone {
		add("instance", "instance", or(i.ID, "(asked for)"))
	}
	for _, id := range m.leftover(s) {
		add("instance", "volume", id)
	}
	if m.vol != nil {
		for _, v := range s.Instance.Volumes {
			if !v.Delete {
				add("volumes", "volume", v.ID)
			}
		}
	}
	for _, sn := range s.Snapshots {
		if sn.Begun || sn.ID != "" {
			add("snapshots", "snapshot", or(sn.ID, "(of "+sn.Device+", asked for)"))
		}
	}
	if s.Image.Begun {
		add("image", "image", or(s.Image.ID, s.Image.Name))
		for _, id := range ids(s.Image.Snapshots) {
			add("image", "snapshot", id)
		}
	}
	return out
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// ofBuild are the filters for what carries the tags of the build.
func ofBuild(r *builder.Run) []types.Filter {
	return []types.Filter{
		{Name: aws.String("tag:" + tagRun), Values: []string{r.RunID}},
		{Name: aws.String("tag:" + tagBuild), Values: []string{r.Build}},
	}
}

// begunCopies are the images of a copy that was not finished, and the
// snapshots of them. A build has no other images in a region it copies to,
// but for the one it copies from.
func (m *machine) begunCopies(ctx context.Context, cp *builder.Copy, s *state) (images, snapshots []string, _ error) {
	c, err := m.in(ctx, cp.Region)
	if err != nil {
		return nil, nil, err
	}
	var st copyState
	if err := cp.Load(&st); err != nil {
		return nil, nil, err
	}
	list, err := allImages(ctx, c, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: ofBuild(cp.Run)})
	if err != nil {
		return nil, nil, err
	}
	if st.ID != "" && !slices.ContainsFunc(list, func(i types.Image) bool { return aws.ToString(i.ImageId) == st.ID }) {
		// It is not shown by its tags, or it is gone.
		more, err := allImages(ctx, c, &ec2.DescribeImagesInput{ImageIds: []string{st.ID}})
		if err := gone(err, "InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"); err != nil {
			return nil, nil, err
		}
		list = append(list, more...)
	}
	for _, i := range list {
		if id := aws.ToString(i.ImageId); id != s.Image.ID && i.State != types.ImageStateDeregistered {
			images = append(images, id)
			snapshots = append(snapshots, ids(snapshotsOf(i))...)
		}
	}
	if cp.Region == s.Region {
		return images, snapshots, nil
	}
	// A pending image does not name its snapshots yet.
	snapshots, err = m.ourSnapshots(ctx, c, cp.Run)
	return images, snapshots, err
}

func (m *machine) unfinishedCopy(ctx context.Context, cp *builder.Copy, s *state) ([]builder.Thing, error) {
	images, snapshots, err := m.begunCopies(ctx, cp, s)
	if err != nil {
		return nil, m.explain(ctx, err)
	}
	var out []builder.Thing
	for _, id := range images {
		out = append(out, builder.Thing{Kind: "image", ID: id, At: cp.Region})
	}
	for _, id := range snapshots {
		out = append(out, builder.Thing{Kind: "snapshot", ID: id, At: cp.Region})
	}
	return out, nil
}

func (m *machine) abandonCopy(ctx context.Context, cp *builder.Copy, s *state) error {
	images, snapshots, err := m.begunCopies(ctx, cp, s)
	if err != nil {
		return m.explain(ctx, err)
	}
	c, err := m.in(ctx, cp.Region)
	if err != nil {
		return err
	}
	for _, id := range images {
		cp.Say("Deregistering the unfinished copy %s", id)
		if err := c.deregister(ctx, id, nil); err != nil {
			return m.explain(ctx, err)
		}
	}
	var errs []error
	for _, id := range snapshots {
		errs = append(errs, m.explain(ctx, c.deleteSnapshot(ctx, id)))
	}
	return errors.Join(errs...)
}
