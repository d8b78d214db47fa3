package amazon

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
)

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func optionalInt(n int) *int32 {
	if n == 0 {
		return nil
	}
	return aws.Int32(int32(n))
}

// mapping is a block device as EC2 is told of it.
func (b BlockDevice) mapping() types.BlockDeviceMapping {
	out := types.BlockDeviceMapping{DeviceName: aws.String(b.DeviceName)}
	switch {
	case b.NoDevice:
		out.NoDevice = aws.String("")
	case b.VirtualName != "":
		out.VirtualName = aws.String(b.VirtualName)
	default:
		out.Ebs = &types.EbsBlockDevice{
			DeleteOnTermination: aws.Bool(b.DeleteOnTermination),
			VolumeSize:          optionalInt(b.Size), VolumeType: types.VolumeType(b.Type),
			Iops: optionalInt(b.IOPS), Throughput: optionalInt(b.Throughput),
			Encrypted: b.Encrypted, KmsKeyId: optional(b.KMSKey), SnapshotId: optional(b.SnapshotID),
		}
	}
	return out
}

// imageMapping is a block device of an image, which is encrypted as its
// snapshot is: EC2 refuses a key there, and a statement on the encryption
// where there is a snapshot.
func (b BlockDevice) imageMapping() types.BlockDeviceMapping {
	out := b.mapping()
	if e := out.Ebs; e != nil {
		e.KmsKeyId = nil
		if e.SnapshotId != nil {
			e.Encrypted = nil
		}
	}
	return out
}

// ephemeralLetters end the names of the disks that Windows images bring along.
const ephemeralLetters = "abcdefghijklmnopqrstuvwxyz"

func mappings(list []BlockDevice, noEphemeral bool) []types.BlockDeviceMapping {
	var out []types.BlockDeviceMapping
	for _, b := range list {
		out = append(out, b.mapping())
	}
	if noEphemeral {
		for _, l := range ephemeralLetters {
			out = append(out, types.BlockDeviceMapping{DeviceName: aws.String("xvdc" + string(l)), NoDevice: aws.String("")})
		}
	}
	return out
}

// launchMappings are the disks of the instance.
func (m *machine) launchMappings() []types.BlockDeviceMapping {
	return mappings(m.launch, m.ebs != nil && m.ebs.NoEphemeral)
}

// groupIDs are the security groups of the instance.
func (s *state) groupIDs() []string {
	if len(s.Network.Groups) > 0 {
		return s.Network.Groups
	}
	if s.Group.ID != "" {
		return []string{s.Group.ID}
	}
	return nil
}

// profileName is the instance profile, "" for none.
func (m *machine) profileName(s *state) string {
	if s.Profile.ID != "" {
		return s.Profile.ID
	}
	return m.run.InstanceProfile
}

func (m *machine) placement(zone string) *types.Placement {
	p := types.Placement{AvailabilityZone: optional(zone), Tenancy: types.Tenancy(m.run.Tenancy)}
	if o := m.run.Placement; o != nil {
		p.HostId, p.HostResourceGroupArn = optional(o.HostID), optional(o.HostGroupARN)
		if o.Tenancy != "" {
			p.Tenancy = types.Tenancy(o.Tenancy)
		}
	}
	if p == (types.Placement{}) {
		return nil
	}
	return &p
}

func (o *RunOptions) capacity() *types.CapacityReservationSpecification {
	c := types.CapacityReservationSpecification{CapacityReservationPreference: types.CapacityReservationPreference(o.CapacityPref)}
	if o.CapacityID != "" || o.CapacityGroupARN != "" {
		c.CapacityReservationTarget = &types.CapacityReservationTarget{
			CapacityReservationId: optional(o.CapacityID), CapacityReservationResourceGroupArn: optional(o.CapacityGroupARN),
		}
	} else if o.CapacityPref == "" {
		c.CapacityReservationPreference = types.CapacityReservationPreferenceNone
	}
	return &c
}

// runInput is an on-demand instance.
func (m *machine) runInput(r *builder.Run, s *state, typ string, at place) (*ec2.RunInstancesInput, error) {
	o := m.run
	tags, err := m.launchTags(r, s)
	if err != nil {
		return nil, err
	}
	data, err := o.userData()
	if err != nil {
		return nil, err
	}
	zone := at.Zone
	if at.Subnet != "" {
		zone = "" // a subnet has its zone
	}
	in := &ec2.RunInstancesInput{
		ImageId: &s.Source.ID, InstanceType: types.InstanceType(typ), MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		ClientToken:         aws.String(s.token(r, "instance "+m.keyName(s)+" "+typ+" "+at.Subnet+" "+at.Zone)),
		BlockDeviceMappings: m.launchMappings(), UserData: optional(data), KeyName: optional(m.keyName(s)),
		InstanceInitiatedShutdownBehavior: types.ShutdownBehavior(o.ShutdownBehavior),
		Placement:                         m.placement(zone), TagSpecifications: tags,
		CapacityReservationSpecification: o.capacity(),
	}
	if o.EBSOptimized {
		in.EbsOptimized = aws.Bool(true)
	}
	if p := m.profileName(s); p != "" {
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: &p}
	}
	if o.UnlimitedCredits {
		in.CreditSpecification = &types.CreditSpecificationRequest{CpuCredits: aws.String("unlimited")}
	}
	if o.Enclave {
		in.EnclaveOptions = &types.EnclaveOptionsRequest{Enabled: aws.Bool(true)}
	}
	if d := o.Metadata; d != nil {
		in.MetadataOptions = &types.InstanceMetadataOptionsRequest{
			HttpEndpoint: types.InstanceMetadataEndpointState(d.Endpoint), HttpTokens: types.HttpTokensState(d.Tokens),
			HttpPutResponseHopLimit: optionalInt(d.HopLimit), InstanceMetadataTags: types.InstanceMetadataTagsState(d.Tags),
		}
	}
	for _, l := range o.Licenses {
		in.LicenseSpecifications = append(in.LicenseSpecifications, types.LicenseConfigurationRequest{LicenseConfigurationArn: aws.String(l.Request.ARN)})
	}
	if o.AssociatePublicIP != nil {
		in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{
			DeviceIndex: aws.Int32(0), AssociatePublicIpAddress: o.AssociatePublicIP, DeleteOnTermination: aws.Bool(true),
			SubnetId: optional(at.Subnet), Groups: s.groupIDs(),
		}}
	} else {
		in.SubnetId, in.SecurityGroupIds = optional(at.Subnet), s.groupIDs()
	}
	return in, nil
}

// templateData is the same as [machine.runInput] for a launch template.
func (m *machine) templateData(r *builder.Run, s *state) (*types.RequestLaunchTemplateData, error) {
	in, err := m.runInput(r, s, m.run.types()[0], place{s.Network.Subnet, ""})
	if err != nil {
		return nil, err
	}
	d := &types.RequestLaunchTemplateData{
		ImageId: in.ImageId, InstanceType: in.InstanceType, UserData: in.UserData, KeyName: in.KeyName,
		EbsOptimized: in.EbsOptimized, CreditSpecification: in.CreditSpecification,
		InstanceInitiatedShutdownBehavior: in.InstanceInitiatedShutdownBehavior,
		SecurityGroupIds:                  in.SecurityGroupIds,
	}
	for _, b := range in.BlockDeviceMappings {
		out := types.LaunchTemplateBlockDeviceMappingRequest{DeviceName: b.DeviceName, NoDevice: b.NoDevice, VirtualName: b.VirtualName}
		if e := b.Ebs; e != nil {
			out.Ebs = &types.LaunchTemplateEbsBlockDeviceRequest{
				DeleteOnTermination: e.DeleteOnTermination, Encrypted: e.Encrypted, Iops: e.Iops, KmsKeyId: e.KmsKeyId,
				SnapshotId: e.SnapshotId, Throughput: e.Throughput, VolumeSize: e.VolumeSize, VolumeType: e.VolumeType,
			}
		}
		d.BlockDeviceMappings = append(d.BlockDeviceMappings, out)
	}
	if p := in.IamInstanceProfile; p != nil {
		d.IamInstanceProfile = &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: p.Name}
	}
	if o := in.MetadataOptions; o != nil {
		d.MetadataOptions = &types.LaunchTemplateInstanceMetadataOptionsRequest{
			HttpEndpoint:            types.LaunchTemplateInstanceMetadataEndpointState(o.HttpEndpoint),
			HttpTokens:              types.LaunchTemplateHttpTokensState(o.HttpTokens),
			HttpPutResponseHopLimit: o.HttpPutResponseHopLimit,
			InstanceMetadataTags:    types.LaunchTemplateInstanceMetadataTagsState(o.InstanceMetadataTags),
		}
	}
	if p := in.Placement; p != nil {
		d.Placement = &types.LaunchTemplatePlacementRequest{HostId: p.HostId, HostResourceGroupArn: p.HostResourceGroupArn, Tenancy: p.Tenancy}
	}
	if m.run.CapacityID != "" || m.run.CapacityGroupARN != "" || m.run.CapacityPref != "" {
		c := in.CapacityReservationSpecification
		d.CapacityReservationSpecification = &types.LaunchTemplateCapacityReservationSpecificationRequest{
			CapacityReservationPreference: c.CapacityReservationPreference, CapacityReservationTarget: c.CapacityReservationTarget,
		}
	}
	for _, l := range in.LicenseSpecifications {
		d.LicenseSpecifications = append(d.LicenseSpecifications, types.LaunchTemplateLicenseConfigurationRequest{LicenseConfigurationArn: l.LicenseConfigurationArn})
	}
	for _, n := range in.NetworkInterfaces {
		// The subnet is the fleet's to choose.
		d.NetworkInterfaces = append(d.NetworkInterfaces, types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{
			DeviceIndex: n.DeviceIndex, AssociatePublicIpAddress: n.AssociatePublicIpAddress, DeleteOnTermination: n.DeleteOnTermination, Groups: n.Groups,
		})
	}
	spot, err := m.renderTags(s, mergeTags(m.run.SpotTags, m.run.SpotTagEntries))
	if err != nil {
		return nil, err
	}
	for _, t := range in.TagSpecifications {
		tags := t.Tags
		if t.ResourceType == types.ResourceTypeInstance {
			// spot_tags are the instance's, beside run_tags.
			for k, v := range tagMap(tags) {
				if _, given := spot[k]; !given {
					spot[k] = v
				}
			}
			tags = tagged(spot)
		}
		d.TagSpecifications = append(d.TagSpecifications, types.LaunchTemplateTagSpecificationRequest{ResourceType: t.ResourceType, Tags: tags})
	}
	return d, nil
}
