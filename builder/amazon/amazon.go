package amazon

import (
	"context"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/secret"
)

// The builders' types.
const (
	typeEBS       = "amazon-ebs"
	typeSurrogate = "amazon-ebssurrogate"
	typeVolume    = "amazon-ebsvolume"
)

// builderIDs are Packer's.
var builderIDs = map[string]string{
	typeEBS:       "mitchellh.amazonebs",
	typeSurrogate: "mitchellh.amazon.ebssurrogate",
	typeVolume:    "mitchellh.amazon.ebsvolume",
}

// provider is what artifacts say they are of.
const provider = "amazon"

var generated = []string{"SourceAMI", "SourceAMIName", "SourceAMICreationDate", "SourceAMIOwner", "SourceAMIOwnerName", "BuildRegion"}

// Drivers describes the three builders. version is Ingot's own. at says where
// calls go instead of to AWS; nil: nowhere.
func Drivers(version string, at awsaccess.Locator) []builder.Driver {
	o := opener{version: version, at: at, start: time.Now().UTC()}
	list := []builder.Driver{
		builder.NewDriver(typeEBS, o.ebs),
		builder.NewDriver(typeSurrogate, o.surrogate),
		builder.NewDriver(typeVolume, o.volume),
	}
	for i := range list {
		list[i].Generated, list[i].Reopen = generated, o.reopen(list[i].Name)
	}
	list[0].Sweep = o.sweep // of all three
	return list
}

// An opener opens builders of one process.
type opener struct {
	version string
	at      awsaccess.Locator
	start   time.Time
}

// machine is an opened builder, with what lives only as long as this process.
type machine struct {
	typ     string
	info    builder.Info
	version string
	at      awsaccess.Locator
	render  renderer

	access *Access
	comm   *Comm
	run    *RunOptions
	img    *ImageOptions // nil for amazon-ebsvolume
	ebs    *EBSConfig    // nil but for amazon-ebs
	sur    *SurrogateConfig
	vol    *VolumeConfig
	launch []BlockDevice
	// volumeTags are for every volume of the instance.
	volumeTags Tags

	mu    sync.Mutex
	sess  *awsaccess.Session
	base  *source    // resolved
	doubt error      // what speaks against the instance type, and was cleared
	types []hardware // of the instance types, where they can be asked

	key     secret.String // PEM of the temporary key
	keyLine string        // its public half, for authorized_keys
	conn    communicator.Communicator
	tunnel  *tunnel
	deadMan bool   // the timer in the guest is set
	account string // opened without options: the account the build worked in
	ownKeys bool   // and the template held its credentials
	windows secret.String
	running *types.Instance // as it was last seen
	made    *types.Image    // in the build region
}

func (o opener) machine(typ string, info builder.Info) *machine {
	return &machine{
		typ: typ, info: info, version: o.version, at: o.at,
		render: renderer{start: o.start, buildName: info.Name, btype: info.Type, version: o.version},
	}
}

func (o opener) ebs(c EBSConfig, info builder.Info) (builder.Builder, error) {
	m, err := o.newEBS(c, info)
	return m.opened(err)
}

func (o opener) newEBS(c EBSConfig, info builder.Info) (*machine, error) {
	m := o.machine(typeEBS, info)
	f := faults{errs: m.render.early(&c)}
	c.endAfter(info.Timeout, c.Comm.Communicator)
	c.prepare(&f, m.render)
	m.ebs, m.access, m.comm, m.run, m.img = &c, &c.Access, &c.Comm, &c.RunOptions, &c.ImageOptions
	m.launch, m.volumeTags = c.LaunchMappings, mergeTags(c.RunVolumeTags, c.RunVolumeTagEntries)
	return m, f.err()
}

func (o opener) surrogate(c SurrogateConfig, info builder.Info) (builder.Builder, error) {
	m, err := o.newSurrogate(c, info)
	return m.opened(err)
}

func (o opener) newSurrogate(c SurrogateConfig, info builder.Info) (*machine, error) {
	m := o.machine(typeSurrogate, info)
	f := faults{errs: m.render.early(&c)}
	c.endAfter(info.Timeout, c.Comm.Communicator)
	c.prepare(&f, m.render)
	m.sur, m.access, m.comm, m.run, m.img = &c, &c.Access, &c.Comm, &c.RunOptions, &c.ImageOptions
	m.launch, m.volumeTags = c.launch(), mergeTags(c.RunVolumeTags, c.RunVolumeTagEntries)
	return m, f.err()
}

func (o opener) volume(c VolumeConfig, info builder.Info) (builder.Builder, error) {
	m, err := o.newVolume(c, info)
	return m.opened(err)
}

func (o opener) newVolume(c VolumeConfig, info builder.Info) (*machine, error) {
	m := o.machine(typeVolume, info)
	f := faults{errs: m.render.early(&c)}
	c.endAfter(info.Timeout, c.Comm.Communicator)
	c.prepare(&f)
	m.vol, m.access, m.comm, m.run = &c, &c.Access, &c.Comm, &c.RunOptions
	m.launch, m.volumeTags = c.launch(), mergeTags(c.RunVolumeTags, c.RunVolumeTagEntries)
	return m, f.err()
}

// opened returns the builder; warnings alone do not keep it from being opened.
func (m *machine) opened(err error) (builder.Builder, error) {
	if err != nil && !onlyWarnings(err) {
		return nil, err
	}
	return m.steps(), err
}

var _ builder.Builder = (*builder.Machine[state])(nil)

func (m *machine) steps() *builder.Machine[state] {
	volumes := m.step("volumes", m.prepareVolumes, m.removeVolumes)
	volumes.Product = true
	if m.typ != typeVolume {
		volumes = m.step("volumes", m.prepareVolumes, nil)
	}
	b := &builder.Machine[state]{
		Checks: func(ctx context.Context) error { return m.explain(ctx, m.check(ctx)) },
		Resolve: func(ctx context.Context) (artifact.Base, error) {
			base, err := m.resolve(ctx)
			return base, m.explain(ctx, err)
		},
		Boots: []builder.Step[state]{
			m.step("source", m.begin, nil),
			m.step("network", m.findNetwork, nil),
			m.step("key-pair", m.makeKey, m.removeKey),
			m.step("security-group", m.makeGroup, m.removeGroup),
			m.step("instance-profile", m.makeProfile, m.removeProfile),
			m.step("launch-template", m.makeTemplate, m.removeTemplate),
			m.step("instance", m.startInstance, m.removeInstance),
			volumes,
			m.step("session", m.openSession, m.closeSession),
		},
		Connect: func(ctx context.Context, r *builder.Run, s *state) (communicator.Guest, error) {
			g, err := m.connect(ctx, r, s)
			return g, m.explain(ctx, err)
		},
		Result:  m.result,
		Intends: m.intent,
		Where:   m.where,
		Holds:   m.holds,
	}
	seal := func(name string, do, undo stepFunc, product bool) {
		st := m.step(name, do, undo)
		st.Product = product
		b.Seals = append(b.Seals, st)
	}
	if m.skipsImage() {
		return b // the instance is ended as it is
	}
	seal("stop", m.stop, nil, false)
	switch {
	case m.typ == typeVolume:
		seal("snapshots", m.snapshotVolumes, m.removeSnapshots, true)
		return b
	case m.sur != nil && m.sur.UseCreateImage:
		seal("swap-root", m.swapRoot, nil, false) // removeInstance deletes what was taken off
	}
	seal("instance-attributes", m.setInstanceAttributes, nil, false)
	if m.sur != nil && !m.sur.UseCreateImage {
		seal("snapshots", m.snapshotDevices, m.removeSnapshots, true)
	}
	if !m.intermediary() {
		seal("deregister", m.deregisterOld, nil, false)
	}
	seal("image", m.makeImage, m.removeImage, true)
	seal("release", m.release, nil, false)
	if !m.intermediary() {
		seal("finish", m.finishImage, nil, true)
	}
	b.Copies = &builder.Copies[state]{
		Regions: m.copyRegions, Copy: m.copyImage, Conclude: m.conclude, Partial: m.partial,
		Unfinished: m.unfinishedCopy, Abandon: m.abandonCopy,
	}
	return b
}

type stepFunc = func(ctx context.Context, r *builder.Run, s *state) error

// step is a step whose errors are told as a person needs them.
func (m *machine) step(name string, do, undo stepFunc) builder.Step[state] {
	explained := func(f stepFunc) stepFunc {
		if f == nil {
			return nil
		}
		return func(ctx context.Context, r *builder.Run, s *state) error { return m.explain(ctx, f(ctx, r, s)) }
	}
	return builder.Step[state]{Name: name, Do: explained(do), Undo: explained(undo)}
}
