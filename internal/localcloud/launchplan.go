package localcloud

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/internal/localcloud/instancetype"
)

// maxUserData is EC2's limit for user data before base64.
const maxUserData = 16 << 10

// defaultType is what an instance is when nothing says.
const defaultType = "m1.small"

// A launchPlan is a launch whose parameters were found right: everything that
// its instances have in common.
type launchPlan struct {
	spec    LaunchSpec
	image   Image
	kind    instancetype.Type
	boot    string
	subnet  Subnet
	groups  []string // ids
	public  bool
	key     KeyPair
	profile string
	devices []plannedDevice
	meta    MetadataOptions
	iface   LaunchInterface
}

// planLaunch checks what a launch of count instances asks for against the
// region. Nothing is written.
func (t *Tx) planLaunch(s LaunchSpec, count int) (p launchPlan, err error) {
	p.spec = s
	for _, step := range []func() error{
		func() error { return p.checkValues(count) },
		func() (err error) { p.image, err = t.launchImage(s.ImageID); return err },
		func() error { return p.chooseType() },
		func() error { return p.checkOptions() },
		func() error { return p.findKey(t) },
		func() error { return p.findNetwork(t, count) },
		func() (err error) { p.profile, err = t.launchProfile(s.ProfileARN, s.ProfileName); return err },
		func() (err error) { p.devices, err = t.planDevices(p.image, s.Devices); return err },
	} {
		if err := step(); err != nil {
			return p, err
		}
	}
	return p, nil
}

// checkValues refuses values that are never right.
func (p *launchPlan) checkValues(count int) error {
	s := &p.spec
	for _, v := range []struct {
		name, value string
		legal       []string
	}{
		{"InstanceInitiatedShutdownBehavior", s.ShutdownBehavior, []string{"stop", "terminate"}},
		{"CpuCredits", s.Credits, []string{"standard", "unlimited"}},
		{"AutoRecovery", s.AutoRecovery, []string{"default", "disabled"}},
		{"HostnameType", s.HostnameType, []string{"ip-name", "resource-name"}},
	} {
		if v.value != "" && !slices.Contains(v.legal, v.value) {
			return badValue(v.value, v.name, v.legal...)
		}
	}
	if len(s.UserData) > maxUserData {
		return Errorf("InvalidParameterValue", "User data is limited to %d bytes", maxUserData)
	}
	if s.KernelID != "" || s.RamdiskID != "" {
		return Errorf("InvalidParameterValue", "Kernels and RAM disks of their own are of paravirtual instances of the vendor only; leave KernelId and RamdiskId out")
	}
	if s.Hibernation != nil && *s.Hibernation {
		return Errorf("UnsupportedHibernationConfiguration", "The local cloud does not hibernate instances")
	}
	if pl := s.Placement; pl != nil {
		if err := pl.check(); err != nil {
			return err
		}
	}
	if c := s.Capacity; c != nil {
		if err := c.check(); err != nil {
			return err
		}
	}
	for _, l := range s.Licenses {
		if !strings.HasPrefix(l, "arn:aws:license-manager:") {
			return Errorf("InvalidParameterValue", "Value (%s) for parameter licenseConfigurationArn is invalid. It must be an ARN of License Manager", l)
		}
	}
	if s.PrivateIP != "" && count > 1 {
		return Errorf("InvalidParameterCombination", "A private IP address can be given to one instance only, not to %d", count)
	}
	if m := s.Market; m != nil {
		return m.check(s)
	}
	return nil
}

func badValue(value, name string, legal ...string) error {
	if len(legal) == 0 {
		return Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid.", value, name)
	}
	return Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Valid values are %s", value, name, strings.Join(legal, ", "))
}

func (pl *LaunchPlacement) check() error {
	switch {
	case pl.Tenancy != "" && !slices.Contains([]string{"default", "dedicated", "host"}, pl.Tenancy):
		return badValue(pl.Tenancy, "tenancy", "default", "dedicated", "host")
	case pl.Host != "":
		return Errorf("InvalidHostID.NotFound", "The host ID '%s' does not exist", pl.Host)
	case pl.HostResourceGroup != "":
		return Errorf("InvalidParameterValue", "Value (%s) for parameter hostResourceGroupArn is invalid. There is no such host resource group", pl.HostResourceGroup)
	case pl.Tenancy == "host":
		return Errorf("InsufficientHostCapacity", "There is no Dedicated Host with capacity for this instance")
	case pl.Group != "" || pl.GroupID != "":
		return Errorf("InvalidPlacementGroup.Unknown", "The placement group '%s' is unknown", or(pl.Group, pl.GroupID))
	case pl.Affinity != "" && pl.Affinity != "default" && pl.Affinity != "host":
		return badValue(pl.Affinity, "affinity", "default", "host")
	case pl.Partition != 0:
		return Errorf("InvalidParameterCombination", "A partition number needs a placement group with the strategy partition")
	}
	return nil
}

func (c *LaunchCapacity) check() error {
	prefs := []string{"open", "none", "capacity-reservations-only"}
	switch {
	case c.Preference != "" && !slices.Contains(prefs, c.Preference):
		return badValue(c.Preference, "capacityReservationPreference", prefs...)
	case c.ID != "" && c.GroupARN != "":
		return Errorf("InvalidParameterCombination", "A capacity reservation and a group of them cannot both be given")
	case c.Preference != "" && c.Preference != "capacity-reservations-only" && (c.ID != "" || c.GroupARN != ""):
		return Errorf("InvalidParameterCombination", "The parameters CapacityReservationPreference and CapacityReservationTarget cannot be used together")
	case c.ID != "":
		return Errorf("InvalidCapacityReservationId.NotFound", "The capacity reservation '%s' does not exist", c.ID)
	case c.GroupARN != "":
		return Errorf("InvalidParameterValue", "The resource group %s does not exist", c.GroupARN)
	case c.Preference == "capacity-reservations-only":
		return Errorf("InsufficientInstanceCapacity", "There is no capacity reservation that this instance could use")
	}
	return nil
}

// launchImage returns an image that may be launched.
func (t *Tx) launchImage(id string) (Image, error) {
	if id == "" {
		return Image{}, Errorf("MissingParameter", "The request must contain the parameter ImageId")
	}
	i, err := t.FindImage(id)
	if err != nil {
		return i, err
	}
	if i.State != "available" {
		return i, Errorf("InvalidAMIID.Unavailable", "The image ID '%s' is not available: it is %s", id, i.State)
	}
	return i, nil
}

// chooseType finds the instance type and checks it against the image.
func (p *launchPlan) chooseType() error {
	name, i := or(p.spec.Type, defaultType), &p.image
	kind, ok := instancetype.Get(name)
	if !ok {
		return Errorf("InvalidParameterValue", "Invalid value '%s' for InstanceType.", name)
	}
	p.kind = kind
	if !kind.Arch(i.Arch) {
		return Errorf("InvalidParameterValue", "The architecture '%s' of the specified instance type does not match the architecture '%s' of the specified AMI. Specify an instance type and an AMI that have matching architectures, and try again.", strings.Join(kind.Architectures, ","), i.Arch)
	}
	if !kind.Virt(i.Virtualization) {
		return Errorf("InvalidParameterCombination", "Instances of type '%s' do not run images with the virtualization type '%s', only with %s. Use another instance type or another image.", name, i.Virtualization, strings.Join(kind.Virtualization, ", "))
	}
	if kind.ENA == "required" && !i.ENA {
		return Errorf("InvalidParameterCombination", "Enhanced networking with the Elastic Network Adapter (ENA) is required for the '%s' instance type. Ensure that you are using an AMI that is enabled for ENA.", name)
	}
	if p.boot, ok = kind.Boot(i.BootMode); !ok {
		return Errorf("InvalidParameterCombination", "The boot mode '%s' of the image %s is not supported by the instance type '%s', which boots with %s", i.BootMode, i.ID, name, strings.Join(kind.BootModes, ", "))
	}
	if i.TPMSupport != "" && !kind.TPM {
		return Errorf("UnsupportedOperation", "The image %s needs NitroTPM, which the instance type '%s' does not have", i.ID, name)
	}
	return nil
}

// checkOptions checks options that depend on the type and the image.
func (p *launchPlan) checkOptions() error {
	s, name := &p.spec, p.kind.Name
	if s.Credits != "" && !p.kind.Burstable {
		return Errorf("InvalidParameterCombination", "The instance type '%s' has no CPU credits; CreditSpecification is for T instances", name)
	}
	if s.Enclave != nil && *s.Enclave {
		if !p.kind.Enclave {
			return Errorf("InvalidParameterCombination", "The instance type '%s' does not support Nitro Enclaves", name)
		}
		if s.Market != nil && s.Market.Type == "spot" {
			return Errorf("InvalidParameterCombination", "Spot instances do not support Nitro Enclaves")
		}
	}
	if s.EBSOptimized != nil && *s.EBSOptimized && p.kind.EBSOptimized == "unsupported" {
		return Errorf("Unsupported", "EBS-optimized instances are not supported for your requested configuration: %s", name)
	}
	if c := s.CPU; c != nil && (c.Cores != 0 || c.Threads != 0) {
		if c.Cores == 0 || c.Threads == 0 {
			return Errorf("InvalidParameterCombination", "CpuOptions need both CoreCount and ThreadsPerCore")
		}
		if c.Threads > 2 || c.Cores*c.Threads > p.kind.VCPUs {
			return Errorf("InvalidParameterValue", "CpuOptions of %d cores and %d threads are more than the instance type '%s' has", c.Cores, c.Threads, name)
		}
	}
	p.meta = MetadataOptions{Endpoint: "enabled", Tokens: "optional", HopLimit: 1, Tags: "disabled"}
	if p.image.IMDSSupport == "v2.0" {
		p.meta.Tokens, p.meta.HopLimit = "required", 2
	}
	if m := s.Metadata; m != nil {
		if m.Endpoint == "disabled" && (m.Tokens != "" || m.HopLimit != 0) {
			return Errorf("InvalidParameterCombination", "HttpTokens and HttpPutResponseHopLimit cannot be given when HttpEndpoint is disabled")
		}
		p.meta = MetadataOptions{
			Endpoint: or(m.Endpoint, p.meta.Endpoint), Tokens: or(m.Tokens, p.meta.Tokens),
			HopLimit: or(m.HopLimit, p.meta.HopLimit), Tags: or(m.Tags, p.meta.Tags),
		}
	}
	if p.meta.Tags == "enabled" {
		return checkMetadataTags(s.Tags["instance"])
	}
	return nil
}

// checkMetadataTags refuses tags that cannot be shown in metadata, where a
// key is a part of a path.
func checkMetadataTags(tags Tags) error {
	for k := range tags {
		if k == "." || k == ".." || k == "_index" || strings.ContainsAny(k, " /") {
			return Errorf("InvalidParameterValue", "'%s' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{1,255}), and must not be a reserved name ('.', '..', '_index')", k)
		}
	}
	return nil
}

func (p *launchPlan) findKey(t *Tx) error {
	if p.spec.KeyName == "" {
		return nil
	}
	k, ok, err := Get[KeyPair](t, p.spec.KeyName)
	if err == nil && !ok {
		err = Errorf("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", p.spec.KeyName)
	}
	if err == nil && p.image.Platform == "windows" && k.Type == "ed25519" {
		err = Errorf("InvalidParameterCombination", "ED25519 key pairs are not supported with Windows AMIs")
	}
	p.key = k
	return err
}

// findNetwork chooses subnet, security groups and whether there is a public
// address.
func (p *launchPlan) findNetwork(t *Tx, count int) (err error) {
	s := &p.spec
	p.iface = LaunchInterface{SubnetID: s.SubnetID, PrivateIP: s.PrivateIP, SecurityGroupIDs: s.SecurityGroupIDs}
	if len(s.Interfaces) > 0 {
		switch {
		case s.SubnetID != "":
			return Errorf("InvalidParameterCombination", "Network interfaces and an instance-level subnet ID may not be specified on the same request")
		case len(s.SecurityGroupIDs)+len(s.SecurityGroups) > 0:
			return Errorf("InvalidParameterCombination", "Network interfaces and an instance-level security groups may not be specified on the same request")
		case s.PrivateIP != "":
			return Errorf("InvalidParameterCombination", "Network interfaces and an instance-level private IP address may not be specified on the same request")
		case len(s.Interfaces) > 1 || s.Interfaces[0].Index != 0:
			return Errorf("UnsupportedOperation", "An instance of the local cloud has one network interface, with device index 0")
		case s.Interfaces[0].InterfaceID != "":
			return Errorf("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", s.Interfaces[0].InterfaceID)
		case s.Interfaces[0].PrivateIP != "" && count > 1:
			return Errorf("InvalidParameterCombination", "A private IP address can be given to one instance only, not to %d", count)
		case s.Interfaces[0].Kind != "" && s.Interfaces[0].Kind != "interface":
			return Errorf("InvalidParameterValue", "Value (%s) for parameter interfaceType is invalid. The local cloud has the type interface only", s.Interfaces[0].Kind)
		}
		p.iface = s.Interfaces[0]
	}
	if err := p.findSubnet(t); err != nil {
		return err
	}
	if p.iface.PrivateIP != "" {
		if err := t.CheckPrivateIP(p.subnet, p.iface.PrivateIP); err != nil {
			return err
		}
	}
	p.public = p.subnet.MapPublic
	if p.iface.PublicIP != nil {
		p.public = *p.iface.PublicIP
	}
	p.groups, err = t.launchGroups(p.subnet, p.iface.SecurityGroupIDs, s.SecurityGroups, s.SubnetID != "")
	return err
}

func (p *launchPlan) findSubnet(t *Tx) (err error) {
	zone := ""
	if pl := p.spec.Placement; pl != nil && (pl.Zone != "" || pl.ZoneID != "") {
		if pl.Zone != "" && pl.ZoneID != "" {
			return Errorf("InvalidParameterCombination", "AvailabilityZone and AvailabilityZoneId cannot be used together")
		}
		z, ok := ZoneOf(t.Region, or(pl.Zone, pl.ZoneID))
		if !ok {
			return Errorf("InvalidParameterValue", "Invalid availability zone: [%s]", or(pl.Zone, pl.ZoneID))
		}
		zone = z.Name
	}
	if p.iface.SubnetID != "" {
		if p.subnet, err = t.Subnet(p.iface.SubnetID); err != nil {
			return err
		}
		if zone != "" && zone != p.subnet.Zone {
			return Errorf("InvalidParameterValue", "Value (%s) for parameter availabilityZone is invalid. The subnet %s is in %s.", zone, p.subnet.ID, p.subnet.Zone)
		}
	} else {
		v, ok, err := t.DefaultVPC()
		if err != nil {
			return err
		}
		if !ok {
			return Errorf("VPCIdNotSpecified", "No default VPC for this user. Specify a subnet.")
		}
		for _, z := range Zones(t.Region) {
			if zone != "" && z.Name != zone || !p.kind.OfferedIn(z.Name) {
				continue
			}
			if p.subnet, ok, err = t.DefaultSubnet(z.Name); err != nil || ok {
				break
			}
		}
		if err != nil {
			return err
		}
		if !ok || p.subnet.ID == "" {
			return Errorf("MissingInput", "No subnets found for the default VPC '%s'. Please specify a subnet.", v.ID)
		}
	}
	if !p.kind.OfferedIn(p.subnet.Zone) {
		return Errorf("Unsupported", "Your requested instance type (%s) is not supported in your requested Availability Zone (%s).", p.kind.Name, p.subnet.Zone)
	}
	return nil
}

// launchGroups returns the ids of the security groups of a launch: the VPC's
// default one when none is given.
func (t *Tx) launchGroups(sub Subnet, ids, names []string, subnetGiven bool) (out []string, err error) {
	if len(names) > 0 && subnetGiven {
		return nil, Errorf("InvalidParameterCombination", "The parameter groupName cannot be used with the parameter subnet")
	}
	for _, id := range ids {
		g, err := t.SecurityGroup(id)
		if err != nil {
			return nil, err
		}
		if g.VPC != sub.VPC {
			return nil, Errorf("InvalidParameter", "Security group %s and subnet %s belong to different networks.", g.ID, sub.ID)
		}
		if slices.Contains(out, g.ID) {
			return nil, Errorf("InvalidParameterValue", "The security group %s is given twice", g.ID)
		}
		out = append(out, g.ID)
	}
	for _, name := range names {
		g, err := t.SecurityGroupNamed(sub.VPC, name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, g.ID) {
			out = append(out, g.ID)
		}
	}
	if len(out) == 0 {
		g, err := t.SecurityGroupNamed(sub.VPC, "default")
		if err != nil {
			return nil, err
		}
		out = []string{g.ID}
	}
	if len(out) > 16 {
		return nil, Errorf("SecurityGroupsPerInterfaceLimitExceeded", "The maximum number of security groups per interface has been reached: %d", len(out))
	}
	return out, nil
}

// newMAC derives the hardware address of an interface from its id.
func newMAC(id string) string {
	h := id[len(id)-10:]
	return fmt.Sprintf("02:%s:%s:%s:%s:%s", h[0:2], h[2:4], h[4:6], h[6:8], h[8:10])
}

// privateAddress is an address for one more instance of the plan.
func (p *launchPlan) privateAddress(t *Tx) (string, error) {
	if p.iface.PrivateIP != "" {
		a, err := netip.ParseAddr(p.iface.PrivateIP)
		return a.String(), err
	}
	return t.NextPrivateIP(p.subnet)
}
