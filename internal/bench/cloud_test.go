package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/machine"
	"github.com/ingot-build/ingot/internal/localcloud/server"
)

// cloudTemplate is a bake with five provisioners and copies in three further
// regions.
const cloudTemplate = `
variable "regions" { default = ["us-west-2", "eu-west-1", "ap-south-1"] }
source "amazon-ebs" "bench" {
  region        = "us-east-1"
  ami_regions   = var.regions
  ami_name      = "bench-{{uuid}}"
  instance_type = "t3.micro"
  ssh_username  = "admin"
  source_ami_filter {
    filters     = { name = "debian-12-amd64-*", architecture = "x86_64" }
    owners      = ["136693071363"]
    most_recent = true
  }
  tags     = { Name = "bench" }
  run_tags = { Name = "bench" }
}
build {
  sources = ["source.amazon-ebs.bench"]
  provisioner "shell" { inline = ["true"] }
  provisioner "shell" { inline = ["true"] }
  provisioner "shell" { inline = ["true"] }
  provisioner "shell" { inline = ["true"] }
  provisioner "shell" { inline = ["true"] }
}
`

// cloud makes a local cloud with an image that Debian's filter finds. Its
// machines are stand-ins, so that what is measured is not a guest.
func cloud(b *testing.B, s localcloud.Settings) string {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "cloud")
	ctx := context.Background()
	c, err := localcloud.Open(ctx, localcloud.Config{Dir: dir, Machines: &machine.Simulated{}})
	if err != nil {
		b.Fatal(err)
	}
	disk := filepath.Join(b.TempDir(), "disk.raw")
	if err := os.WriteFile(disk, bytes.Repeat([]byte("ingot"), 1<<20), 0o600); err != nil {
		b.Fatal(err)
	}
	if _, err := c.RegisterBase(ctx, localcloud.BaseImage{Path: disk, Format: "raw", Name: "debian-12-amd64-20260101-1", Arch: "x86_64", Created: time.Now()}); err != nil {
		b.Fatal(err)
	}
	if err := c.SetSettings(ctx, s); err != nil {
		b.Fatal(err)
	}
	return dir
}

// bakeInCloud bakes the template as a user does, in a service that counts the
// calls, and returns the time and the number of calls.
func bakeInCloud(b *testing.B, bin, dir string, args ...string) (time.Duration, int) {
	b.Helper()
	work := b.TempDir()
	if err := os.WriteFile(filepath.Join(work, "t.pkr.hcl"), []byte(cloudTemplate), 0o600); err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	c, err := localcloud.Open(ctx, localcloud.Config{Dir: dir, Machines: &machine.Simulated{}})
	if err != nil {
		b.Fatal(err)
	}
	calls := make(chan string, 10000)
	s, err := server.Start(ctx, c, "127.0.0.1:0", true, server.Options{Seen: func(service, action, _ string) { calls <- service + ":" + action }})
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(bin, append(append([]string{"build", "-local"}, args...), ".")...)
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "INGOT_LOCAL_DIR="+dir, "INGOT_LOCAL_MACHINES=simulated", "XDG_STATE_HOME="+work)
	start := time.Now()
	out, err := cmd.CombinedOutput()
	took := time.Since(start)
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	if err := s.Close(ctx); err != nil {
		b.Fatal(err)
	}
	if err := c.Shutdown(ctx); err != nil {
		b.Fatal(err)
	}
	close(calls)
	n := 0
	kinds := map[string]int{}
	for call := range calls {
		n++
		kinds[call]++
	}
	b.Log(fmt.Sprint(kinds))
	return took, n
}

// BenchmarkCloudBake is a whole bake in the local cloud with nothing pending.
func BenchmarkCloudBake(b *testing.B) {
	bin := ingot(b)
	dir := cloud(b, localcloud.Settings{})
	for b.Loop() {
		took, calls := bakeInCloud(b, bin, dir)
		b.ReportMetric(float64(took.Milliseconds()), "ms")
		b.ReportMetric(float64(calls), "calls")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkCloudBakePending is the same where images are pending for 20 s and
// copies for 45 s: the time as a ratio to these 65 s and the bake without them.
func BenchmarkCloudBakePending(b *testing.B) {
	bin := ingot(b)
	const pending = 65 * time.Second
	quick, _ := bakeInCloud(b, bin, cloud(b, localcloud.Settings{}))
	dir := cloud(b, localcloud.Settings{ImagePending: 20 * time.Second, CopyPending: 45 * time.Second})
	for b.Loop() {
		took, calls := bakeInCloud(b, bin, dir)
		b.ReportMetric(took.Seconds(), "s")
		b.ReportMetric(float64(took)/float64(pending+quick), "x-floor")
		b.ReportMetric(float64(calls), "calls")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkCloudTenRegions is a bake with copies in ten regions, each pending
// for 10 s, as a ratio to the same bake with one of them: one where copies run
// side by side.
func BenchmarkCloudTenRegions(b *testing.B) {
	bin := ingot(b)
	s := localcloud.Settings{CopyPending: 10 * time.Second}
	one, _ := bakeInCloud(b, bin, cloud(b, s), "-var", `regions=["us-west-2"]`)
	dir := cloud(b, s)
	for b.Loop() {
		ten, _ := bakeInCloud(b, bin, dir, "-var", `regions=["us-west-2","us-west-1","us-east-2","eu-west-1","eu-west-2","eu-west-3","eu-central-1","eu-north-1","ap-south-1","sa-east-1"]`)
		b.ReportMetric(ten.Seconds(), "s")
		b.ReportMetric(float64(ten)/float64(one), "x-one-region")
		b.ReportMetric(0, "ns/op")
	}
}
