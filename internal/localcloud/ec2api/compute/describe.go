package compute

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) instances() awswire.Operations {
	return awswire.Operations{
		"RunInstances":           awswire.Op(a.run),
		"DescribeInstances":      awswire.Op(a.describe),
		"DescribeInstanceStatus": awswire.Op(a.describeStatus),
	}
}

type runInput struct {
	ec2wire.DryRun
	ec2wire.Launch
	Min         int                    `q:"MinCount,required"`
	Max         int                    `q:"MaxCount,required"`
	ClientToken string                 `q:"ClientToken"`
	Template    ec2wire.LaunchTemplate `q:"LaunchTemplate"`
	SubnetID    string                 `q:"SubnetId"`
	PrivateIP   string                 `q:"PrivateIpAddress"`
	RamdiskID   string                 `q:"RamdiskId"`
}

func (a *api) run(ctx context.Context, call *awswire.Call, in *runInput) (*reservation, error) {
	spec, err := in.Spec()
	if err != nil {
		return nil, err
	}
	spec.SubnetID, spec.PrivateIP, spec.RamdiskID = in.SubnetID, in.PrivateIP, in.RamdiskID
	spec.Template = in.Template.Choice()
	made, err := a.cloud.RunInstances(dry(ctx, in.DryRun), call.Region, localcloud.RunParams{
		Launch: spec, Min: in.Min, Max: in.Max, ClientToken: in.ClientToken,
	})
	if err != nil {
		return nil, err
	}
	s, err := a.shower(ctx, call.Region)
	if err != nil {
		return nil, err
	}
	return &s.reservations(made)[0], nil
}

type describeInput struct {
	ec2wire.DryRun
	ec2wire.Page
	IDs     []string        `q:"InstanceId"`
	Filters ec2wire.Filters `q:"Filter"`
}

type describeOutput struct {
	Reservations []reservation `xml:"reservationSet>item"`
	Next         string        `xml:"nextToken,omitempty"`
}

func (a *api) describe(ctx context.Context, call *awswire.Call, in *describeInput) (*describeOutput, error) {
	if err := ec2wire.OnlyWithout(in.Page, in.IDs); err != nil {
		return nil, err
	}
	s, err := a.shower(ctx, call.Region)
	if err != nil {
		return nil, err
	}
	all, err := a.cloud.Instances(ctx, call.Region, in.IDs)
	if err != nil {
		return nil, err
	}
	if all, err = s.filters().Match(in.Filters, all, instanceTags); err != nil {
		return nil, err
	}
	if err := in.Check(); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 5, 1000)
	if err != nil {
		return nil, err
	}
	return &describeOutput{s.reservations(page), next}, nil
}

func instanceTags(i localcloud.Instance) localcloud.Tags { return i.Tags }

// filters are those of DescribeInstances.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
func (s *shower) filters() ec2wire.FilterBy[localcloud.Instance] {
	type inst = localcloud.Instance
	field := func(get func(inst) string) func(inst) []string {
		return func(i inst) []string { return ec2wire.One(get(i)) }
	}
	flag := func(get func(inst) bool) func(inst) []string {
		return func(i inst) []string { return ec2wire.Bool(get(i)) }
	}
	fixed := func(v string) func(inst) []string { return func(inst) []string { return []string{v} } }
	groupIDs := func(i inst) []string { return i.SecurityGroups }
	groupNames := func(i inst) []string {
		return ec2wire.Mapped(i.SecurityGroups, func(id string) string { return s.groups[id] })
	}
	volume := func(get func(localcloud.InstanceDevice) string) func(inst) []string {
		return func(i inst) []string { return ec2wire.Mapped(i.Devices, get) }
	}
	live := func(get func(inst) string) func(inst) []string { // of instances in a network
		return field(func(i inst) string {
			if i.State == "terminated" {
				return ""
			}
			return get(i)
		})
	}
	by := ec2wire.FilterBy[inst]{
		"affinity":                       field(func(i inst) string { return i.Host.Affinity }),
		"architecture":                   field(func(i inst) string { return i.Arch }),
		"availability-zone":              field(func(i inst) string { return i.Zone }),
		"availability-zone-id":           field(func(i inst) string { return localcloud.ZoneID(i.Zone) }),
		"client-token":                   field(func(i inst) string { return i.Token }),
		"dns-name":                       field(func(i inst) string { return i.PublicDNS(s.region) }),
		"image-id":                       field(func(i inst) string { return i.ImageID }),
		"instance-id":                    field(func(i inst) string { return i.ID }),
		"instance-type":                  field(func(i inst) string { return i.Type }),
		"instance-lifecycle":             field(func(i inst) string { return i.Lifecycle }),
		"instance-state-name":            field(func(i inst) string { return i.State }),
		"instance-state-code":            func(i inst) []string { return []string{number(localcloud.StateCodes[i.State])} },
		"ip-address":                     field(func(i inst) string { return i.PublicIP }),
		"key-name":                       field(func(i inst) string { return i.KeyName }),
		"launch-index":                   func(i inst) []string { return []string{number(i.Index)} },
		"launch-time":                    func(i inst) []string { return []string{awswire.Time(i.Launched)} },
		"owner-id":                       fixed(localcloud.AccountID),
		"placement-group-name":           field(func(i inst) string { return i.Host.Group }),
		"platform":                       field(func(i inst) string { return i.Platform }),
		"private-dns-name":               field(func(i inst) string { return i.PrivateDNS(s.region) }),
		"private-ip-address":             live(func(i inst) string { return i.PrivateIP }),
		"reason":                         field(func(i inst) string { return i.StateCode }),
		"reservation-id":                 field(func(i inst) string { return i.Reservation }),
		"root-device-name":               field(func(i inst) string { return i.RootDevice }),
		"root-device-type":               fixed("ebs"),
		"source-dest-check":              flag(func(i inst) bool { return i.SourceDestCheck }),
		"spot-instance-request-id":       field(func(i inst) string { return i.SpotRequest }),
		"state-reason-code":              field(func(i inst) string { return i.StateCode }),
		"state-reason-message":           field(func(i inst) string { return i.StateReason }),
		"subnet-id":                      live(func(i inst) string { return i.Subnet }),
		"tenancy":                        field(func(i inst) string { return i.Tenancy }),
		"tpm-support":                    func(i inst) []string { return tpm(i.TPM) },
		"virtualization-type":            field(func(i inst) string { return i.Virtualization }),
		"vpc-id":                         live(func(i inst) string { return i.VPC }),
		"hypervisor":                     fixed("xen"),
		"boot-mode":                      field(func(i inst) string { return s.images[i.ImageID].BootMode }),
		"current-instance-boot-mode":     field(func(i inst) string { return i.BootMode }),
		"monitoring-state":               func(i inst) []string { return []string{monitoringOf(i.Monitoring).State} },
		"group-id":                       groupIDs,
		"group-name":                     groupNames,
		"instance.group-id":              groupIDs,
		"instance.group-name":            groupNames,
		"hibernation-options.configured": fixed("false"),
		"enclave-options.enabled":        flag(func(i inst) bool { return i.Enclave }),
		"ebs-optimized":                  flag(func(i inst) bool { return i.EBSOptimized }),
		"ena-support":                    flag(func(i inst) bool { return i.ENA }),

		"block-device-mapping.device-name": volume(func(d localcloud.InstanceDevice) string { return d.Device }),
		"block-device-mapping.volume-id":   volume(func(d localcloud.InstanceDevice) string { return d.Volume }),
		"block-device-mapping.attach-time": volume(func(d localcloud.InstanceDevice) string { return awswire.Time(d.Attached) }),
		"block-device-mapping.delete-on-termination": volume(func(d localcloud.InstanceDevice) string {
			return ec2wire.Bool(d.DeleteOnTermination)[0]
		}),
		"block-device-mapping.status": volume(func(d localcloud.InstanceDevice) string { return s.volumes[d.Volume].AttachState }),

		"iam-instance-profile.arn": func(i inst) []string {
			if p := s.profile(i.Profile); p != nil {
				return []string{p.ARN}
			}
			return nil
		},
		"iam-instance-profile.id": func(i inst) []string {
			if p := s.profile(i.Profile); p != nil {
				return []string{p.ID}
			}
			return nil
		},

		"metadata-options.http-tokens":                 field(func(i inst) string { return i.Metadata.Tokens }),
		"metadata-options.http-endpoint":               field(func(i inst) string { return i.Metadata.Endpoint }),
		"metadata-options.http-put-response-hop-limit": func(i inst) []string { return []string{number(i.Metadata.HopLimit)} },
		"metadata-options.instance-metadata-tags":      field(func(i inst) string { return i.Metadata.Tags }),

		"network-interface.network-interface-id":            live(func(i inst) string { return i.Interface.ID }),
		"network-interface.mac-address":                     live(func(i inst) string { return i.Interface.MAC }),
		"network-interface.subnet-id":                       live(func(i inst) string { return i.Subnet }),
		"network-interface.vpc-id":                          live(func(i inst) string { return i.VPC }),
		"network-interface.availability-zone":               live(func(i inst) string { return i.Zone }),
		"network-interface.description":                     live(func(i inst) string { return i.Interface.Description }),
		"network-interface.attachment.attachment-id":        live(func(i inst) string { return i.Interface.Attachment }),
		"network-interface.attachment.instance-id":          live(func(i inst) string { return i.ID }),
		"network-interface.addresses.private-ip-address":    live(func(i inst) string { return i.PrivateIP }),
		"network-interface.addresses.association.public-ip": field(func(i inst) string { return i.PublicIP }),
		"network-interface.association.public-ip":           field(func(i inst) string { return i.PublicIP }),
		"network-interface.private-dns-name":                field(func(i inst) string { return i.PrivateDNS(s.region) }),
		"network-interface.group-id":                        groupIDs,
		"network-interface.group-name":                      groupNames,
		"network-interface.owner-id":                        fixed(localcloud.AccountID),
		"network-interface.status":                          live(func(inst) string { return "in-use" }),
	}
	return by
}

func tpm(has bool) []string {
	if has {
		return []string{"v2.0"}
	}
	return nil
}

type statusInput struct {
	ec2wire.DryRun
	ec2wire.Page
	IDs     []string        `q:"InstanceId"`
	Filters ec2wire.Filters `q:"Filter"`
	All     bool            `q:"IncludeAllInstances"`
}

type statusSummary struct {
	Status  string `xml:"status"`
	Details []struct {
		Name   string `xml:"name"`
		Status string `xml:"status"`
	} `xml:"details>item"`
}

type instanceStatus struct {
	ID       string        `xml:"instanceId"`
	Zone     string        `xml:"availabilityZone"`
	ZoneID   string        `xml:"availabilityZoneId"`
	State    state         `xml:"instanceState"`
	Instance statusSummary `xml:"instanceStatus"`
	System   statusSummary `xml:"systemStatus"`
	EBS      statusSummary `xml:"attachedEbsStatus"`
}

type statusOutput struct {
	Statuses []instanceStatus `xml:"instanceStatusSet>item"`
	Next     string           `xml:"nextToken,omitempty"`
}

// status is what the checks of an instance say: nothing unless it runs.
func status(i localcloud.Instance) string {
	if i.State == "running" {
		return "ok"
	}
	return "not-applicable"
}

func summary(status string) statusSummary {
	s := statusSummary{Status: status}
	if status == "ok" {
		s.Details = append(s.Details, struct {
			Name   string `xml:"name"`
			Status string `xml:"status"`
		}{"reachability", "passed"})
	}
	return s
}

func (a *api) describeStatus(ctx context.Context, call *awswire.Call, in *statusInput) (*statusOutput, error) {
	if err := ec2wire.OnlyWithout(in.Page, in.IDs); err != nil {
		return nil, err
	}
	all, err := a.cloud.Instances(ctx, call.Region, in.IDs)
	if err != nil {
		return nil, err
	}
	by := ec2wire.FilterBy[localcloud.Instance]{
		"availability-zone":            func(i localcloud.Instance) []string { return ec2wire.One(i.Zone) },
		"availability-zone-id":         func(i localcloud.Instance) []string { return ec2wire.One(localcloud.ZoneID(i.Zone)) },
		"instance-state-name":          func(i localcloud.Instance) []string { return ec2wire.One(i.State) },
		"instance-state-code":          func(i localcloud.Instance) []string { return ec2wire.One(number(localcloud.StateCodes[i.State])) },
		"instance-status.status":       func(i localcloud.Instance) []string { return ec2wire.One(status(i)) },
		"system-status.status":         func(i localcloud.Instance) []string { return ec2wire.One(status(i)) },
		"attached-ebs-status.status":   func(i localcloud.Instance) []string { return ec2wire.One(status(i)) },
		"instance-status.reachability": func(i localcloud.Instance) []string { return reachability(i) },
		"system-status.reachability":   func(i localcloud.Instance) []string { return reachability(i) },
		"event.code":                   func(localcloud.Instance) []string { return nil },
		"event.description":            func(localcloud.Instance) []string { return nil },
		"event.instance-event-id":      func(localcloud.Instance) []string { return nil },
		"event.not-after":              func(localcloud.Instance) []string { return nil },
		"event.not-before":             func(localcloud.Instance) []string { return nil },
	}
	if all, err = by.Match(in.Filters, all, instanceTags); err != nil {
		return nil, err
	}
	if err := in.Check(); err != nil {
		return nil, err
	}
	var shown []instanceStatus
	for _, i := range all {
		if i.State != "running" && !in.All {
			continue
		}
		s := summary(status(i))
		shown = append(shown, instanceStatus{i.ID, i.Zone, localcloud.ZoneID(i.Zone), stateOf(i.State), s, s, s})
	}
	page, next, err := ec2wire.Slice(in.Page, shown, 5, 1000)
	return &statusOutput{page, next}, err
}

func reachability(i localcloud.Instance) []string {
	if i.State == "running" {
		return []string{"passed"}
	}
	return nil
}
