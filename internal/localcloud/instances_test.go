package localcloud

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud/machine"
)

const testRegion = "eu-west-1"

// A bench is a cloud with an image, somebody in Work, and simulated machines.
type bench struct {
	*Cloud
	t       *testing.T
	ctx     context.Context
	machine *machine.Simulated
	image   string
	stop    func() // of Work
}

func newBench(t *testing.T) *bench {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	b := &bench{t: t, ctx: ctx, machine: &machine.Simulated{}}
	b.Cloud = b.open(t.TempDir())
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(disk, bytes.Repeat([]byte("ingot"), 20<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := b.RegisterBase(ctx, BaseImage{Path: disk, Format: "raw", Name: "debian-12-amd64-20240717-1811", Arch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	b.image = ids[testRegion]
	b.work()
	t.Cleanup(func() {
		b.stop()
		if err := b.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) open(dir string) *Cloud {
	b.t.Helper()
	c, err := Open(b.ctx, Config{Dir: dir, Machines: b.machine, Warn: func(err error) { b.t.Log("warning:", err) }})
	if err != nil {
		b.t.Fatal(err)
	}
	return c
}

// work starts Work; stop ends it and waits.
func (b *bench) work() {
	ctx, cancel := context.WithCancel(b.ctx)
	done := make(chan error, 1)
	cloud := b.Cloud
	go func() { done <- cloud.Work(ctx) }()
	stopped := false
	b.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			b.t.Error("work:", err)
		}
	}
}

func (b *bench) run(p RunParams) []Instance {
	b.t.Helper()
	if p.Launch.ImageID == "" && p.Launch.Template == nil {
		p.Launch.ImageID = b.image
	}
	if p.Launch.Type == "" && p.Launch.Template == nil {
		p.Launch.Type = "t3.micro"
	}
	if p.Min == 0 {
		p.Min, p.Max = 1, 1
	}
	out, err := b.RunInstances(b.ctx, testRegion, p)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// await waits until an instance is in a state.
func (b *bench) await(id, state string) Instance {
	b.t.Helper()
	var i Instance
	err := b.Await(b.ctx, testRegion, func(t *Tx) (ok bool, err error) {
		i, err = t.FindInstance(id)
		return i.State == state, err
	})
	if err != nil {
		b.t.Fatalf("%s is %s (%s), not %s: %v", id, i.State, i.StateReason, state, err)
	}
	return i
}

func (b *bench) running(p RunParams) Instance {
	b.t.Helper()
	return b.await(b.run(p)[0].ID, "running")
}

func TestInstanceLife(t *testing.T) {
	b := newBench(t)
	i := b.run(RunParams{Launch: LaunchSpec{Tags: map[string]Tags{"instance": {"Name": "n"}, "volume": {"of": "n"}}}})[0]
	if i.State != "pending" || i.PrivateIP == "" || i.PublicIP == "" || i.Tags["Name"] != "n" {
		t.Fatalf("launched %+v", i)
	}
	i = b.await(i.ID, "running")
	vols, err := b.Volumes(b.ctx, testRegion, nil)
	if err != nil || len(vols) != 1 || vols[0].State != "in-use" || vols[0].AttachState != "attached" || vols[0].Tags["of"] != "n" {
		t.Fatalf("volumes %+v, %v", vols, err)
	}
	if p, err := b.machineOf(b.ctx, testRegion, i.ID); err != nil || p == nil {
		t.Fatalf("no machine: %v", err)
	}
	if _, err := b.StartInstances(b.ctx, testRegion, []string{i.ID}); err != nil {
		t.Errorf("start of a running instance: %v", err)
	}

	ch, err := b.StopInstances(b.ctx, testRegion, StopParams{IDs: []string{i.ID}})
	if err != nil || ch[0].Previous != "running" || ch[0].Current != "stopping" {
		t.Fatalf("stop: %+v, %v", ch, err)
	}
	i = b.await(i.ID, "stopped")
	if i.PublicIP != "" || i.Machine != nil || i.PrivateIP == "" || i.StateCode != reasonUser {
		t.Errorf("stopped %+v", i)
	}
	if p, err := b.machineOf(b.ctx, testRegion, i.ID); err != nil || p != nil {
		t.Errorf("a stopped instance has the machine %v, %v", p, err)
	}
	err = b.RebootInstances(b.ctx, testRegion, []string{i.ID})
	wantCode(t, err, "IncorrectInstanceState")
	if _, err := b.StartInstances(b.ctx, testRegion, []string{i.ID}); err != nil {
		t.Fatal(err)
	}
	i = b.await(i.ID, "running")
	if i.PublicIP == "" {
		t.Error("no public address after the second start")
	}

	ch, err = b.TerminateInstances(b.ctx, testRegion, []string{i.ID})
	if err != nil || ch[0].Current != "shutting-down" {
		t.Fatalf("terminate: %+v, %v", ch, err)
	}
	i = b.await(i.ID, "terminated")
	if i.PublicIP != "" || len(i.Devices) != 0 {
		t.Errorf("terminated %+v", i)
	}
	if err := b.Drain(b.ctx); err != nil {
		t.Fatal(err)
	}
	if vols, err := b.Volumes(b.ctx, testRegion, nil); err != nil || len(vols) != 0 {
		t.Errorf("volumes left: %+v, %v", vols, err)
	}
	_, err = b.StartInstances(b.ctx, testRegion, []string{i.ID})
	wantCode(t, err, "IncorrectInstanceState")
}

func TestTenFromOneImage(t *testing.T) {
	b := newBench(t)
	made := b.run(RunParams{Min: 10, Max: 10})
	seen := map[string]bool{}
	for n, i := range made {
		if i.Index != n || i.Reservation != made[0].Reservation {
			t.Errorf("instance %d: index %d, reservation %s", n, i.Index, i.Reservation)
		}
		i = b.await(i.ID, "running")
		for _, v := range []string{i.ID, i.PrivateIP, i.PublicIP, i.RootVolume(), i.Interface.ID, i.Interface.MAC} {
			if v == "" || seen[v] {
				t.Errorf("%s of %s is empty or of another one", v, i.ID)
			}
			seen[v] = true
		}
		if _, err := os.Stat(b.volumePath(testRegion, i.RootVolume())); err != nil {
			t.Error(err)
		}
	}
}

func TestClientTokenLaunchesOnce(t *testing.T) {
	b := newBench(t)
	p := RunParams{ClientToken: "once"}
	first, again := b.run(p)[0], b.run(p)[0]
	if first.ID != again.ID {
		t.Errorf("launched %s and %s", first.ID, again.ID)
	}
	p.Launch = LaunchSpec{ImageID: b.image, Type: "t3.small"}
	p.Min, p.Max = 1, 1
	_, err := b.RunInstances(b.ctx, testRegion, p)
	wantCode(t, err, "IdempotentParameterMismatch")
}

func TestDryRunLaunchesNothing(t *testing.T) {
	b := newBench(t)
	_, err := b.RunInstances(WithDryRun(b.ctx), testRegion, RunParams{Launch: LaunchSpec{ImageID: b.image, Type: "t3.micro"}, Min: 1, Max: 1})
	wantCode(t, err, "DryRunOperation")
	if all, err := b.Instances(b.ctx, testRegion, nil); err != nil || len(all) != 0 {
		t.Errorf("instances %v, %v", all, err)
	}
}

func TestLaunchRefusals(t *testing.T) {
	b := newBench(t)
	yes := true
	spec := func(change func(*LaunchSpec)) LaunchSpec {
		s := LaunchSpec{ImageID: b.image, Type: "t3.micro"}
		change(&s)
		return s
	}
	for code, specs := range map[string][]LaunchSpec{
		"MissingParameter":       {{Type: "t3.micro"}},
		"InvalidAMIID.Malformed": {spec(func(s *LaunchSpec) { s.ImageID = "ami" })},
		"InvalidAMIID.NotFound":  {spec(func(s *LaunchSpec) { s.ImageID = NewID("ami") })},
		"InvalidParameterValue": {
			spec(func(s *LaunchSpec) { s.Type = "t3.tiny" }),
			spec(func(s *LaunchSpec) { s.Type = "m6g.large" }), // arm64
			spec(func(s *LaunchSpec) { s.UserData = make([]byte, maxUserData+1) }),
			spec(func(s *LaunchSpec) { s.ProfileName = "nobody" }),
			spec(func(s *LaunchSpec) { s.ProfileARN = "arn:aws:iam::1:instance-profile/x" }),
			spec(func(s *LaunchSpec) { s.Placement = &LaunchPlacement{Zone: "us-east-1a"} }),
			spec(func(s *LaunchSpec) { s.PrivateIP = "10.0.0.1" }),
			spec(func(s *LaunchSpec) { s.ShutdownBehavior = "burn" }),
		},
		"InvalidParameterCombination": {
			spec(func(s *LaunchSpec) { s.Type, s.Credits = "m5.large", "standard" }),
			spec(func(s *LaunchSpec) { s.Enclave = &yes }),
			spec(func(s *LaunchSpec) {
				s.SubnetID, s.Interfaces = NewID("subnet"), []LaunchInterface{{}}
			}),
		},
		"InvalidKeyPair.NotFound":  {spec(func(s *LaunchSpec) { s.KeyName = "none" })},
		"InvalidGroup.NotFound":    {spec(func(s *LaunchSpec) { s.SecurityGroupIDs = []string{NewID("sg")} })},
		"InvalidSubnetID.NotFound": {spec(func(s *LaunchSpec) { s.SubnetID = NewID("subnet") })},
		"InvalidSnapshot.NotFound": {spec(func(s *LaunchSpec) {
			s.Devices = []LaunchDevice{{Device: "/dev/sdf", Volume: &LaunchVolume{SnapshotID: NewID("snap")}}}
		})},
		"InvalidBlockDeviceMapping": {
			spec(func(s *LaunchSpec) { s.Devices = []LaunchDevice{{Device: "/dev/xvda", None: true}} }),
			spec(func(s *LaunchSpec) { s.Devices = []LaunchDevice{{Device: "nonsense", None: true}} }),
			spec(func(s *LaunchSpec) {
				s.Devices = []LaunchDevice{{Device: "/dev/xvda", Volume: &LaunchVolume{SnapshotID: NewID("snap")}}}
			}),
		},
		"UnsupportedHibernationConfiguration":         {spec(func(s *LaunchSpec) { s.Hibernation = &yes })},
		"InvalidHostID.NotFound":                      {spec(func(s *LaunchSpec) { s.Placement = &LaunchPlacement{Host: "h-1"} })},
		"InvalidPlacementGroup.Unknown":               {spec(func(s *LaunchSpec) { s.Placement = &LaunchPlacement{Group: "g"} })},
		"InvalidCapacityReservationId.NotFound":       {spec(func(s *LaunchSpec) { s.Capacity = &LaunchCapacity{ID: "cr-1"} })},
		"SpotMaxPriceTooLow":                          {spec(func(s *LaunchSpec) { s.Market = &LaunchMarket{Type: "spot", MaxPrice: "0.0001"} })},
		"InvalidLaunchTemplateName.NotFoundException": {spec(func(s *LaunchSpec) { s.Template = &LaunchTemplateChoice{Name: "none"} })},
	} {
		for n, s := range specs {
			_, err := b.RunInstances(b.ctx, testRegion, RunParams{Launch: s, Min: 1, Max: 1})
			if CodeOf(err) != code {
				t.Errorf("%s %d: %v", code, n, err)
			}
		}
	}
	_, err := b.RunInstances(b.ctx, testRegion, RunParams{Launch: LaunchSpec{ImageID: b.image}, Min: 2, Max: 1})
	wantCode(t, err, "InvalidParameterValue")
}

func TestCapacity(t *testing.T) {
	b := newBench(t)
	if err := b.SetSettings(b.ctx, Settings{NoCapacity: []string{"m5.large"}, InstanceLimit: 3}); err != nil {
		t.Fatal(err)
	}
	_, err := b.RunInstances(b.ctx, testRegion, RunParams{Launch: LaunchSpec{ImageID: b.image, Type: "m5.large"}, Min: 1, Max: 1})
	wantCode(t, err, "InsufficientInstanceCapacity")
	if got := b.run(RunParams{Min: 1, Max: 10}); len(got) != 3 {
		t.Errorf("%d instances under a limit of 3", len(got))
	}
	_, err = b.RunInstances(b.ctx, testRegion, RunParams{Launch: LaunchSpec{ImageID: b.image, Type: "t3.micro"}, Min: 1, Max: 1})
	wantCode(t, err, "InstanceLimitExceeded")
}

func TestDevicesOfLaunch(t *testing.T) {
	b := newBench(t)
	yes, no := true, false
	i := b.running(RunParams{Launch: LaunchSpec{Devices: []LaunchDevice{
		{Device: "/dev/xvda", Volume: &LaunchVolume{SizeGiB: 9, Type: "gp3", DeleteOnTermination: &no}},
		{Device: "/dev/sdf", Volume: &LaunchVolume{SizeGiB: 2, Encrypted: &yes, DeleteOnTermination: &yes}},
		{Device: "/dev/sdg", Virtual: "ephemeral0"},
	}}})
	if len(i.Devices) != 2 || i.Devices[0].Device != "/dev/xvda" {
		t.Fatalf("devices %+v", i.Devices)
	}
	vols, err := b.Volumes(b.ctx, testRegion, []string{i.Devices[0].Volume, i.Devices[1].Volume})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range vols {
		switch v.Device {
		case "/dev/xvda":
			if v.Spec.SizeGiB != 9 || v.Spec.Type != "gp3" || v.Spec.IOPS != 3000 || v.DeleteOnTermination {
				t.Errorf("root %+v", v)
			}
		case "/dev/sdf":
			if v.Spec.SizeGiB != 2 || !v.Spec.Encrypted || v.Spec.KMSKeyID == "" || !v.DeleteOnTermination {
				t.Errorf("data %+v", v)
			}
		}
	}
	if _, err := b.TerminateInstances(b.ctx, testRegion, []string{i.ID}); err != nil {
		t.Fatal(err)
	}
	b.await(i.ID, "terminated")
	if err := b.Drain(b.ctx); err != nil {
		t.Fatal(err)
	}
	left, err := b.Volumes(b.ctx, testRegion, nil)
	if err != nil || len(left) != 1 || left[0].ID != i.Devices[0].Volume || left[0].State != "available" {
		t.Errorf("left %+v, %v", left, err)
	}
}

func TestProtection(t *testing.T) {
	b := newBench(t)
	yes, no := true, false
	i := b.running(RunParams{Launch: LaunchSpec{NoAPITermination: &yes, NoAPIStop: &yes}})
	_, err := b.TerminateInstances(b.ctx, testRegion, []string{i.ID})
	wantCode(t, err, "OperationNotPermitted")
	_, err = b.StopInstances(b.ctx, testRegion, StopParams{IDs: []string{i.ID}})
	wantCode(t, err, "OperationNotPermitted")
	err = b.ModifyInstance(b.ctx, testRegion, i.ID, InstanceChanges{APITermination: &no, APIStop: &no})
	wantCode(t, err, "InvalidParameterCombination")
	if err := b.ModifyInstance(b.ctx, testRegion, i.ID, InstanceChanges{APITermination: &no}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.TerminateInstances(b.ctx, testRegion, []string{i.ID}); err != nil {
		t.Fatal(err)
	}
	b.await(i.ID, "terminated")
}

func TestGuestPowersItselfOff(t *testing.T) {
	b := newBench(t)
	for behavior, want := range map[string]string{"stop": "stopped", "terminate": "terminated"} {
		i := b.running(RunParams{Launch: LaunchSpec{ShutdownBehavior: behavior}})
		p, err := b.machineOf(b.ctx, testRegion, i.ID)
		if err != nil || p == nil {
			t.Fatal(p, err)
		}
		if err := p.PowerButton(b.ctx); err != nil { // nobody asked the cloud
			t.Fatal(err)
		}
		if i = b.await(i.ID, want); i.StateCode != reasonGuest {
			t.Errorf("%s: reason %s", want, i.StateCode)
		}
	}
}

func TestMachineDies(t *testing.T) {
	b := newBench(t)
	i := b.running(RunParams{Launch: LaunchSpec{ShutdownBehavior: "terminate"}})
	p, err := b.machineOf(b.ctx, testRegion, i.ID)
	if err != nil || p == nil {
		t.Fatal(p, err)
	}
	if err := p.Kill(b.ctx); err != nil {
		t.Fatal(err)
	}
	if i = b.await(i.ID, "stopped"); i.StateCode != reasonInternal {
		t.Errorf("reason %s", i.StateCode)
	}
	if _, err := b.StartInstances(b.ctx, testRegion, []string{i.ID}); err != nil {
		t.Fatal(err)
	}
	b.await(i.ID, "running")
}

func TestRebootKeepsAddresses(t *testing.T) {
	b := newBench(t)
	i := b.running(RunParams{})
	if err := b.RebootInstances(b.ctx, testRegion, []string{i.ID}); err != nil {
		t.Fatal(err)
	}
	var now Instance
	err := b.Await(b.ctx, testRegion, func(t *Tx) (ok bool, err error) {
		now, err = t.FindInstance(i.ID)
		return !now.Rebooting && !bytes.Equal(now.Machine, i.Machine), err
	})
	if err != nil {
		t.Fatal(err)
	}
	if now.State != "running" || now.PublicIP != i.PublicIP || now.PrivateIP != i.PrivateIP {
		t.Errorf("after the reboot %+v", now)
	}
	if p, err := b.machineOf(b.ctx, testRegion, i.ID); err != nil || p == nil {
		t.Errorf("no machine: %v", err)
	}
}

// Another process takes over: the machine goes on, what was asked for and not
// done is done.
func TestAnotherProcessTakesOver(t *testing.T) {
	b := newBench(t)
	i := b.running(RunParams{})
	b.stop()
	waiting := b.run(RunParams{})[0]
	b.Cloud = b.open(b.Dir())
	b.work()
	b.await(waiting.ID, "running")
	if _, err := b.StopInstances(b.ctx, testRegion, StopParams{IDs: []string{i.ID}}); err != nil {
		t.Fatal(err)
	}
	b.await(i.ID, "stopped")
}

// Simulated machines end with their process: the next one finds instances
// without machines.
func TestMachinesThatDiedWithTheirProcess(t *testing.T) {
	b := newBench(t)
	i := b.running(RunParams{})
	p, err := b.machineOf(b.ctx, testRegion, i.ID)
	if err != nil || p == nil {
		t.Fatal(p, err)
	}
	t.Cleanup(func() { _ = p.Kill(context.Background()) })
	b.stop()
	b.machine = &machine.Simulated{}
	b.Cloud = b.open(b.Dir())
	b.work()
	if i = b.await(i.ID, "stopped"); i.StateCode != reasonInternal {
		t.Errorf("reason %s", i.StateCode)
	}
}

// The jobs of instances may be done again at any point.
func TestJobsAreRepeatable(t *testing.T) {
	b := newBench(t)
	i := b.running(RunParams{})
	again := func(kind string) {
		t.Helper()
		j := Job{ID: newJobID(), Kind: kind, Region: testRegion, Target: i.ID, Created: time.Now()}
		if err := b.handlers[kind](b.ctx, j); err != nil {
			t.Errorf("%s again: %v", kind, err)
		}
	}
	again("instance-start")
	again("instance-stop")
	again("instance-terminate")
	again("instance-forget")
	if now := b.await(i.ID, "running"); !bytes.Equal(now.Machine, i.Machine) {
		t.Error("the machine was started twice")
	}
	if _, err := b.TerminateInstances(b.ctx, testRegion, []string{i.ID}); err != nil {
		t.Fatal(err)
	}
	b.await(i.ID, "terminated")
	again("instance-terminate")
	again("instance-start")
	again("instance-reboot")
	b.await(i.ID, "terminated")
	again("instance-forget")
	_, err := b.Instances(b.ctx, testRegion, []string{i.ID})
	wantCode(t, err, "InvalidInstanceID.NotFound")
}

func TestDamagedLayerDoesNotStart(t *testing.T) {
	b := newBench(t)
	var layer string
	err := b.View(b.ctx, testRegion, func(t *Tx) error {
		snaps, err := All[Snapshot](t)
		layer = snaps[0].Layer
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	path := b.Images().Path(layer)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := errors.Join(os.Remove(path), os.WriteFile(path, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	i := b.await(b.run(RunParams{})[0].ID, "terminated")
	if i.StateCode != reasonInternal || i.StateReason == "" {
		t.Errorf("reason %s: %s", i.StateCode, i.StateReason)
	}
}
