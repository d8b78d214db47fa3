package localcloud

// SpecOf is what would launch an instance like one that there is.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetLaunchTemplateData.html
func (t *Tx) SpecOf(instance string) (LaunchSpec, error) {
	i, err := t.instanceBy(instance, "")
	if err != nil {
		return LaunchSpec{}, err
	}
	yes, public := true, i.Public
	termination, stop := i.APITermination, i.APIStop
	s := LaunchSpec{
		ImageID: i.ImageID, Type: i.Type, KeyName: i.KeyName, UserData: i.UserData,
		Interfaces: []LaunchInterface{{
			SubnetID: i.Subnet, Description: i.Interface.Description, SecurityGroupIDs: i.SecurityGroups,
			PublicIP: &public, DeleteOnTermination: &yes,
		}},
		Placement:  &LaunchPlacement{Zone: i.Zone, Tenancy: i.Tenancy},
		Monitoring: &i.Monitoring, EBSOptimized: &i.EBSOptimized, NoAPITermination: &termination, NoAPIStop: &stop,
		ShutdownBehavior: i.ShutdownBehavior, Metadata: &i.Metadata, Credits: i.Credits, Enclave: &i.Enclave,
		ProfileName: i.Profile, AutoRecovery: i.AutoRecovery, HostnameType: i.HostnameType,
		ResourceNameDNS: i.ResourceNameDNS, ResourceNameDNSv6: i.ResourceNameDNSv6,
	}
	for _, d := range i.Devices {
		v, ok, err := Get[Volume](t, d.Volume)
		if err != nil {
			return s, err
		}
		if !ok {
			continue
		}
		drop, encrypted := d.DeleteOnTermination, v.Spec.Encrypted
		s.Devices = append(s.Devices, LaunchDevice{Device: d.Device, Volume: &LaunchVolume{
			SnapshotID: v.SnapshotID, SizeGiB: v.Spec.SizeGiB, Type: v.Spec.Type, IOPS: v.Spec.IOPS,
			Throughput: v.Spec.Throughput, KMSKeyID: v.Spec.KMSKeyID, Encrypted: &encrypted, DeleteOnTermination: &drop,
		}})
	}
	if len(i.Tags) > 0 {
		s.Tags = map[string]Tags{"instance": i.Tags.Clone()}
	}
	return s, nil
}
