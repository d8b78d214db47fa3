package amazon

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
)

// faults collects what is wrong with the options.
type faults struct{ errs []error }

func (f *faults) add(err error) {
	if err != nil {
		f.errs = append(f.errs, err)
	}
}

func (f *faults) field(path, format string, args ...any) {
	f.errs = append(f.errs, diag.Fieldf(path, format, args...))
}

func (f *faults) fields(paths []string, format string, args ...any) {
	f.errs = append(f.errs, diag.Fieldsf(paths, format, args...))
}

func (f *faults) warn(paths []string, format string, args ...any) {
	f.errs = append(f.errs, &diag.FieldError{Paths: paths, Warn: true, Err: fmt.Errorf(format, args...)})
}

func (f *faults) oneOf(path, got string, known ...string) {
	if got != "" && !slices.Contains(known, got) {
		f.field(path, "%q is not known; it is one of %s", got, strings.Join(known, ", "))
	}
}

// only reports that not more than one of the options may be set.
func (f *faults) only(options map[string]bool) {
	var set []string
	for name, on := range options {
		if on {
			set = append(set, name)
		}
	}
	if sort.Strings(set); len(set) > 1 {
		f.fields(set, "cannot be used together with %s", strings.Join(set[1:], " and "))
	}
}

func (f *faults) err() error { return errors.Join(f.errs...) }

// onlyWarnings reports whether nothing in err keeps the builder from working.
func onlyWarnings(err error) bool {
	for _, e := range diag.Flatten(err) {
		var fe *diag.FieldError
		if !errors.As(e, &fe) || !fe.Warn {
			return false
		}
	}
	return true
}

func setDefault[T comparable](p *T, def T) {
	var zero T
	if *p == zero {
		*p = def
	}
}

var (
	imageID   = regexp.MustCompile(`^ami-[0-9a-zA-Z]+$`)
	accountID = regexp.MustCompile(`^[0-9]{12}$`)
	regionID  = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)+$`)
	imageName = regexp.MustCompile(`^[a-zA-Z0-9()\[\] ./\-'@_]{3,128}$`)
)

// maxUserData is what EC2 takes, in bytes before base64
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-add-user-data.html).
const maxUserData = 16 << 10

// prepare checks the options of the source instance and sets their defaults.
func (c *RunOptions) prepare(f *faults, comm *Comm) {
	c.prepareSource(f)
	c.prepareTypes(f)
	c.prepareNetwork(f)
	c.prepareUserData(f)
	c.prepareProfile(f)
	c.prepareHardware(f)
	c.prepareSpot(f)
	c.prepareConnection(f, comm)
	checkTags(f, "run_tags", c.RunTags, "run_tag", c.RunTagEntries)
	checkTags(f, "spot_tags", c.SpotTags, "spot_tag", c.SpotTagEntries)
	checkTags(f, "fleet_tags", c.FleetTags, "fleet_tag", c.FleetTagEntries)
}

func (c *RunOptions) prepareSource(f *faults) {
	both := []string{"source_ami", "source_ami_filter"}
	switch {
	case strings.HasPrefix(c.SourceAMI, "snap-"):
		f.field("source_ami", "%s is a snapshot of a disk, which does not boot by itself; name an image (ami-…)", c.SourceAMI)
	case c.SourceAMI != "" && !imageID.MatchString(c.SourceAMI):
		f.field("source_ami", "%q is not the id of an image, such as ami-0123456789abcdef0", c.SourceAMI)
	case c.SourceAMI == "" && c.SourceAMIFilter == nil:
		f.fields(both, "one of source_ami and source_ami_filter must be set")
	}
	if s := c.SourceAMIFilter; s != nil && c.SourceAMI == "" {
		if len(s.Filters) == 0 && len(s.Owners) == 0 {
			f.fields([]string{"source_ami_filter", "source_ami_filter.filters", "source_ami_filter.owners"}, "needs filters and owners")
		} else if len(s.Owners) == 0 {
			f.field("source_ami_filter.owners", "must be set: without an owner an image of anybody would be taken")
		}
	}
}

func (c *RunOptions) prepareTypes(f *faults) {
	f.only(map[string]bool{"instance_type": c.InstanceType != "", "spot_instance_types": len(c.SpotTypes) > 0})
	f.only(map[string]bool{"instance_types": len(c.InstanceTypes) > 0, "spot_instance_types": len(c.SpotTypes) > 0})
	if c.InstanceType == "" && len(c.SpotTypes) == 0 && len(c.InstanceTypes) == 0 {
		f.fields([]string{"instance_type", "instance_types", "spot_instance_types"}, "one of instance_type, instance_types and spot_instance_types must be set")
	}
	if len(c.SpotTypes) > 0 && c.SpotPrice == "" {
		f.fields([]string{"spot_instance_types", "spot_price"}, `needs spot_price; "auto" takes up to the on-demand price`)
	}
	if c.T2Unlimited {
		f.warn([]string{"enable_t2_unlimited"}, "is an old name of enable_unlimited_credits")
		c.UnlimitedCredits = true
	}
	for _, t := range c.types() {
		family, _, ok := strings.Cut(t, ".")
		if !ok {
			f.fields([]string{"instance_type", "instance_types", "spot_instance_types"}, "%q is not an instance type, such as t3.small", t)
		}
		if burst := slices.Contains([]string{"t2", "t3", "t3a", "t4g"}, family); c.UnlimitedCredits && !burst {
			f.fields([]string{"enable_unlimited_credits", "instance_type", "instance_types", "spot_instance_types"},
				"is for instances of the types t2, t3, t3a and t4g, not for %s", t)
		} else if c.Enclave && burst {
			f.fields([]string{"enable_nitro_enclave", "instance_type", "instance_types", "spot_instance_types"}, "is not for instances of the type %s", t)
		}
		if c.UnlimitedCredits && family == "t2" && c.SpotPrice != "" {
			f.fields([]string{"enable_unlimited_credits", "spot_price", "instance_type"}, "is not for spot instances of the type %s", t)
		}
	}
	if c.Enclave && c.SpotPrice != "" {
		f.fields([]string{"enable_nitro_enclave", "spot_price"}, "is not for spot instances")
	}
}

// types are the instance types in the order in which they are tried.
func (c *RunOptions) types() []string {
	var out []string
	for _, t := range slices.Concat([]string{c.InstanceType}, c.InstanceTypes, c.SpotTypes) {
		if t != "" && !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

func (c *RunOptions) prepareNetwork(f *faults) {
	f.only(map[string]bool{"security_group_id": c.SecurityGroupID != "", "security_group_ids": len(c.SecurityGroupIDs) > 0})
	f.only(map[string]bool{
		"temporary_security_group_source_cidrs":     len(c.GroupSourceCIDRs) > 0,
		"temporary_security_group_source_public_ip": c.GroupSourcePublicIP,
	})
	for i, s := range c.GroupSourceCIDRs {
		if _, err := netip.ParsePrefix(s); err != nil {
			f.field(fmt.Sprintf("temporary_security_group_source_cidrs[%d]", i), "%q is not a range of addresses, such as 192.0.2.0/24", s)
		}
	}
	if s := c.SubnetFilter; s != nil {
		f.only(map[string]bool{"subnet_filter.most_free": s.MostFree, "subnet_filter.random": s.Random})
		checkFilter(f, "subnet_filter", s.Filters, s.Filter)
	}
	if c.VPCFilter != nil {
		checkFilter(f, "vpc_filter", c.VPCFilter.Filters, c.VPCFilter.Filter)
	}
	if c.SecurityGroupFilter != nil {
		checkFilter(f, "security_group_filter", c.SecurityGroupFilter.Filters, c.SecurityGroupFilter.Filter)
	}
}

func checkFilter(f *faults, name string, filters map[string]string, entries []NameValue) {
	for i, e := range entries {
		if e.Name == "" {
			f.field(fmt.Sprintf("%s.filter[%d].name", name, i), "must be set")
		}
	}
	if len(filters) == 0 && len(entries) == 0 && name != "subnet_filter" {
		f.fields([]string{name, name + ".filters", name + ".filter"}, "needs at least one filter")
	}
}

func (c *RunOptions) prepareUserData(f *faults) {
	f.only(map[string]bool{"user_data": c.UserData != "", "user_data_file": c.UserDataFile != ""})
	data, err := c.userData()
	switch {
	case err != nil:
		f.field("user_data_file", "%w", err)
	case base64.StdEncoding.DecodedLen(len(data)) > maxUserData+2:
		f.fields([]string{"user_data", "user_data_file"}, "is longer than the %d bytes that EC2 takes", maxUserData)
	}
}

// userData is what the instance is handed, in base64; "" for nothing. What is
// in base64 already is left alone.
func (c *RunOptions) userData() (string, error) {
	data := c.UserData
	if c.UserDataFile != "" {
		raw, err := os.ReadFile(c.UserDataFile)
		if err != nil {
			return "", err
		}
		data = string(raw)
	}
	if data == "" {
		return "", nil
	}
	if _, err := base64.StdEncoding.DecodeString(data); err == nil {
		return data, nil
	}
	return base64.StdEncoding.EncodeToString([]byte(data)), nil
}

func (c *RunOptions) prepareProfile(f *faults) {
	const doc = "temporary_iam_instance_profile_policy_document"
	f.only(map[string]bool{"iam_instance_profile": c.InstanceProfile != "", doc: c.ProfilePolicy != nil})
	p := c.ProfilePolicy
	if p == nil {
		return
	}
	setDefault(&p.Version, "2012-10-17")
	f.oneOf(doc+".Version", p.Version, "2012-10-17", "2008-10-17")
	if len(p.Statements) == 0 {
		f.fields([]string{doc, doc + ".Statement"}, "needs at least one Statement")
	}
	for i, s := range p.Statements {
		path := fmt.Sprintf("%s.Statement[%d]", doc, i)
		if s.Effect != "Allow" && s.Effect != "Deny" {
			f.field(path+".Effect", "is Allow or Deny, not %q", s.Effect)
		}
		if len(s.Action) == 0 {
			f.fields([]string{path + ".Action", path}, "must name at least one action")
		}
		if len(s.Resource) == 0 {
			f.fields([]string{path + ".Resource", path}, "must name at least one resource")
		}
	}
}

func (c *RunOptions) prepareHardware(f *faults) {
	f.oneOf("shutdown_behavior", c.ShutdownBehavior, "stop", "terminate")
	if c.ShutdownBehavior == "" {
		c.ShutdownBehavior = "stop"
		// An instance that ends itself must not stay as a stopped one; with
		// disable_stop_instance the guest's own shutdown is part of the build.
		if c.DeadMan > 0 && !c.DisableStop {
			c.ShutdownBehavior = "terminate"
		}
	}
	if c.DisableStop && c.ShutdownBehavior == "terminate" {
		f.fields([]string{"disable_stop_instance", "shutdown_behavior"}, `needs shutdown_behavior = "stop": the instance would be gone before its image is made`)
	}
	tenancies := []string{"default", "dedicated", "host"}
	f.oneOf("tenancy", c.Tenancy, tenancies...)
	if p := c.Placement; p != nil {
		f.oneOf("placement.tenancy", p.Tenancy, tenancies...)
		f.only(map[string]bool{"tenancy": c.Tenancy != "", "placement.tenancy": p.Tenancy != ""})
		f.only(map[string]bool{"placement.host_id": p.HostID != "", "placement.host_resource_group_arn": p.HostGroupARN != ""})
		if p.HostGroupARN != "" && p.Tenancy != "" && p.Tenancy != "host" {
			f.fields([]string{"placement.host_resource_group_arn", "placement.tenancy"}, `needs tenancy = "host"`)
		}
	}
	if c.Tenancy != "" {
		f.warn([]string{"tenancy"}, "is an old name of tenancy in the block placement")
	}
	if m := c.Metadata; m != nil {
		f.oneOf("metadata_options.http_endpoint", m.Endpoint, "enabled", "disabled")
		f.oneOf("metadata_options.http_tokens", m.Tokens, "optional", "required")
		f.oneOf("metadata_options.instance_metadata_tags", m.Tags, "enabled", "disabled")
		if m.HopLimit != 0 && (m.HopLimit < 1 || m.HopLimit > 64) {
			f.field("metadata_options.http_put_response_hop_limit", "is 1 to 64, not %d", m.HopLimit)
		}
	}
	f.oneOf("capacity_reservation_preference", c.CapacityPref, "none", "open", "capacity-reservations-only")
	f.only(map[string]bool{
		"capacity_reservation_preference": c.CapacityPref != "" && c.CapacityPref != "capacity-reservations-only",
		"capacity_reservation_id":         c.CapacityID != "", "capacity_reservation_group_arn": c.CapacityGroupARN != "",
	})
	for i, l := range c.Licenses {
		if l.Request.ARN == "" {
			path := fmt.Sprintf("license_specifications[%d].license_configuration_request", i)
			f.fields([]string{path + ".license_configuration_arn", path}, "must be set")
		}
	}
	if c.BlockDuration != 0 {
		if c.BlockDuration%60 != 0 || c.BlockDuration < 0 {
			f.field("block_duration_minutes", "is a multiple of 60, not %d", c.BlockDuration)
		} else {
			f.warn([]string{"block_duration_minutes"}, "has no effect: AWS no longer reserves spot instances for a time")
		}
	}
	if c.DeadMan < 0 || c.DeadMan > 0 && c.DeadMan < time.Minute {
		f.field("dead_man", "is a minute or more, not %s", c.DeadMan)
	}
}

func (c *RunOptions) prepareSpot(f *faults) {
	if c.SpotPrice != "" && c.SpotPrice != "auto" {
		if v, err := strconv.ParseFloat(c.SpotPrice, 64); err != nil || v <= 0 {
			f.field("spot_price", `%q is neither "auto" nor a price in dollars an hour, such as "0.05"`, c.SpotPrice)
		}
	}
	f.oneOf("spot_allocation_strategy", c.SpotStrategy, "lowest-price", "diversified", "capacity-optimized", "capacity-optimized-prioritized", "price-capacity-optimized")
	needs := func(opt string, set bool) {
		if set && c.SpotPrice == "" {
			f.fields([]string{opt, "spot_price"}, "is for spot instances only: it needs spot_price")
		}
	}
	needs("spot_allocation_strategy", c.SpotStrategy != "")
	needs("spot_fallback", c.SpotFallback)
	needs("spot_tags", len(c.SpotTags) > 0)
	needs("spot_tag", len(c.SpotTagEntries) > 0)
	needs("fleet_tags", len(c.FleetTags) > 0)
	needs("fleet_tag", len(c.FleetTagEntries) > 0)
	if c.SpotAutoProduct != "" {
		f.warn([]string{"spot_price_auto_product"}, "has no effect and can be removed")
	}
	if c.SpotPrice != "" && c.DisableStop {
		f.fields([]string{"disable_stop_instance", "spot_price"}, "is not for spot instances: one that was stopped from inside is gone")
	}
}

func (c *RunOptions) prepareConnection(f *faults, comm *Comm) {
	// The key of one build is of a kind that is made at once. Windows and what
	// asks for another type get theirs, see keypair.go.
	f.oneOf("temporary_key_pair_type", comm.TemporaryKeyPairType, "rsa", "ed25519")
	c.autoKey = comm.TemporaryKeyPairType == "" && comm.TemporaryKeyPairBits == 0
	f.add(comm.Prepare())
	f.oneOf("ssh_interface", c.Interface, "public_ip", "private_ip", "public_dns", "private_dns", "ipv6", "session_manager")
	if c.Interface == "session_manager" {
		if comm.Communicator == "none" {
			f.fields([]string{"ssh_interface", "communicator"}, `"session_manager" needs a communicator`)
		}
		if c.InstanceProfile == "" && c.ProfilePolicy == nil {
			f.fields([]string{"ssh_interface", "iam_instance_profile", "temporary_iam_instance_profile_policy_document"},
				`"session_manager" needs iam_instance_profile or temporary_iam_instance_profile_policy_document: the agent in the instance must be allowed to answer`)
		}
		if comm.SSHBastionHost != "" {
			f.fields([]string{"ssh_interface", "ssh_bastion_host"}, `"session_manager" cannot be used together with ssh_bastion_host`)
		}
	}
	if c.SessionPort < 0 || c.SessionPort > 65535 {
		f.field("session_manager_port", "a port is 1 to 65535, not %d", c.SessionPort)
	}
	if c.PauseBeforeSSM < 0 {
		f.field("pause_before_ssm", "must not be negative")
	}
	setDefault(&c.WindowsTimeout, 20*time.Minute)
	if c.WindowsTimeout < 0 {
		f.field("windows_password_timeout", "must not be negative")
	}
	if c.DeadMan > 0 && comm.Communicator != "ssh" {
		f.fields([]string{"dead_man", "communicator"}, "needs the communicator ssh, by which the timer is set")
	}
}
