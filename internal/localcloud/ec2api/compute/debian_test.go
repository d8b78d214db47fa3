package compute_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
	"github.com/ingot-build/ingot/internal/localcloud/machine"
	"github.com/ingot-build/ingot/internal/poll"
)

// linkMode makes the test binary the network helper of machines.
const linkMode = "run-link-of-the-compute-tests"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == linkMode {
		if err := machine.RunLink(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 2 && os.Args[1] == workMode {
		fmt.Fprintln(os.Stderr, work(os.Args[2]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// patience bounds waits on a real guest on a busy machine.
const patience = 5 * time.Minute

// TestDebianInstance takes a real instance through its life.
func TestDebianInstance(t *testing.T) {
	if testing.Short() {
		t.Skip("needs QEMU, a Debian image and minutes")
	}
	disk := os.Getenv("INGOT_TEST_BASE")
	if disk == "" {
		disk = "../../../../.ingot/base/debian-12-amd64.qcow2"
	}
	disk, err := filepath.Abs(disk)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(disk); err != nil {
		t.Fatalf("no base image: run `make base` first, or name one in INGOT_TEST_BASE: %v", err)
	}
	driver := &machine.QEMU{Link: []string{os.Args[0], linkMode}, Cache: t.TempDir()}
	if err := driver.Check(t.Context(), "x86_64"); err != nil {
		t.Fatal(err)
	}
	c := cloudtest.At(t, t.TempDir(), driver)
	ctx, stop := context.WithTimeout(t.Context(), 4*patience)
	defer stop()
	api := c.EC2(region)
	ids, err := c.RegisterBase(ctx, localcloud.BaseImage{Path: disk, Format: "qcow2", Name: "debian-12-amd64-20240717-1811", Arch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	key := must[*ec2.CreateKeyPairOutput](t)(api.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: aws.String("k"), KeyType: types.KeyTypeEd25519}))
	signer, err := ssh.ParsePrivateKey([]byte(*key.KeyMaterial))
	if err != nil {
		t.Fatal(err)
	}
	group := must[*ec2.CreateSecurityGroupOutput](t)(api.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: aws.String("g"), Description: aws.String("g")}))
	must[*ec2.AuthorizeSecurityGroupIngressOutput](t)(api.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: group.GroupId, IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22), CidrIp: aws.String("0.0.0.0/0"),
	}))
	run := must[*ec2.RunInstancesOutput](t)(api.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: aws.String(ids[region]), InstanceType: types.InstanceTypeT3Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		KeyName: aws.String("k"), SecurityGroupIds: []string{*group.GroupId},
		MetadataOptions: &types.InstanceMetadataOptionsRequest{HttpTokens: types.HttpTokensStateRequired},
	}))
	id := *run.Instances[0].InstanceId
	g := &guest{t: t, c: c, id: id, signer: signer}

	i := awaitState(t, api, id, types.InstanceStateNameRunning)
	if got := g.run(ctx, "hostname -I"); !strings.Contains(got, *i.PrivateIpAddress) {
		t.Errorf("the guest has the address %s, the instance %s", got, *i.PrivateIpAddress)
	}
	g.run(ctx, "echo kept > file && sync")

	boot := g.run(ctx, "cat /proc/sys/kernel/random/boot_id")
	must[*ec2.RebootInstancesOutput](t)(api.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: []string{id}}))
	err = poll.Until(ctx, poll.Backoff{}, func(ctx context.Context) (bool, error) {
		now, err := g.try(ctx, "cat /proc/sys/kernel/random/boot_id")
		return err == nil && now != boot, nil
	})
	if err != nil {
		t.Fatal("no reboot: ", err)
	}

	// Another process works on the cloud too: it finds the machine.
	second, err := localcloud.Open(ctx, localcloud.Config{Dir: c.Dir(), Machines: &machine.QEMU{Link: driver.Link, Cache: driver.Cache}, Warn: func(err error) { t.Log("second:", err) }})
	if err != nil {
		t.Fatal(err)
	}
	wctx, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- second.Work(wctx) }()
	defer func() {
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	if p, err := second.ConsoleScreenshot(ctx, region, id); err != nil || len(p) == 0 {
		t.Errorf("screenshot: %v", err)
	}
	if _, err := second.StopInstances(ctx, region, localcloud.StopParams{IDs: []string{id}}); err != nil {
		t.Fatal(err)
	}
	awaitState(t, api, id, types.InstanceStateNameStopped)
	must[*ec2.StartInstancesOutput](t)(api.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: []string{id}}))
	awaitState(t, api, id, types.InstanceStateNameRunning)
	if got := g.run(ctx, "cat file"); got != "kept" {
		t.Errorf("the file holds %q", got)
	}
	_, _ = g.try(ctx, "sudo poweroff") // ends the connection
	if i = awaitState(t, api, id, types.InstanceStateNameStopped); aws.ToString(i.StateReason.Code) != "Client.InstanceInitiatedShutdown" {
		t.Errorf("stopped because of %s", aws.ToString(i.StateReason.Code))
	}
	must[*ec2.TerminateInstancesOutput](t)(api.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}}))
	awaitState(t, api, id, types.InstanceStateNameTerminated)
}

func awaitState(t *testing.T, api *ec2.Client, id string, want types.InstanceStateName) (i types.Instance) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	err := poll.Until(ctx, poll.Backoff{}, func(ctx context.Context) (bool, error) {
		out, err := api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
		if err != nil {
			return false, err
		}
		i = out.Reservations[0].Instances[0]
		return i.State.Name == want, nil
	})
	if err != nil {
		t.Fatalf("the instance is %s, not %s: %v", i.State.Name, want, err)
	}
	return i
}

// A guest is logged into anew for each command.
type guest struct {
	t      *testing.T
	c      *cloudtest.Cloud
	id     string
	signer ssh.Signer
}

func (g *guest) try(ctx context.Context, command string) (string, error) {
	all, err := g.c.Instances(ctx, region, []string{g.id})
	if err != nil {
		return "", err
	}
	client, err := ssh.Dial("tcp", net.JoinHostPort(all[0].PublicIP, strconv.Itoa(all[0].SSHPort)), &ssh.ClientConfig{
		User: "admin", Auth: []ssh.AuthMethod{ssh.PublicKeys(g.signer)}, Timeout: 20 * time.Second,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // the console is looked at in the machine's own test
	})
	if err != nil {
		return "", err
	}
	defer client.Close()
	s, err := client.NewSession()
	if err != nil {
		return "", err
	}
	defer s.Close()
	out, err := s.CombinedOutput(command)
	return strings.TrimSpace(string(out)), err
}

// run retries until the guest can be logged into.
func (g *guest) run(ctx context.Context, command string) string {
	g.t.Helper()
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	var out string
	var last error
	err := poll.Until(ctx, poll.Backoff{}, func(ctx context.Context) (bool, error) {
		out, last = g.try(ctx, command)
		return last == nil, nil
	})
	if err != nil {
		g.t.Fatalf("%s: %v (%s)", command, last, out)
	}
	return out
}
