package storage

import (
	"context"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) imageQueries() awswire.Operations {
	return awswire.Operations{"DescribeImages": awswire.Op(a.describeImages)}
}

type reason struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

// reasonOf splits the reason of a failure.
func reasonOf(i localcloud.Image) *reason {
	if i.Reason == "" {
		return nil
	}
	code, message, ok := strings.Cut(i.Reason, ": ")
	if !ok {
		code, message = "Client.InternalError", i.Reason
	}
	return &reason{code, code + ": " + message}
}

type productCode struct {
	Code string `xml:"productCode"`
	Type string `xml:"type"`
}

func productCodes(codes []string) []productCode {
	return ec2wire.Mapped(codes, func(c string) productCode { return productCode{c, "marketplace"} })
}

type image struct {
	ID             string        `xml:"imageId"`
	Location       string        `xml:"imageLocation"`
	State          string        `xml:"imageState"`
	Owner          string        `xml:"imageOwnerId"`
	OwnerAlias     string        `xml:"imageOwnerAlias,omitempty"`
	Created        string        `xml:"creationDate"`
	Public         bool          `xml:"isPublic"`
	Products       []productCode `xml:"productCodes>item"`
	Architecture   string        `xml:"architecture"`
	Type           string        `xml:"imageType"`
	Name           string        `xml:"name"`
	Description    string        `xml:"description,omitempty"`
	RootType       string        `xml:"rootDeviceType"`
	RootDevice     string        `xml:"rootDeviceName"`
	Devices        []mapping     `xml:"blockDeviceMapping>item"`
	Virtualization string        `xml:"virtualizationType"`
	Tags           []ec2wire.Tag `xml:"tagSet>item"`
	Hypervisor     string        `xml:"hypervisor"`
	ENA            bool          `xml:"enaSupport"`
	Sriov          string        `xml:"sriovNetSupport,omitempty"`
	BootMode       string        `xml:"bootMode,omitempty"`
	TPM            string        `xml:"tpmSupport,omitempty"`
	IMDS           string        `xml:"imdsSupport,omitempty"`
	Platform       string        `xml:"platform,omitempty"`
	Details        string        `xml:"platformDetails"`
	Usage          string        `xml:"usageOperation"`
	Deprecated     string        `xml:"deprecationTime,omitempty"`
	Protected      string        `xml:"deregistrationProtection,omitempty"`
	LastLaunched   string        `xml:"lastLaunchedTime,omitempty"`
	SourceImage    string        `xml:"sourceImageId,omitempty"`
	SourceRegion   string        `xml:"sourceImageRegion,omitempty"`
	SourceInstance string        `xml:"sourceInstanceId,omitempty"`
	Reason         *reason       `xml:"stateReason"`
}

func imageOf(i localcloud.Image) image {
	out := image{
		ID: i.ID, Location: i.Location, State: i.State, Owner: i.Owner, OwnerAlias: i.OwnerAlias, Created: awswire.Time(i.Created),
		Public: i.Public, Products: productCodes(i.ProductCodes), Architecture: i.Arch, Type: "machine", Name: i.Name,
		Description: i.Description, RootType: "ebs", RootDevice: i.RootDevice, Devices: mappings(i.Devices), Virtualization: i.Virtualization,
		Tags: ec2wire.Tags(i.Tags), Hypervisor: "xen", ENA: i.ENA, Sriov: i.SriovNet, BootMode: i.BootMode, TPM: i.TPMSupport,
		IMDS: i.IMDSSupport, Platform: i.Platform, Details: "Linux/UNIX", Usage: "RunInstances", Deprecated: awswire.Time(i.Deprecated),
		Protected: protection(i), LastLaunched: awswire.Time(i.LastLaunched), SourceImage: i.SourceImage, SourceRegion: i.SourceImageRegion,
		SourceInstance: i.SourceInstance, Reason: reasonOf(i),
	}
	if i.Platform == "windows" {
		out.Details, out.Usage = "Windows", "RunInstances:0002"
	}
	return out
}

func protection(i localcloud.Image) string {
	if i.Protected == "" {
		return "disabled"
	}
	return i.Protected
}

// devicesOf returns one property of each volume of an image.
func devicesOf(get func(localcloud.DeviceMapping) []string) func(localcloud.Image) []string {
	return func(i localcloud.Image) (out []string) {
		for _, m := range i.Devices {
			if m.Volume != nil {
				out = append(out, get(m)...)
			}
		}
		return out
	}
}

var imageFilters = ec2wire.FilterBy[localcloud.Image]{
	"architecture": func(i localcloud.Image) []string { return ec2wire.One(i.Arch) },
	"block-device-mapping.delete-on-termination": devicesOf(func(m localcloud.DeviceMapping) []string { return ec2wire.Bool(m.Volume.DeleteOnTermination) }),
	"block-device-mapping.device-name":           devicesOf(func(m localcloud.DeviceMapping) []string { return ec2wire.One(m.Device) }),
	"block-device-mapping.encrypted":             devicesOf(func(m localcloud.DeviceMapping) []string { return ec2wire.Bool(m.Volume.Encrypted) }),
	"block-device-mapping.snapshot-id":           devicesOf(func(m localcloud.DeviceMapping) []string { return ec2wire.One(m.Volume.SnapshotID) }),
	"block-device-mapping.volume-size":           devicesOf(func(m localcloud.DeviceMapping) []string { return number(m.Volume.SizeGiB) }),
	"block-device-mapping.volume-type":           devicesOf(func(m localcloud.DeviceMapping) []string { return ec2wire.One(m.Volume.Type) }),
	"boot-mode":                                  func(i localcloud.Image) []string { return ec2wire.One(i.BootMode) },
	"creation-date":                              func(i localcloud.Image) []string { return ec2wire.One(awswire.Time(i.Created)) },
	"description":                                func(i localcloud.Image) []string { return ec2wire.One(i.Description) },
	"deprecation-time":                           func(i localcloud.Image) []string { return ec2wire.One(awswire.Time(i.Deprecated)) },
	"ena-support":                                func(i localcloud.Image) []string { return ec2wire.Bool(i.ENA) },
	"hypervisor":                                 func(localcloud.Image) []string { return ec2wire.One("xen") },
	"image-id":                                   func(i localcloud.Image) []string { return ec2wire.One(i.ID) },
	"image-type":                                 func(localcloud.Image) []string { return ec2wire.One("machine") },
	"imds-support":                               func(i localcloud.Image) []string { return ec2wire.One(i.IMDSSupport) },
	"is-public":                                  func(i localcloud.Image) []string { return ec2wire.Bool(i.Public) },
	"kernel-id":                                  func(localcloud.Image) []string { return nil },
	"manifest-location":                          func(i localcloud.Image) []string { return ec2wire.One(i.Location) },
	"name":                                       func(i localcloud.Image) []string { return ec2wire.One(i.Name) },
	"owner-alias":                                func(i localcloud.Image) []string { return ec2wire.One(i.OwnerAlias) },
	"owner-id":                                   func(i localcloud.Image) []string { return ec2wire.One(i.Owner) },
	"platform":                                   func(i localcloud.Image) []string { return ec2wire.One(i.Platform) },
	"platform-details":                           func(i localcloud.Image) []string { return ec2wire.One(imageOf(i).Details) },
	"product-code":                               func(i localcloud.Image) []string { return i.ProductCodes },
	"product-code.type": func(i localcloud.Image) []string {
		return ec2wire.Mapped(i.ProductCodes, func(string) string { return "marketplace" })
	},
	"ramdisk-id":       func(localcloud.Image) []string { return nil },
	"root-device-name": func(i localcloud.Image) []string { return ec2wire.One(i.RootDevice) },
	"root-device-type": func(localcloud.Image) []string { return ec2wire.One("ebs") },
	"source-image-id":  func(i localcloud.Image) []string { return ec2wire.One(i.SourceImage) },
	"source-image-region": func(i localcloud.Image) []string {
		return ec2wire.One(i.SourceImageRegion)
	},
	"source-instance-id":   func(i localcloud.Image) []string { return ec2wire.One(i.SourceInstance) },
	"sriov-net-support":    func(i localcloud.Image) []string { return ec2wire.One(i.SriovNet) },
	"state":                func(i localcloud.Image) []string { return ec2wire.One(i.State) },
	"state-reason-code":    func(i localcloud.Image) []string { return ec2wire.One(deref(reasonOf(i)).Code) },
	"state-reason-message": func(i localcloud.Image) []string { return ec2wire.One(deref(reasonOf(i)).Message) },
	"tpm-support":          func(i localcloud.Image) []string { return ec2wire.One(i.TPMSupport) },
	"usage-operation":      func(i localcloud.Image) []string { return ec2wire.One(imageOf(i).Usage) },
	"virtualization-type":  func(i localcloud.Image) []string { return ec2wire.One(i.Virtualization) },
}

func tagsOfImage(i localcloud.Image) localcloud.Tags { return i.Tags }

type describeImagesIn struct {
	ec2wire.DryRun
	ec2wire.Page
	IDs        []string        `q:"ImageId"`
	Owners     []string        `q:"Owner"`
	Executable []string        `q:"ExecutableBy"`
	Filters    ec2wire.Filters `q:"Filter"`
	Deprecated bool            `q:"IncludeDeprecated"`
	Disabled   bool            `q:"IncludeDisabled"`
}

type describeImagesOut struct {
	Images []image `xml:"imagesSet>item"`
	Next   string  `xml:"nextToken,omitempty"`
}

func (a *api) describeImages(ctx context.Context, c *awswire.Call, in *describeImagesIn) (*describeImagesOut, error) {
	if err := ec2wire.OnlyWithout(in.Page, in.IDs); err != nil {
		return nil, err
	}
	for _, o := range in.Owners {
		if !slices.Contains([]string{"self", "amazon", "aws-backup-vault", "aws-marketplace"}, o) && !account(o) {
			return nil, awswire.Errorf("InvalidUserID.Malformed", "Invalid user id: \"%s\"", o)
		}
	}
	all, err := a.cloud.FindImages(ctx, c.Region, in.IDs)
	if err != nil {
		return nil, err
	}
	now := a.cloud.Now()
	all = slices.DeleteFunc(all, func(i localcloud.Image) bool {
		own := i.Owner == localcloud.AccountID
		old := !i.Deprecated.IsZero() && now.After(i.Deprecated)
		return len(in.Owners) > 0 && !ownedBy(in.Owners, i.Owner, i.OwnerAlias) ||
			len(in.Executable) > 0 && !executableBy(in.Executable, i) ||
			old && !own && !in.Deprecated || i.State == "disabled" && !in.Disabled && len(in.IDs) == 0
	})
	if all, err = imageFilters.Match(in.Filters, all, tagsOfImage); err != nil {
		return nil, err
	}
	if err := in.DryRun.Check(); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 1, 1000)
	return &describeImagesOut{ec2wire.Mapped(page, imageOf), next}, err
}

func account(s string) bool { return len(s) == 12 && strings.Trim(s, "0123456789") == "" }

// executableBy reports whether one of those a request names may launch an
// image by its launch permissions: "self" are those given to the account.
func executableBy(names []string, i localcloud.Image) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		switch n {
		case "all":
			return i.Public
		case "self":
			n = localcloud.AccountID
		}
		return slices.Contains(i.LaunchUsers, n)
	})
}
