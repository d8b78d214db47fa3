package compute

import (
	"context"
	"encoding/base64"
	"strconv"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) attributes() awswire.Operations {
	return awswire.Operations{
		"DescribeInstanceAttribute":            awswire.Op(a.describeAttribute),
		"ModifyInstanceAttribute":              awswire.Op(a.modifyAttribute),
		"ResetInstanceAttribute":               awswire.Op(a.resetAttribute),
		"ModifyInstanceMetadataOptions":        awswire.Op(a.modifyMetadata),
		"DescribeInstanceCreditSpecifications": awswire.Op(a.describeCredits),
		"ModifyInstanceCreditSpecification":    awswire.Op(a.modifyCredits),
	}
}

type attributeInput struct {
	instanceID
	Attribute string `q:"Attribute,required"`
}

type attributeOutput struct {
	ID               string     `xml:"instanceId"`
	Type             *textValue `xml:"instanceType"`
	Kernel           *textValue `xml:"kernel"`
	Ramdisk          *textValue `xml:"ramdisk"`
	UserData         *textValue `xml:"userData"`
	APITermination   *boolValue `xml:"disableApiTermination"`
	APIStop          *boolValue `xml:"disableApiStop"`
	ShutdownBehavior *textValue `xml:"instanceInitiatedShutdownBehavior"`
	RootDevice       *textValue `xml:"rootDeviceName"`
	Devices          *struct {
		Items []device `xml:"item"`
	} `xml:"blockDeviceMapping"`
	SourceDest   *boolValue `xml:"sourceDestCheck"`
	Groups       *groupSet  `xml:"groupSet"`
	ProductCodes *struct{}  `xml:"productCodes"`
	EBSOptimized *boolValue `xml:"ebsOptimized"`
	SriovNet     *textValue `xml:"sriovNetSupport"`
	ENA          *boolValue `xml:"enaSupport"`
	Enclave      *enabled   `xml:"enclaveOptions"`
}

type groupSet struct {
	Items []group `xml:"item"`
}

func (a *api) describeAttribute(ctx context.Context, call *awswire.Call, in *attributeInput) (*attributeOutput, error) {
	s, err := a.shower(ctx, call.Region)
	if err != nil {
		return nil, err
	}
	all, err := a.cloud.Instances(ctx, call.Region, []string{in.ID})
	if err != nil {
		return nil, err
	}
	i := all[0]
	out := &attributeOutput{ID: i.ID}
	switch in.Attribute {
	case "instanceType":
		out.Type = &textValue{i.Type}
	case "kernel":
		out.Kernel = &textValue{}
	case "ramdisk":
		out.Ramdisk = &textValue{}
	case "userData":
		out.UserData = &textValue{base64.StdEncoding.EncodeToString(i.UserData)}
	case "disableApiTermination":
		out.APITermination = &boolValue{i.APITermination}
	case "disableApiStop":
		out.APIStop = &boolValue{i.APIStop}
	case "instanceInitiatedShutdownBehavior":
		out.ShutdownBehavior = &textValue{i.ShutdownBehavior}
	case "rootDeviceName":
		out.RootDevice = &textValue{i.RootDevice}
	case "blockDeviceMapping":
		out.Devices = &struct {
			Items []device `xml:"item"`
		}{s.instance(i).Devices}
	case "sourceDestCheck":
		out.SourceDest = &boolValue{i.SourceDestCheck}
	case "groupSet":
		out.Groups = &groupSet{s.groupSet(i.SecurityGroups)}
	case "productCodes":
		out.ProductCodes = &struct{}{}
	case "ebsOptimized":
		out.EBSOptimized = &boolValue{i.EBSOptimized}
	case "sriovNetSupport":
		out.SriovNet = &textValue{i.SriovNet}
	case "enaSupport":
		out.ENA = &boolValue{i.ENA}
	case "enclaveOptions":
		out.Enclave = &enabled{i.Enclave}
	default:
		return nil, badAttribute(in.Attribute)
	}
	return out, in.Check()
}

func badAttribute(name string) error {
	return awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Unknown instance attribute.", name)
}

type modifyInput struct {
	instanceID
	Attribute        string     `q:"Attribute"`
	Value            *string    `q:"Value"`
	Type             *textValue `q:"InstanceType"`
	UserData         *dataValue `q:"UserData"`
	SriovNet         *textValue `q:"SriovNetSupport"`
	ENA              *boolValue `q:"EnaSupport"`
	APITermination   *boolValue `q:"DisableApiTermination"`
	APIStop          *boolValue `q:"DisableApiStop"`
	ShutdownBehavior *textValue `q:"InstanceInitiatedShutdownBehavior"`
	SourceDest       *boolValue `q:"SourceDestCheck"`
	EBSOptimized     *boolValue `q:"EbsOptimized"`
	Groups           []string   `q:"GroupId"`
	Devices          []struct {
		Name string `q:"DeviceName,required"`
		EBS  struct {
			Delete *bool  `q:"DeleteOnTermination"`
			Volume string `q:"VolumeId"`
		} `q:"Ebs"`
	} `q:"BlockDeviceMapping"`
	Kernel  *textValue `q:"Kernel"`
	Ramdisk *textValue `q:"Ramdisk"`
}

type dataValue struct {
	Value []byte `q:"Value"`
}

func (a *api) modifyAttribute(ctx context.Context, call *awswire.Call, in *modifyInput) (*ec2wire.Return, error) {
	if in.Kernel != nil || in.Ramdisk != nil {
		return nil, awswire.Errorf("UnsupportedOperation", "Instances of the local cloud have no kernel or RAM disk of their own")
	}
	if err := in.named(); err != nil {
		return nil, err
	}
	p := localcloud.InstanceChanges{Groups: in.Groups}
	p.Type, p.SriovNet, p.ShutdownBehavior = textOf(in.Type), textOf(in.SriovNet), textOf(in.ShutdownBehavior)
	p.ENA, p.APITermination, p.APIStop = boolOf(in.ENA), boolOf(in.APITermination), boolOf(in.APIStop)
	p.SourceDestCheck, p.EBSOptimized = boolOf(in.SourceDest), boolOf(in.EBSOptimized)
	if in.UserData != nil {
		p.UserData = &in.UserData.Value
	}
	for _, d := range in.Devices {
		if d.EBS.Delete == nil {
			return nil, awswire.Errorf("MissingParameter", "The mapping of %s must contain the parameter Ebs.DeleteOnTermination", d.Name)
		}
		if p.Devices == nil {
			p.Devices = map[string]bool{}
		}
		p.Devices[d.Name] = *d.EBS.Delete
	}
	return ec2wire.OK(), a.cloud.ModifyInstance(dry(ctx, in.DryRun), call.Region, in.ID, p)
}

// named turns the older form, an attribute's name and its value, into the
// newer one.
func (in *modifyInput) named() error {
	if in.Attribute == "" {
		return nil
	}
	if in.Value == nil {
		if in.Attribute == "blockDeviceMapping" && len(in.Devices) > 0 || in.Attribute == "groupSet" && len(in.Groups) > 0 {
			return nil
		}
		return awswire.Errorf("MissingParameter", "The request must contain the parameter Value")
	}
	for _, f := range []struct {
		name string
		to   **textValue
	}{{"instanceType", &in.Type}, {"sriovNetSupport", &in.SriovNet}, {"instanceInitiatedShutdownBehavior", &in.ShutdownBehavior}} {
		if f.name == in.Attribute {
			*f.to = &textValue{*in.Value}
			return nil
		}
	}
	for _, f := range []struct {
		name string
		to   **boolValue
	}{
		{"enaSupport", &in.ENA},
		{"disableApiTermination", &in.APITermination},
		{"disableApiStop", &in.APIStop},
		{"sourceDestCheck", &in.SourceDest},
		{"ebsOptimized", &in.EBSOptimized},
	} {
		if f.name == in.Attribute {
			b, err := strconv.ParseBool(*in.Value)
			if err != nil {
				return awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter value is invalid. It must be true or false", *in.Value)
			}
			*f.to = &boolValue{b}
			return nil
		}
	}
	if in.Attribute == "userData" {
		data, err := base64.StdEncoding.DecodeString(*in.Value)
		if err != nil {
			return awswire.Errorf("InvalidParameterValue", "Value for parameter value is invalid. User data must be base64")
		}
		in.UserData = &dataValue{data}
		return nil
	}
	return badAttribute(in.Attribute)
}

func textOf(v *textValue) *string {
	if v == nil {
		return nil
	}
	return &v.Value
}

func boolOf(v *boolValue) *bool {
	if v == nil {
		return nil
	}
	return &v.Value
}

// resetAttribute: only sourceDestCheck has something to go back to here.
func (a *api) resetAttribute(ctx context.Context, call *awswire.Call, in *attributeInput) (*ec2wire.Return, error) {
	if in.Attribute != "sourceDestCheck" {
		if in.Attribute == "kernel" || in.Attribute == "ramdisk" {
			return nil, awswire.Errorf("UnsupportedOperation", "Instances of the local cloud have no kernel or RAM disk of their own")
		}
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. sourceDestCheck, kernel and ramdisk can be reset", in.Attribute)
	}
	on := true
	return ec2wire.OK(), a.cloud.ModifyInstance(dry(ctx, in.DryRun), call.Region, in.ID, localcloud.InstanceChanges{SourceDestCheck: &on})
}

type modifyMetadataInput struct {
	instanceID
	ec2wire.LaunchMetadata
}

type modifyMetadataOutput struct {
	ID      string          `xml:"instanceId"`
	Options metadataOptions `xml:"instanceMetadataOptions"`
}

func (a *api) modifyMetadata(ctx context.Context, call *awswire.Call, in *modifyMetadataInput) (*modifyMetadataOutput, error) {
	m, err := in.Spec()
	if err != nil {
		return nil, err
	}
	got, err := a.cloud.ModifyMetadataOptions(dry(ctx, in.DryRun), call.Region, in.ID, *m)
	if err != nil {
		return nil, err
	}
	return &modifyMetadataOutput{in.ID, metadataOf(got, "pending")}, nil
}

type creditsInput struct {
	ec2wire.DryRun
	ec2wire.Page
	IDs     []string        `q:"InstanceId"`
	Filters ec2wire.Filters `q:"Filter"`
}

type creditSpec struct {
	ID      string `xml:"instanceId"`
	Credits string `xml:"cpuCredits"`
}

type creditsOutput struct {
	Specs []creditSpec `xml:"instanceCreditSpecificationSet>item"`
	Next  string       `xml:"nextToken,omitempty"`
}

func (a *api) describeCredits(ctx context.Context, call *awswire.Call, in *creditsInput) (*creditsOutput, error) {
	if err := ec2wire.OnlyWithout(in.Page, in.IDs); err != nil {
		return nil, err
	}
	all, err := a.cloud.Instances(ctx, call.Region, in.IDs)
	if err != nil {
		return nil, err
	}
	by := ec2wire.FilterBy[localcloud.Instance]{"instance-id": func(i localcloud.Instance) []string { return ec2wire.One(i.ID) }}
	if all, err = by.Match(in.Filters, all, instanceTags); err != nil {
		return nil, err
	}
	if err := in.Check(); err != nil {
		return nil, err
	}
	var specs []creditSpec
	for _, i := range all {
		// Without ids only those are told that are unlimited.
		if i.Credits != "" && (len(in.IDs) > 0 || i.Credits == "unlimited") {
			specs = append(specs, creditSpec{i.ID, i.Credits})
		}
	}
	page, next, err := ec2wire.Slice(in.Page, specs, 5, 1000)
	return &creditsOutput{page, next}, err
}

type modifyCreditsInput struct {
	ec2wire.DryRun
	ClientToken string `q:"ClientToken"` // the same change twice is one change
	Specs       []struct {
		ID      string `q:"InstanceId,required"`
		Credits string `q:"CpuCredits,required"`
	} `q:"InstanceCreditSpecification,required"`
}

type creditRefusal struct {
	ID    string `xml:"instanceId"`
	Error reason `xml:"error"`
}

type modifyCreditsOutput struct {
	Done []struct {
		ID string `xml:"instanceId"`
	} `xml:"successfulInstanceCreditSpecificationSet>item"`
	Refused []creditRefusal `xml:"unsuccessfulInstanceCreditSpecificationSet>item"`
}

func (a *api) modifyCredits(ctx context.Context, call *awswire.Call, in *modifyCreditsInput) (*modifyCreditsOutput, error) {
	var changes []localcloud.CreditChange
	for _, s := range in.Specs {
		changes = append(changes, localcloud.CreditChange{Instance: s.ID, Credits: s.Credits})
	}
	done, refused, err := a.cloud.ModifyCredits(dry(ctx, in.DryRun), call.Region, changes)
	if err != nil {
		return nil, err
	}
	out := &modifyCreditsOutput{Refused: ec2wire.Mapped(refused, func(r localcloud.CreditRefusal) creditRefusal {
		return creditRefusal{r.Instance, reason{r.Code, r.Message}}
	})}
	for _, id := range done {
		out.Done = append(out.Done, struct {
			ID string `xml:"instanceId"`
		}{id})
	}
	return out, nil
}
