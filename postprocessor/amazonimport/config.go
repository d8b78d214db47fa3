package amazonimport

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
)

// The ways to import.
const (
	methodDirect = "ebs-direct"   // blocks to a snapshot, which is registered
	methodImport = "import-image" // a file in S3, which EC2 converts
)

// Config is the options of the post-processor. Names, types and defaults are
// Packer's, import_method excepted.
type Config struct {
	_ struct{} `hcl:",late"` // a renderer of this package fills the {{ }} in

	awsaccess.Config
	Options
}

// Options are the options besides those of access.
type Options struct {
	// ImportMethod is ebs-direct or import-image. Unset: import-image where
	// only it can do what the options ask for (format "ova", license_type,
	// role_name, platform "windows", an artifact that is an .ova), else
	// ebs-direct, which needs neither bucket nor role.
	ImportMethod string `hcl:"import_method"`

	// Incremental makes the snapshot a difference to that of the last image
	// which the same options made from here: only blocks that changed are
	// sent. BlocksPerSecond is the pace of the upload, 0 for 900; AWS allows
	// 1000. Both are not options of Packer.
	Incremental     bool `hcl:"incremental"`
	BlocksPerSecond int  `hcl:"blocks_per_second"`

	S3Bucket        string `hcl:"s3_bucket_name"`
	S3Key           string `hcl:"s3_key_name"`
	S3Encryption    string `hcl:"s3_encryption"`
	S3EncryptionKey string `hcl:"s3_encryption_key"`
	SkipClean       bool   `hcl:"skip_clean"`

	Tags         map[string]string `hcl:"tags"`
	Name         string            `hcl:"ami_name"`
	Description  string            `hcl:"ami_description"`
	Users        []string          `hcl:"ami_users"`
	Groups       []string          `hcl:"ami_groups"`
	OrgARNs      []string          `hcl:"ami_org_arns"`
	OUARNs       []string          `hcl:"ami_ou_arns"`
	Encrypt      bool              `hcl:"ami_encrypt"`
	KMSKey       string            `hcl:"ami_kms_key"`
	IMDSSupport  string            `hcl:"imds_support"`
	LicenseType  string            `hcl:"license_type"`
	RoleName     string            `hcl:"role_name"`
	Format       string            `hcl:"format"`
	Architecture string            `hcl:"architecture"`
	BootMode     string            `hcl:"boot_mode"`
	Platform     string            `hcl:"platform"`
}

var (
	// formats are those of the option, with QEMU's name of each.
	formats  = map[string]string{"ova": "", "raw": "raw", "vmdk": "vmdk", "vhd": "vpc", "vhdx": "vhdx"}
	goodName = regexp.MustCompile(`^[a-zA-Z0-9()\[\] ./\-'@_]{3,128}$`)
	account  = regexp.MustCompile(`^\d{12}$`)
)

// prepare checks the options. It may be called twice.
func (c *Config) prepare() error {
	errs := []error{c.Config.Prepare()}
	field := func(name, format string, args ...any) { errs = append(errs, diag.Fieldf(name, format, args...)) }
	oneOf := func(name, value string, known ...string) {
		if value != "" && !slices.Contains(known, value) {
			field(name, "%q is not one of %s", value, strings.Join(known, ", "))
		}
	}
	oneOf("import_method", c.ImportMethod, methodDirect, methodImport)
	oneOf("s3_encryption", c.S3Encryption, "AES256", "aws:kms")
	oneOf("imds_support", c.IMDSSupport, "v2.0")
	oneOf("license_type", c.LicenseType, "AWS", "BYOL")
	oneOf("format", c.Format, "ova", "raw", "vmdk", "vhd", "vhdx")
	oneOf("boot_mode", c.BootMode, string(artifact.BIOS), string(artifact.UEFI), string(artifact.UEFIPreferred))
	oneOf("platform", c.Platform, "linux", "windows")
	if c.Architecture != "" {
		if _, err := artifact.ParseArch(c.Architecture); err != nil {
			field("architecture", "%w", err)
		}
	}
	if c.S3EncryptionKey != "" && c.S3Encryption != "aws:kms" {
		errs = append(errs, diag.Fieldsf([]string{"s3_encryption_key", "s3_encryption"}, "needs s3_encryption = \"aws:kms\""))
	}
	if !strings.Contains(c.Name, "{{") && c.Name != "" && !goodName.MatchString(c.Name) {
		field("ami_name", "%q is not 3 to 128 letters, digits and ()[] ./-'@_", c.Name)
	}
	if len(c.Tags) > maxTags {
		field("tags", "there are %d; an image has at most %d", len(c.Tags), maxTags)
	}
	if c.BlocksPerSecond < 0 {
		field("blocks_per_second", "must not be negative")
	}
	if c.Incremental && c.Encrypt {
		errs = append(errs, diag.Fieldsf([]string{"incremental", "ami_encrypt"}, "a difference has the encryption of what it is a difference to: cannot be used together with ami_encrypt"))
	}
	for _, u := range c.Users {
		if !account.MatchString(u) {
			field("ami_users", "%q is not the number of an account, which has 12 digits", u)
		}
	}
	for _, g := range c.Groups {
		if g != "all" {
			field("ami_groups", "%q is not a group; the one that there is, is all", g)
		}
	}
	errs = append(errs, c.prepareEncryption()...)
	errs = append(errs, c.prepareMethod()...)
	errs = append(errs, c.parseTemplates()...)
	return errors.Join(errs...)
}

func (c *Config) prepareEncryption() []error {
	var errs []error
	if !c.Encrypt {
		if c.KMSKey != "" {
			errs = append(errs, &diag.FieldError{
				Paths: []string{"ami_kms_key", "ami_encrypt"}, Err: errors.New("has no effect without ami_encrypt = true"), Warn: true,
			})
		}
		return errs
	}
	if len(c.Groups) > 0 {
		errs = append(errs, diag.Fieldsf([]string{"ami_groups", "ami_encrypt"}, "an encrypted image cannot be public"))
	}
	if c.KMSKey == "" && len(c.Users)+len(c.OrgARNs)+len(c.OUARNs) > 0 {
		errs = append(errs, diag.Fieldsf([]string{"ami_kms_key", "ami_users", "ami_org_arns", "ami_ou_arns", "ami_encrypt"},
			"must be set: an image encrypted with the account's default key cannot be shared"))
	}
	return errs
}

// onlyImport returns the option that asks for what only ImportImage does.
func (o *Options) onlyImport() string {
	switch {
	case o.Format == "ova":
		return "format"
	case o.LicenseType != "":
		return "license_type"
	case o.RoleName != "":
		return "role_name"
	case o.Platform == "windows":
		return "platform" // it puts EC2's drivers in
	}
	return ""
}

func (c *Config) prepareMethod() []error {
	why := c.onlyImport()
	switch {
	case c.ImportMethod == methodDirect && why != "" && why != "platform":
		return []error{diag.Fieldsf([]string{"import_method", why}, "%s cannot do what %s asks for; use %s", methodDirect, why, methodImport)}
	case c.ImportMethod == methodDirect || c.ImportMethod == "" && why == "":
		return nil
	}
	var errs []error
	if why == "" {
		why = "import_method"
	}
	if c.S3Bucket == "" {
		errs = append(errs, diag.Fieldsf([]string{"s3_bucket_name", why}, "must be set: EC2's ImportImage, which %s asks for, reads from a bucket", why))
	}
	if c.BootMode == string(artifact.UEFI) && c.Platform == "" {
		errs = append(errs, diag.Fieldsf([]string{"platform", "boot_mode", why}, "must be set with boot_mode = \"uefi\""))
	}
	return errs
}
