package localcloud

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// get asks an instance's metadata, version 2.
func (b *bench) metadata(id, path string) (int, string) {
	b.t.Helper()
	base := "http://" + b.MetadataAddress(id) + "/latest/"
	call := func(method, url string, header http.Header) (int, string) {
		b.t.Helper()
		req, err := http.NewRequestWithContext(b.ctx, method, url, nil)
		if err != nil {
			b.t.Fatal(err)
		}
		req.Header = header
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			b.t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			b.t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	code, token := call(http.MethodPut, base+"api/token", http.Header{"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": {"60"}})
	if code != http.StatusOK {
		return code, token
	}
	return call(http.MethodGet, base+path, http.Header{"X-Aws-Ec2-Metadata-Token": {token}})
}

func TestMetadataIsServed(t *testing.T) {
	b := newBench(t)
	k, _, err := b.CreateKeyPair(b.ctx, testRegion, KeyPairParams{Name: "k", Type: "ed25519"})
	if err != nil {
		t.Fatal(err)
	}
	err = b.Update(b.ctx, "", func(tx *Tx) error {
		if err := Put(tx, Role{Name: "r", ID: "AROA1", Path: "/"}); err != nil {
			return err
		}
		return Put(tx, InstanceProfile{Name: "p", ID: "AIPA1", Path: "/", Roles: []string{"r"}})
	})
	if err != nil {
		t.Fatal(err)
	}
	i := b.running(RunParams{Launch: LaunchSpec{
		KeyName: "k", UserData: []byte("#!/bin/sh\n"), ProfileName: "p", Metadata: &MetadataOptions{Tags: "enabled"},
		Tags: map[string]Tags{"instance": {"color": "blue"}},
	}})
	for path, want := range map[string]string{
		"meta-data/instance-id":                 i.ID,
		"meta-data/local-ipv4":                  i.PrivateIP,
		"meta-data/public-ipv4":                 i.PublicIP,
		"meta-data/placement/region":            testRegion,
		"meta-data/public-keys/0/openssh-key":   strings.TrimSpace(k.PublicKey),
		"meta-data/tags/instance/color":         "blue",
		"meta-data/iam/security-credentials/":   "r",
		"user-data":                             "#!/bin/sh",
		"meta-data/block-device-mapping/root":   i.RootDevice,
		"meta-data/hostname":                    i.PrivateDNS(testRegion),
		"meta-data/security-groups":             "default",
		"meta-data/placement/availability-zone": i.Zone,
	} {
		if code, got := b.metadata(i.ID, path); code != http.StatusOK || strings.TrimSpace(got) != want {
			t.Errorf("%s: %d %q, want %q", path, code, got, want)
		}
	}
	_, first := b.metadata(i.ID, "meta-data/iam/security-credentials/r")
	if _, again := b.metadata(i.ID, "meta-data/iam/security-credentials/r"); again != first || !strings.Contains(first, "ASIA") {
		t.Errorf("credentials %s, then %s", first, again)
	}
	if _, err := b.ModifyMetadataOptions(b.ctx, testRegion, i.ID, MetadataOptions{Endpoint: "disabled"}); err != nil {
		t.Fatal(err)
	}
	if code, _ := b.metadata(i.ID, "meta-data/instance-id"); code != http.StatusForbidden {
		t.Errorf("a disabled endpoint answers %d", code)
	}
	if _, err := b.StopInstances(b.ctx, testRegion, StopParams{IDs: []string{i.ID}}); err != nil {
		t.Fatal(err)
	}
	b.await(i.ID, "stopped")
	if err := b.Await(b.ctx, testRegion, func(*Tx) (bool, error) { return b.MetadataAddress(i.ID) == "", nil }); err != nil {
		t.Errorf("the metadata of a stopped instance is answered at %s", b.MetadataAddress(i.ID))
	}
}

// A process that takes a running machine over answers its metadata, and takes
// the tokens of the one before.
func TestMetadataMoves(t *testing.T) {
	b := newBench(t)
	i := b.running(RunParams{})
	b.stop()
	b.Cloud = b.open(b.Dir())
	b.work()
	err := b.Await(b.ctx, testRegion, func(*Tx) (bool, error) { return b.MetadataAddress(i.ID) != "", nil })
	if err != nil {
		t.Fatal(err)
	}
	if code, got := b.metadata(i.ID, "meta-data/instance-id"); code != http.StatusOK || got != i.ID {
		t.Errorf("%d %q", code, got)
	}
}

func TestAttributes(t *testing.T) {
	b := newBench(t)
	i := b.running(RunParams{})
	text := func(s string) *string { return &s }
	no := false
	for _, p := range []InstanceChanges{{Type: text("t3.small")}, {SriovNet: text("simple")}, {UserData: &[]byte{}}} {
		wantCode(t, b.ModifyInstance(b.ctx, testRegion, i.ID, p), "IncorrectInstanceState")
	}
	for _, p := range []InstanceChanges{
		{ShutdownBehavior: text("terminate")}, {SourceDestCheck: &no}, {Devices: map[string]bool{i.RootDevice: false}},
	} {
		if err := b.ModifyInstance(b.ctx, testRegion, i.ID, p); err != nil {
			t.Error(p.names(), err)
		}
	}
	wantCode(t, b.ModifyInstance(b.ctx, testRegion, i.ID, InstanceChanges{Devices: map[string]bool{"/dev/sdz": true}}), "InvalidInstanceAttributeValue")
	wantCode(t, b.ModifyInstance(b.ctx, testRegion, i.ID, InstanceChanges{Groups: []string{NewID("sg")}}), "InvalidGroup.NotFound")
	if _, err := b.StopInstances(b.ctx, testRegion, StopParams{IDs: []string{i.ID}, Force: true}); err != nil {
		t.Fatal(err)
	}
	b.await(i.ID, "stopped")
	wantCode(t, b.ModifyInstance(b.ctx, testRegion, i.ID, InstanceChanges{Type: text("m6g.large")}), "InvalidParameterValue")
	wantCode(t, b.ModifyInstance(b.ctx, testRegion, i.ID, InstanceChanges{SriovNet: text("double")}), "InvalidParameterValue")
	wantCode(t, b.ModifyInstance(b.ctx, testRegion, i.ID, InstanceChanges{ENA: &no}), "InvalidParameterCombination")
	if err := b.ModifyInstance(b.ctx, testRegion, i.ID, InstanceChanges{Type: text("m5.large")}); err != nil {
		t.Fatal(err)
	}
	now, err := b.instance(b.ctx, testRegion, i.ID)
	if err != nil || now.Type != "m5.large" || now.Credits != "" || now.ShutdownBehavior != "terminate" || now.SourceDestCheck || now.Devices[0].DeleteOnTermination {
		t.Errorf("%+v, %v", now, err)
	}
}

func TestSecurityGroupOpensRunningMachine(t *testing.T) {
	b := newBench(t)
	i := b.running(RunParams{})
	p, err := b.machineOf(b.ctx, testRegion, i.ID)
	if err != nil || p == nil {
		t.Fatal(p, err)
	}
	reach := func() bool {
		c, err := net.DialTimeout("tcp", net.JoinHostPort(i.PublicIP, strconv.Itoa(i.SSHPort)), time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	if reach() {
		t.Skip("something of this machine listens on every address")
	}
	ssh := 22
	change := GroupChange{ID: i.SecurityGroups[0], Permissions: []Permission{{Protocol: "tcp", From: &ssh, To: &ssh, CIDR4: []Peer{{ID: "0.0.0.0/0"}}}}}
	if _, _, err := b.AuthorizeRules(b.ctx, testRegion, change); err != nil {
		t.Fatal(err)
	}
	if err := b.Await(b.ctx, testRegion, func(*Tx) (bool, error) { return reach(), nil }); err != nil {
		t.Fatal("an open port is not reached: ", err)
	}
	if _, _, err := b.RevokeRules(b.ctx, testRegion, change); err != nil {
		t.Fatal(err)
	}
	if err := b.Await(b.ctx, testRegion, func(*Tx) (bool, error) { return !reach(), nil }); err != nil {
		t.Fatal("a closed port is reached: ", err)
	}
}

func TestProfileAssociations(t *testing.T) {
	b := newBench(t)
	err := b.Update(b.ctx, "", func(tx *Tx) error {
		return Put(tx, InstanceProfile{Name: "p", ID: "AIPA1", Path: "/"}, InstanceProfile{Name: "q", ID: "AIPA2", Path: "/"})
	})
	if err != nil {
		t.Fatal(err)
	}
	i := b.running(RunParams{Launch: LaunchSpec{ProfileName: "p"}})
	all, err := b.ProfileAssociations(b.ctx, testRegion, nil)
	if err != nil || len(all) != 1 || all[0].Instance != i.ID || all[0].Profile != "p" {
		t.Fatalf("%+v, %v", all, err)
	}
	_, err = b.AssociateProfile(b.ctx, testRegion, i.ID, "", "q")
	wantCode(t, err, "IncorrectState")
	a, err := b.ReplaceProfile(b.ctx, testRegion, all[0].ID, InstanceProfile{Name: "q", Path: "/"}.ARN(), "")
	if err != nil || a.Profile != "q" || a.ID == all[0].ID {
		t.Fatalf("%+v, %v", a, err)
	}
	if _, err := b.DisassociateProfile(b.ctx, testRegion, a.ID); err != nil {
		t.Fatal(err)
	}
	_, err = b.DisassociateProfile(b.ctx, testRegion, a.ID)
	wantCode(t, err, "InvalidAssociationID.NotFound")
	if now, err := b.instance(b.ctx, testRegion, i.ID); err != nil || now.Profile != "" {
		t.Errorf("profile %q, %v", now.Profile, err)
	}
}

func TestReplaceRoot(t *testing.T) {
	b := newBench(t)
	i := b.running(RunParams{})
	_, err := b.ReplaceRoot(b.ctx, testRegion, RootParams{Instance: i.ID, Image: b.image, Snapshot: NewID("snap")})
	wantCode(t, err, "InvalidParameterCombination")
	r, err := b.ReplaceRoot(b.ctx, testRegion, RootParams{Instance: i.ID, DeleteOld: true})
	if err != nil {
		t.Fatal(err)
	}
	err = b.Await(b.ctx, testRegion, func(tx *Tx) (bool, error) {
		got, err := tx.findRootTask(r.ID)
		r = got
		return got.State == "succeeded" || got.State == "failed", err
	})
	if err != nil || r.State != "succeeded" {
		t.Fatalf("%+v, %v", r, err)
	}
	now := b.await(i.ID, "running")
	if now.RootVolume() != r.Volume || now.RootVolume() == i.RootVolume() || now.Rebooting || bytes.Equal(now.Machine, i.Machine) {
		t.Errorf("%+v", now)
	}
	if err := b.Drain(b.ctx); err != nil {
		t.Fatal(err)
	}
	if vols, err := b.Volumes(b.ctx, testRegion, nil); err != nil || len(vols) != 1 {
		t.Errorf("%+v, %v", vols, err)
	}
	// Done again, as after a crash: nothing changes.
	err = b.handlers["replace-root"](b.ctx, Job{ID: newJobID(), Kind: "replace-root", Region: testRegion, Target: r.ID, Created: time.Now()})
	if err != nil {
		t.Error(err)
	}
}

func TestSpotRequests(t *testing.T) {
	b := newBench(t)
	spec := LaunchSpec{ImageID: b.image, Type: "t3.micro"}
	i := b.running(RunParams{Launch: LaunchSpec{Market: &LaunchMarket{Type: "spot"}, Tags: map[string]Tags{"spot-instances-request": {"a": "b"}}}})
	all, err := b.SpotRequests(b.ctx, testRegion, nil)
	if err != nil || len(all) != 1 || all[0].Instance != i.ID || all[0].State != "active" || all[0].Tags["a"] != "b" || i.Lifecycle != "spot" {
		t.Fatalf("%+v, %v", all, err)
	}
	_, err = b.StopInstances(b.ctx, testRegion, StopParams{IDs: []string{i.ID}})
	wantCode(t, err, "UnsupportedOperation")
	if _, err := b.TerminateInstances(b.ctx, testRegion, []string{i.ID}); err != nil {
		t.Fatal(err)
	}
	b.await(i.ID, "terminated")
	if r, err := b.SpotRequests(b.ctx, testRegion, []string{all[0].ID}); err != nil || r[0].State != "closed" {
		t.Errorf("%+v, %v", r, err)
	}

	made, err := b.RequestSpotInstances(b.ctx, testRegion, SpotParams{Launch: spec, Count: 2})
	if err != nil || len(made) != 2 || made[0].State != "open" {
		t.Fatalf("%+v, %v", made, err)
	}
	r := await(t, b.Cloud, testRegion, made[0].ID, func(r SpotRequest) bool { return r.State == "active" })
	b.await(r.Instance, "running")
	if err := b.SetSettings(b.ctx, Settings{NoCapacity: []string{"t3.micro/spot"}}); err != nil {
		t.Fatal(err)
	}
	waits, err := b.RequestSpotInstances(b.ctx, testRegion, SpotParams{Launch: spec, Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	await(t, b.Cloud, testRegion, waits[0].ID, func(r SpotRequest) bool { return r.Code == "capacity-not-available" })
	got, err := b.CancelSpotRequests(b.ctx, testRegion, []string{waits[0].ID})
	if err != nil || got[0].State != "cancelled" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestFleetClimbsDownTheLadder(t *testing.T) {
	b := newBench(t)
	l, err := b.CreateLaunchTemplate(b.ctx, testRegion, LaunchTemplateParams{Name: "tpl", Spec: LaunchSpec{
		ImageID: b.image, Tags: map[string]Tags{"instance": {"from": "template"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetSettings(b.ctx, Settings{NoCapacity: []string{"t3.micro/spot", testRegion + "a/t3.small"}}); err != nil {
		t.Fatal(err)
	}
	fleet := func(total int, types ...string) FleetParams {
		p := FleetParams{Type: "instant", Total: total, DefaultType: "spot"}
		c := FleetConfig{Template: LaunchTemplateChoice{ID: l.ID, Version: "1"}}
		for _, k := range types {
			c.Overrides = append(c.Overrides, FleetOverride{Launch: LaunchSpec{Type: k}})
		}
		p.Configs = []FleetConfig{c}
		return p
	}
	f, err := b.CreateFleet(b.ctx, testRegion, fleet(2, "t3.micro", "t3.small"))
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Instances) != 1 || f.Instances[0].Type != "t3.small" || f.Instances[0].Zone == testRegion+"a" || len(f.Instances[0].IDs) != 2 {
		t.Fatalf("fleet of %+v", f.Instances)
	}
	if len(f.Errors) != 4 || f.Errors[0].Code != "InsufficientInstanceCapacity" { // micro in three zones, small in one
		t.Errorf("errors %+v", f.Errors)
	}
	i := b.await(f.Instances[0].IDs[0], "running")
	if i.Lifecycle != "spot" || i.Fleet != f.ID || i.Tags["from"] != "template" || i.LaunchTemplate != l.ID {
		t.Errorf("%+v", i)
	}

	// Nothing to be had is told in the errors.
	none, err := b.CreateFleet(b.ctx, testRegion, fleet(1, "t3.micro"))
	if err != nil || len(none.Instances) != 0 || len(none.Errors) != 3 {
		t.Errorf("%+v, %v", none, err)
	}
	gone, err := b.DeleteFleets(b.ctx, testRegion, []string{f.ID, NewID("fleet")}, true)
	if err != nil || gone[0].Current != "deleted_terminating" || gone[1].Code != "fleetIdDoesNotExist" {
		t.Errorf("%+v, %v", gone, err)
	}
	b.await(i.ID, "terminated")
}

func TestConsole(t *testing.T) {
	b := newBench(t)
	i := b.running(RunParams{})
	text, at, err := b.ConsoleOutput(b.ctx, testRegion, i.ID, true)
	if err != nil || at.IsZero() || !bytes.Contains(text, []byte("BEGIN SSH HOST KEY KEYS")) {
		t.Fatalf("%q, %v, %v", text, at, err)
	}
	long := bytes.Repeat([]byte("x"), 2*maxConsole)
	if err := os.WriteFile(b.consoleFile(i.ID), append(long, "end"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, _, err = b.ConsoleOutput(b.ctx, testRegion, i.ID, false); err != nil || len(text) != maxConsole || !bytes.HasSuffix(text, []byte("end")) {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	img, err := b.ConsoleScreenshot(b.ctx, testRegion, i.ID)
	if err != nil || !bytes.HasPrefix(img, []byte{0xff, 0xd8}) {
		t.Errorf("screenshot: %v", err)
	}
	old := b.running(RunParams{Launch: LaunchSpec{Type: "t2.micro"}})
	_, _, err = b.ConsoleOutput(b.ctx, testRegion, old.ID, true)
	wantCode(t, err, "UnsupportedOperation")
}

func TestPasswordOfWindows(t *testing.T) {
	b := newBench(t)
	k, private, err := b.CreateKeyPair(b.ctx, testRegion, KeyPairParams{Name: "k", Type: "rsa"})
	if err != nil {
		t.Fatal(err)
	}
	err = b.Update(b.ctx, testRegion, func(tx *Tx) error {
		img, err := tx.FindImage(b.image)
		if err != nil {
			return err
		}
		img.Platform = "windows"
		return Put(tx, img)
	})
	if err != nil {
		t.Fatal(err)
	}
	i := b.running(RunParams{Launch: LaunchSpec{KeyName: k.Name}})
	data, _, err := b.PasswordData(b.ctx, testRegion, i.ID)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(private.Reveal()))
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 it is how EC2 encrypts passwords
	password, err := rsa.DecryptPKCS1v15(rand.Reader, key, data)
	if err != nil || len(password) < 20 {
		t.Errorf("password of %d bytes, %v", len(password), err)
	}
}
