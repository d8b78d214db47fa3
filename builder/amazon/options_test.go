package amazon

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/internal/diag"
)

// Packer's options, as its plugin 1.8.3 has them.
const (
	accessNames = `region access_key secret_key token profile shared_credentials_file assume_role custom_endpoint_ec2
		decode_authorization_messages insecure_skip_tls_verify max_retries mfa_code skip_metadata_api_check
		skip_credential_validation vault_aws_engine aws_polling communicator ssh_username ssh_password winrm_username`
	runNames = `source_ami source_ami_filter instance_type vpc_id vpc_filter subnet_id subnet_filter security_group_id
		security_group_ids security_group_filter associate_public_ip_address availability_zone iam_instance_profile run_tags
		run_tag user_data user_data_file ssh_interface temporary_security_group_source_cidrs
		temporary_security_group_source_public_ip metadata_options spot_price spot_instance_types block_duration_minutes
		capacity_reservation_preference capacity_reservation_id capacity_reservation_group_arn disable_stop_instance
		ebs_optimized enable_nitro_enclave enable_t2_unlimited enable_unlimited_credits fleet_tags fleet_tag
		skip_profile_validation temporary_iam_instance_profile_policy_document shutdown_behavior spot_allocation_strategy
		spot_price_auto_product spot_tags spot_tag license_specifications placement tenancy windows_password_timeout
		pause_before_ssm session_manager_port run_volume_tags run_volume_tag`
	imageNames = `ami_name ami_description ami_regions ami_users tags tag snapshot_tags snapshot_tag encrypt_boot kms_key_id
		region_kms_key_ids force_deregister force_delete_snapshot ami_virtualization_type ami_groups ami_org_arns ami_ou_arns
		ami_product_codes skip_region_validation snapshot_copy_duration_minutes ena_support sriov_support
		skip_save_build_region imds_support deprecate_at snapshot_users snapshot_groups deregistration_protection
		skip_ami_run_tags ami_block_device_mappings launch_block_device_mappings`
)

// optionNames lists the options of a configuration struct.
func optionNames(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		tag, tagged := f.Tag.Lookup("hcl")
		switch {
		case tagged:
			name, _, _ := strings.Cut(tag, ",")
			out = append(out, name)
		case f.Anonymous:
			out = append(out, optionNames(f.Type)...)
		}
	}
	return out
}

func TestEveryOption(t *testing.T) {
	for name, c := range map[string]struct {
		typ  reflect.Type
		want string
	}{
		typeEBS:       {reflect.TypeFor[EBSConfig](), accessNames + " " + runNames + " " + imageNames + " skip_create_ami no_ephemeral fast_launch"},
		typeSurrogate: {reflect.TypeFor[SurrogateConfig](), accessNames + " " + runNames + " " + imageNames + " ami_root_device ami_architecture boot_mode uefi_data tpm_support use_create_image snapshot_description"},
		typeVolume:    {reflect.TypeFor[VolumeConfig](), accessNames + " " + runNames + " ebs_volumes ena_support sriov_support"},
	} {
		got := optionNames(c.typ)
		for _, want := range strings.Fields(c.want) {
			if !slices.Contains(got, want) {
				t.Errorf("%s: no option %s", name, want)
			}
		}
		slices.Sort(got)
		if twice := len(got) - len(slices.Compact(slices.Clone(got))); twice != 0 {
			t.Errorf("%s: %d options are there twice", name, twice)
		}
	}
}

func TestMinimal(t *testing.T) {
	for typ, body := range map[string]string{typeEBS: minimal, typeSurrogate: minimalSurrogate, typeVolume: minimalVolume} {
		if m, err := open(t, typ, body); err != nil {
			t.Errorf("%s: %v", typ, err)
		} else if m.run.ShutdownBehavior != "stop" || m.comm.SSHPort != 22 {
			t.Errorf("%s: defaults: %+v", typ, m.run)
		}
	}
}

// Everything at once: each option is decoded into the field it names.
func TestFullTemplate(t *testing.T) {
	m := must(t, typeEBS, `
  region     = "us-east-1"
  ami_name   = "web-{{timestamp}}-{{isotime \"2006\"}}"
  ami_regions = ["eu-west-1", "us-east-1", "eu-west-1", "ap-south-1"]
  source_ami_filter {
    filters = {
      name                = "debian-13-*"
      virtualization-type = "hvm"
    }
    owners      = ["136693071363"]
    most_recent = true
  }
  instance_type = "t3.small"
  ssh_username  = "admin"
  subnet_filter {
    filters = { "tag:Class" = "build,test" }
    filter {
      name  = "availability-zone"
      value = "us-east-1a"
    }
    most_free = true
  }
  run_tag {
    key   = "Owner"
    value = "{{ .SourceAMIName }}"
  }
  run_volume_tag {
    name  = "Disk"
    value = "x"
  }
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 2
    instance_metadata_tags      = "enabled"
  }
  temporary_iam_instance_profile_policy_document {
    Statement {
      Action   = ["s3:GetObject"]
      Effect   = "Allow"
      Resource = ["*"]
    }
  }
  launch_block_device_mappings {
    device_name = "/dev/xvda"
    volume_size = 20
    volume_type = "gp3"
    iops        = 4000
    throughput  = 200
    encrypted   = true
    kms_key_id  = "alias/build"
    delete_on_termination = true
  }
  deregistration_protection {
    with_cooldown = true
  }
  fast_launch {
    max_parallel_launches = 6
    region_launch_templates {
      region             = "eu-west-1"
      enable_fast_launch = false
    }
  }
  placement {
    tenancy = "dedicated"
  }
  license_specifications {
    license_configuration_request {
      license_configuration_arn = "arn:aws:license-manager:us-east-1:123456789012:license-configuration:lic-1"
    }
  }
`)
	if m.img.AMIName != "web-1772600767-2026" {
		t.Errorf("ami_name %q", m.img.AMIName)
	}
	if got := m.img.copyRegions("us-east-1"); !slices.Equal(got, []string{"eu-west-1", "ap-south-1"}) {
		t.Errorf("copies to %q", got)
	}
	if !m.img.Protection.Enabled || !m.ebs.FastLaunch.Enable || m.run.ProfilePolicy.Version != "2012-10-17" {
		t.Errorf("implied: %+v %+v %+v", m.img.Protection, m.ebs.FastLaunch, m.run.ProfilePolicy)
	}
	if v := m.run.RunTagEntries[0].Value; v != "{{ .SourceAMIName }}" {
		t.Errorf("run_tag was rendered too early: %q", v)
	}
	if m.ebs.FastLaunch.of("eu-west-1") != nil || m.ebs.FastLaunch.of("us-east-1") == nil {
		t.Error("fast launch is on where it is off, or the other way round")
	}
}

func TestFaults(t *testing.T) {
	without := func(option string) string {
		var out []string
		for l := range strings.Lines(minimal) {
			if !strings.HasPrefix(strings.TrimSpace(l), option+" ") {
				out = append(out, l)
			}
		}
		return strings.Join(out, "")
	}
	for _, c := range []struct{ typ, body, option, text string }{
		{typeEBS, without("ami_name"), "ami_name", "must be set"},
		{typeEBS, without("source_ami"), "source_ami", "one of source_ami and source_ami_filter"},
		{typeEBS, without("instance_type"), "instance_type", "one of"},
		{typeEBS, without("ssh_username"), "ssh_username", "must be set"},
		{typeEBS, without("source_ami") + `source_ami = "snap-0123"`, "source_ami", "snapshot of a disk"},
		{typeEBS, without("source_ami") + `source_ami = "debian"`, "source_ami", "not the id of an image"},
		{typeEBS, without("source_ami") + "source_ami_filter {\n filters = { name = \"x\" }\n}", "source_ami_filter.owners", "must be set"},
		{typeEBS, without("source_ami") + "source_ami_filter {}", "source_ami_filter", "needs filters and owners"},
		{typeEBS, without("ami_name") + `ami_name = "a:b!"`, "ami_name", "clean_resource_name"},
		{typeEBS, without("ami_name") + `ami_name = "ab"`, "ami_name", "3 to 128"},
		{typeEBS, without("ami_name") + `ami_name = "web-{{nope}}"`, "ami_name", "not a template"},
		{typeEBS, without("ami_name") + `ami_name = "web-{{env ` + "`X`" + `}}"`, "ami_name", "not available"},
		{typeEBS, minimal + `tags = { a = "{{ .Nope }}" }`, "tags.a", "Nope"},
		{typeEBS, minimal + `spot_instance_types = ["t3.small"]`, "instance_type", "cannot be used together"},
		{typeEBS, without("instance_type") + `spot_instance_types = ["t3.small"]`, "spot_instance_types", "needs spot_price"},
		{typeEBS, without("instance_type") + `instance_type = "small"`, "instance_type", "not an instance type"},
		{typeEBS, minimal + `spot_price = "cheap"`, "spot_price", "neither"},
		{typeEBS, minimal + `spot_tags = { a = "b" }`, "spot_tags", "needs spot_price"},
		{typeEBS, minimal + `fleet_tags = { a = "b" }`, "fleet_tags", "needs spot_price"},
		{typeEBS, minimal + `spot_allocation_strategy = "lowest-price"`, "spot_allocation_strategy", "needs spot_price"},
		{typeEBS, minimal + "spot_price = \"auto\"\nspot_allocation_strategy = \"best\"", "spot_allocation_strategy", "not known"},
		{typeEBS, minimal + `spot_fallback = true`, "spot_fallback", "needs spot_price"},
		{typeEBS, minimal + "user_data = \"a\"\nuser_data_file = \"b\"", "user_data", "cannot be used together"},
		{typeEBS, minimal + `user_data_file = "/no/such/file"`, "user_data_file", "no such file"},
		{typeEBS, minimal + `user_data = "` + strings.Repeat("a b ", 5000) + `"`, "user_data", "longer than"},
		{typeEBS, minimal + "security_group_id = \"sg-1\"\nsecurity_group_ids = [\"sg-2\"]", "security_group_id", "cannot be used together"},
		{typeEBS, minimal + `temporary_security_group_source_cidrs = ["10.0.0.1"]`, "temporary_security_group_source_cidrs[0]", "not a range"},
		{typeEBS, minimal + "temporary_security_group_source_cidrs = [\"10.0.0.0/8\"]\ntemporary_security_group_source_public_ip = true", "temporary_security_group_source_cidrs", "cannot be used together"},
		{typeEBS, minimal + "subnet_filter {\n most_free = true\n random = true\n}", "subnet_filter.most_free", "cannot be used together"},
		{typeEBS, minimal + "vpc_filter {}", "vpc_filter", "at least one filter"},
		{typeEBS, minimal + `shutdown_behavior = "hibernate"`, "shutdown_behavior", "not known"},
		{typeEBS, minimal + "disable_stop_instance = true\nshutdown_behavior = \"terminate\"", "disable_stop_instance", "needs shutdown_behavior"},
		{typeEBS, minimal + `ssh_interface = "tunnel"`, "ssh_interface", "not known"},
		{typeEBS, minimal + `ssh_interface = "session_manager"`, "ssh_interface", "needs iam_instance_profile"},
		{typeEBS, minimal + "metadata_options {\n http_put_response_hop_limit = 65\n}", "metadata_options.http_put_response_hop_limit", "1 to 64"},
		{typeEBS, minimal + "metadata_options {\n http_tokens = \"yes\"\n}", "metadata_options.http_tokens", "not known"},
		{typeEBS, minimal + "capacity_reservation_id = \"cr-1\"\ncapacity_reservation_group_arn = \"arn:x\"", "capacity_reservation_id", "cannot be used together"},
		{typeEBS, minimal + "capacity_reservation_id = \"cr-1\"\ncapacity_reservation_preference = \"open\"", "capacity_reservation_id", "cannot be used together"},
		{typeEBS, minimal + `enable_nitro_enclave = true`, "enable_nitro_enclave", "t3.small"},
		{typeEBS, without("instance_type") + "instance_type = \"m5.large\"\nenable_unlimited_credits = true", "enable_unlimited_credits", "m5.large"},
		{typeEBS, minimal + `block_duration_minutes = 61`, "block_duration_minutes", "multiple of 60"},
		{typeEBS, minimal + `block_duration_minutes = 60`, "warn block_duration_minutes", "no effect"},
		{typeEBS, minimal + `spot_price_auto_product = "Linux"`, "warn spot_price_auto_product", "no effect"},
		{typeEBS, minimal + `tenancy = "shared"`, "tenancy", "not known"},
		{typeEBS, minimal + `tenancy = "host"`, "warn tenancy", "placement"},
		{typeEBS, minimal + `temporary_key_pair_type = "ecdsa"`, "temporary_key_pair_type", "rsa, ed25519"},
		{typeEBS, minimal + `dead_man = "10s"`, "dead_man", "a minute or more"},
		{typeEBS, minimal + "temporary_iam_instance_profile_policy_document {}", "temporary_iam_instance_profile_policy_document", "at least one Statement"},
		{typeEBS, minimal + "iam_instance_profile = \"x\"\ntemporary_iam_instance_profile_policy_document {\n Statement {\n Action = [\"a\"]\n Effect = \"Maybe\"\n Resource = [\"*\"]\n }\n}", "temporary_iam_instance_profile_policy_document.Statement[0].Effect", "Allow or Deny"},
		{typeEBS, minimal + "license_specifications {\n license_configuration_request {}\n}", "license_specifications[0].license_configuration_request", "must be set"},
		{typeEBS, minimal + "run_tag {\n key = \"\"\n value = \"x\"\n}", "run_tag[0]", "needs a name"},
		{typeEBS, minimal + `run_tags = { "aws:x" = "y" }`, "run_tags", "belong to AWS"},
		{typeEBS, minimal + `tags = { x = "` + strings.Repeat("v", 257) + `" }`, "tags", "256 characters"},
		{typeEBS, minimal + `tags = { for i in range(51) : "k${i}" => "v" }`, "tags", "50 at most"},
		{typeEBS, minimal + `ami_users = ["12345"]`, "ami_users[0]", "12 digits"},
		{typeEBS, minimal + `ami_groups = ["some"]`, "ami_groups[0]", `"all"`},
		{typeEBS, minimal + `ami_org_arns = ["o-1"]`, "ami_org_arns[0]", "ARN"},
		{typeEBS, minimal + `imds_support = "v1.0"`, "imds_support", "not known"},
		{typeEBS, minimal + `deprecate_at = "tomorrow"`, "deprecate_at", "not a time"},
		{typeEBS, minimal + `deprecate_at = "2020-01-01T00:00:00Z"`, "deprecate_at", "past"},
		{typeEBS, minimal + `deprecate_at = "2040-01-01T00:00:00Z"`, "deprecate_at", "ten years"},
		{typeEBS, minimal + `snapshot_copy_duration_minutes = 20`, "snapshot_copy_duration_minutes", "multiple of 15"},
		{typeEBS, minimal + `ami_regions = ["Europe"]`, "ami_regions[0]", "not the name of a region"},
		{typeEBS, minimal + `kms_key_id = "alias/x"`, "kms_key_id", "needs encrypt_boot"},
		{typeEBS, minimal + "encrypt_boot = true\nregion_kms_key_ids = { eu-west-1 = \"k\" }", "region_kms_key_ids", "not in ami_regions"},
		{typeEBS, minimal + "encrypt_boot = true\nami_users = [\"123456789012\"]", "ami_users", "set kms_key_id"},
		{typeEBS, minimal + "encrypt_boot = true\nkms_key_id = \"k\"\nami_regions = [\"eu-west-1\"]\nsnapshot_users = [\"123456789012\"]", "snapshot_users", "a key of eu-west-1"},
		{typeEBS, minimal + "encrypt_boot = true\nami_groups = [\"all\"]", "encrypt_boot", "cannot be public"},
		{typeEBS, minimal + `skip_save_build_region = true`, "skip_save_build_region", "needs ami_regions"},
		{typeEBS, minimal + "ami_virtualization_type = \"paravirtual\"\nena_support = true", "ami_virtualization_type", `need "hvm"`},
		{typeEBS, minimal + `force_delete_snapshot = true`, "warn force_delete_snapshot", "force_deregister"},
		{typeEBS, minimal + "fast_launch {\n max_parallel_launches = 5\n}", "fast_launch.max_parallel_launches", "6 at least"},
		{typeEBS, minimal + "fast_launch {\n template_id = \"lt-1\"\n template_name = \"x\"\n}", "fast_launch.template_id", "cannot be used together"},
		{typeEBS, minimal + "fast_launch {\n region_launch_templates {\n region = \"eu-west-1\"\n }\n}", "fast_launch.region_launch_templates[0].region", "neither"},
		{typeSurrogate, strings.Replace(minimalSurrogate, `ami_virtualization_type = "hvm"`, "", 1), "ami_virtualization_type", "must be set"},
		{typeSurrogate, strings.Replace(minimalSurrogate, `source_device_name    = "/dev/xvdf"`, `source_device_name = "/dev/xvdg"`, 1), "ami_root_device.source_device_name", "not in launch_block_device_mappings"},
		{typeSurrogate, strings.Replace(minimalSurrogate, `volume_type           = "gp3"`, `omit_from_artifact = true`, 1), "ami_root_device.source_device_name", "left out"},
		{typeSurrogate, minimalSurrogate + `boot_mode = "bios"`, "boot_mode", "not known"},
		{typeSurrogate, minimalSurrogate + "tpm_support = \"v2.0\"\nboot_mode = \"legacy-bios\"", "tpm_support", "needs boot_mode"},
		{typeSurrogate, minimalSurrogate + "use_create_image = true\nboot_mode = \"uefi\"", "boot_mode", "use_create_image"},
		{typeVolume, minimalVolume + "ebs_volumes {\n device_name = \"/dev/xvdf\"\n snapshot_description = \"x\"\n}", "warn ebs_volumes[0]", "snapshot_volume"},
		{typeVolume, minimalVolume + "ebs_volumes {\n device_name = \"/dev/xvdf\"\n no_device = true\n snapshot_volume = true\n}", "ebs_volumes[0].snapshot_volume", "no volume"},
	} {
		_, err := open(t, c.typ, c.body)
		t.Run(c.option, func(t *testing.T) { wantFault(t, err, c.option, c.text) })
	}
}

func TestBlockDeviceFaults(t *testing.T) {
	for _, c := range []struct{ block, option, text string }{
		{`volume_size = 8`, "", "must be set"},
		{"device_name = \"/dev/xvdb\"\nvolume_type = \"fast\"", ".volume_type", "not known"},
		{"device_name = \"/dev/xvdb\"\nvolume_type = \"gp2\"\niops = 100", ".iops", "io1, io2 and gp3 only"},
		{"device_name = \"/dev/xvdb\"\nvolume_type = \"io1\"", ".iops", "must be set"},
		{"device_name = \"/dev/xvdb\"\nvolume_type = \"io1\"\niops = 99", ".iops", "100 to 64000"},
		{"device_name = \"/dev/xvdb\"\nvolume_type = \"io1\"\nvolume_size = 10\niops = 501", ".iops", "50 a GiB"},
		{"device_name = \"/dev/xvdb\"\nvolume_type = \"io2\"\nvolume_size = 10\niops = 5001", ".iops", "500 a GiB"},
		{"device_name = \"/dev/xvdb\"\nvolume_type = \"gp3\"\niops = 2999", ".iops", "3000 to 16000"},
		{"device_name = \"/dev/xvdb\"\nvolume_type = \"gp2\"\nthroughput = 125", ".throughput", "gp3 only"},
		{"device_name = \"/dev/xvdb\"\nvolume_type = \"gp3\"\nthroughput = 124", ".throughput", "125 to 1000"},
		{"device_name = \"/dev/xvdb\"\nkms_key_id = \"k\"", ".kms_key_id", "needs encrypted"},
		{"device_name = \"/dev/xvdb\"\nsnapshot_id = \"ami-1\"", ".snapshot_id", "not the id of a snapshot"},
		{"device_name = \"/dev/xvdb\"\nvirtual_name = \"disk0\"", ".virtual_name", "ephemeral0"},
		{"device_name = \"/dev/xvdb\"\nno_device = true\nvolume_size = 8", ".no_device", "nothing else"},
		{"device_name = \"/dev/xvdb\"\n}\nami_block_device_mappings {\ndevice_name = \"/dev/xvdb\"", ".device_name", "there already"},
	} {
		_, err := open(t, typeEBS, minimal+"ami_block_device_mappings {\n"+c.block+"\n}")
		path := "ami_block_device_mappings[0]"
		if c.text == "there already" {
			path = "ami_block_device_mappings[1]"
		}
		wantFault(t, err, path+c.option, c.text)
	}
}

func TestDeadManEndsTheInstance(t *testing.T) {
	if m := must(t, typeEBS, minimal+`dead_man = "2h"`); m.run.ShutdownBehavior != "terminate" {
		t.Errorf("an instance that shuts itself down would stay as a stopped one: %q", m.run.ShutdownBehavior)
	}
	if m := must(t, typeEBS, minimal+"dead_man = \"2h\"\ndisable_stop_instance = true"); m.run.ShutdownBehavior != "stop" {
		t.Errorf("%q", m.run.ShutdownBehavior)
	}
}

func TestWarningsDoNotKeepItFromOpening(t *testing.T) {
	m, err := open(t, typeEBS, minimal+`force_delete_snapshot = true`)
	if err == nil {
		t.Fatal("no warning")
	}
	if b, err := m.opened(err); b == nil || err == nil {
		t.Errorf("%v, %v", b, err)
	}
	if b, err := m.opened(diag.Fieldf("ami_name", "must be set")); b != nil || err == nil {
		t.Errorf("%v, %v", b, err)
	}
}
