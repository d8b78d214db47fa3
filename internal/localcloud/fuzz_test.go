package localcloud

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func FuzzKeyARN(f *testing.F) {
	for _, s := range []string{"alias/aws/ebs", "1234abcd-12ab-34cd-56ef-1234567890ab", "arn:aws:kms:us-east-1:123456789012:key/1234abcd", "arn:::", "mrk-12345678"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		arn, err := KeyARN(here, key)
		if err != nil {
			if CodeOf(err) != "InvalidParameterValue" {
				t.Errorf("%v", err)
			}
			return
		}
		again, err := KeyARN(here, arn)
		if err != nil || again != arn || !strings.HasPrefix(arn, "arn:aws:kms:"+here+":") {
			t.Errorf("%q is %q, and that is %q: %v", key, arn, again, err)
		}
	})
}

// What is no disk is refused and never passed on.
func FuzzImportMagic(f *testing.F) {
	f.Add([]byte("KDMV"), "VMDK")
	f.Add([]byte("# Disk DescriptorFile"), "VMDK")
	f.Add([]byte("conectix"), "VHD")
	f.Add([]byte{}, "RAW")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte, format string) {
		file := filepath.Join(dir, "disk")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := checkMagic(file, format); err == nil && format == "VMDK" && !strings.HasPrefix(string(data), "KDMV") {
			t.Error("a descriptor was taken")
		}
	})
}
