package storage

import (
	"context"
	"slices"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) imageAttributes() awswire.Operations {
	return awswire.Operations{
		"ModifyImageAttribute":   awswire.Op(a.modifyImageAttribute),
		"DescribeImageAttribute": awswire.Op(a.describeImageAttribute),
		"ResetImageAttribute":    awswire.Op(a.resetImageAttribute),
	}
}

type modifyImageAttributeIn struct {
	imageIn
	Attribute   string      `q:"Attribute"`
	Description *textValue  `q:"Description"`
	IMDS        *textValue  `q:"ImdsSupport"`
	Permission  permissions `q:"LaunchPermission"`
	Operation   string      `q:"OperationType"`
	OUs         []string    `q:"OrganizationalUnitArn"`
	Orgs        []string    `q:"OrganizationArn"`
	Products    []string    `q:"ProductCode"`
	Groups      []string    `q:"UserGroup"`
	Users       []string    `q:"UserId"`
	Value       *string     `q:"Value"`
}

// spread puts what is given as Attribute and Value where it belongs.
func (in *modifyImageAttributeIn) spread() error {
	switch in.Attribute {
	case "", "launchPermission", "productCodes":
		if in.Value != nil && in.Attribute != "productCodes" {
			return awswire.Errorf("InvalidParameterCombination", "The parameter value goes with the attributes description, imdsSupport and productCodes")
		}
		if in.Value != nil {
			in.Products = append(in.Products, *in.Value)
		}
	case "description":
		if in.Value != nil {
			in.Description = &textValue{*in.Value}
		}
	case "imdsSupport":
		if in.Value != nil {
			in.IMDS = &textValue{*in.Value}
		}
	default:
		return awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. It must be description, imdsSupport, launchPermission or productCodes", in.Attribute)
	}
	return nil
}

func (a *api) modifyImageAttribute(ctx context.Context, c *awswire.Call, in *modifyImageAttributeIn) (*ec2wire.Return, error) {
	if err := in.spread(); err != nil {
		return nil, err
	}
	sh, err := in.Permission.sharing(in.Operation, in.Users, in.Groups, in.Orgs, in.OUs)
	if err != nil {
		return nil, err
	}
	given := 0
	for _, b := range []bool{in.Description != nil, in.IMDS != nil, !sh.Empty(), len(in.Products) > 0} {
		if b {
			given++
		}
	}
	switch {
	case given == 0:
		return nil, awswire.Errorf("MissingParameter", "The request must contain one attribute to change: launchPermission, description, imdsSupport or productCodes")
	case given > 1:
		return nil, awswire.Errorf("InvalidParameterCombination", "The request may contain one attribute to change only")
	case in.IMDS != nil && in.IMDS.Value != "v2.0":
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter imdsSupport is invalid. It must be v2.0", in.IMDS.Value)
	}
	_, err = a.cloud.ChangeImage(dry(ctx, in.DryRun), c.Region, in.ID, func(t *localcloud.Tx, i *localcloud.Image) error {
		switch {
		case in.Description != nil:
			return i.Describe(in.Description.Value)
		case in.IMDS != nil:
			i.IMDSSupport = in.IMDS.Value
		case len(in.Products) > 0:
			for _, p := range in.Products {
				if !slices.Contains(i.ProductCodes, p) {
					i.ProductCodes = append(i.ProductCodes, p)
				}
			}
		default:
			if i.State != "available" {
				return localcloud.Errorf("InvalidAMIID.Unavailable", "The image ID '%s' is '%s'; it can be shared when it is available", i.ID, i.State)
			}
			return t.ShareImage(i, sh)
		}
		return nil
	})
	return ec2wire.OK(), err
}

type imageAttributeIn struct {
	imageIn
	Attribute string `q:"Attribute,required"`
}

type imageAttributeOut struct {
	ID           string        `xml:"imageId"`
	Devices      []mapping     `xml:"blockDeviceMapping>item"`
	BootMode     *textValue    `xml:"bootMode"`
	Protection   *textValue    `xml:"deregistrationProtection"`
	Description  *textValue    `xml:"description"`
	IMDS         *textValue    `xml:"imdsSupport"`
	Kernel       *textValue    `xml:"kernel"`
	LastLaunched *textValue    `xml:"lastLaunchedTime"`
	Permissions  []permission  `xml:"launchPermission>item"`
	Products     []productCode `xml:"productCodes>item"`
	Ramdisk      *textValue    `xml:"ramdisk"`
	Sriov        *textValue    `xml:"sriovNetSupport"`
	TPM          *textValue    `xml:"tpmSupport"`
	UEFIData     *textValue    `xml:"uefiData"`
}

func (a *api) describeImageAttribute(ctx context.Context, c *awswire.Call, in *imageAttributeIn) (*imageAttributeOut, error) {
	all, err := a.cloud.FindImages(ctx, c.Region, []string{in.ID})
	if err != nil {
		return nil, err
	}
	i := all[0]
	if i.Owner != localcloud.AccountID {
		return nil, awswire.Statusf(403, "AuthFailure", "Not authorized for image:%s", i.ID)
	}
	out := &imageAttributeOut{ID: i.ID}
	switch in.Attribute {
	case "blockDeviceMapping":
		out.Devices = mappings(i.Devices)
	case "bootMode":
		out.BootMode = text(i.BootMode)
	case "deregistrationProtection":
		out.Protection = text(protection(i))
	case "description":
		out.Description = &textValue{i.Description}
	case "imdsSupport":
		out.IMDS = text(i.IMDSSupport)
	case "kernel", "ramdisk": // no image has one
	case "lastLaunchedTime":
		out.LastLaunched = text(awswire.Time(i.LastLaunched))
	case "launchPermission":
		out.Permissions = permissionsOf(i.LaunchUsers, i.LaunchGroups, i.LaunchOrgs, i.LaunchOUs)
	case "productCodes":
		out.Products = productCodes(i.ProductCodes)
	case "sriovNetSupport":
		out.Sriov = text(i.SriovNet)
	case "tpmSupport":
		out.TPM = text(i.TPMSupport)
	case "uefiData":
		out.UEFIData = text(i.UEFIData)
	default:
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Unknown attribute", in.Attribute)
	}
	return out, in.DryRun.Check()
}

func (a *api) resetImageAttribute(ctx context.Context, c *awswire.Call, in *imageAttributeIn) (*ec2wire.Return, error) {
	if in.Attribute != "launchPermission" {
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Only launchPermission can be reset", in.Attribute)
	}
	_, err := a.cloud.ChangeImage(dry(ctx, in.DryRun), c.Region, in.ID, func(_ *localcloud.Tx, i *localcloud.Image) error {
		i.Public, i.LaunchUsers, i.LaunchGroups, i.LaunchOrgs, i.LaunchOUs = false, nil, nil, nil, nil
		return nil
	})
	return ec2wire.OK(), err
}
