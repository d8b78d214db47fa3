package network_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
)

// What is done to the network of a running machine is felt by who connects to
// it: rules open and close its port, and an elastic address leads to it.
func TestNetworkReachesMachine(t *testing.T) {
	c := cloudtest.New(t)
	ctx, api := cloudtest.Context(t), c.EC2(east)
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(disk, bytes.Repeat([]byte("ingot"), 20<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := c.RegisterBase(ctx, localcloud.BaseImage{Path: disk, Format: "raw", Name: "debian-12-amd64-20240717-1811", Arch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	group := newGroup(t, api, "g")
	run := must(api.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: aws.String(ids[east]), InstanceType: types.InstanceTypeT3Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), SecurityGroupIds: []string{*group},
	}))(t)
	id := *run.Instances[0].InstanceId
	quick := func(o *ec2.InstanceRunningWaiterOptions) {
		o.MinDelay, o.MaxDelay = 5*time.Millisecond, 50*time.Millisecond
	}
	out, err := ec2.NewInstanceRunningWaiter(api, quick).WaitForOutput(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}}, cloudtest.Limit)
	if err != nil {
		t.Fatal(err)
	}
	first := *out.Reservations[0].Instances[0].PublicIpAddress

	// 22, or another where this user may not listen on that one.
	port := strconv.Itoa((&site{Cloud: c.Cloud}).instanceNow(t, east, id).SSHPort)
	reach := func(ip string) bool {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip, port), 5*time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}
	if reach(first) {
		t.Error("the port is open without a rule")
	}
	ssh := []types.IpPermission{tcp(22, 22, "0.0.0.0/0")}
	if _, err := api.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: group, IpPermissions: ssh}); err != nil {
		t.Fatal(err)
	}
	cloudtest.Eventually(t, "the rule opens the port", func() bool { return reach(first) })

	elastic := must(api.AllocateAddress(ctx, &ec2.AllocateAddressInput{}))(t)
	if _, err := api.AssociateAddress(ctx, &ec2.AssociateAddressInput{AllocationId: elastic.AllocationId, InstanceId: &id}); err != nil {
		t.Fatal(err)
	}
	cloudtest.Eventually(t, "the elastic address leads to the machine", func() bool { return reach(*elastic.PublicIp) })
	cloudtest.Eventually(t, "the old address is free", func() bool { return !reach(first) })

	if _, err := api.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: group, IpPermissions: ssh}); err != nil {
		t.Fatal(err)
	}
	cloudtest.Eventually(t, "without the rule the port is closed", func() bool { return !reach(*elastic.PublicIp) })
	if _, err := api.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}}); err != nil {
		t.Fatal(err)
	}
	cloudtest.Eventually(t, "the address of a terminated instance may be released", func() bool {
		_, err := api.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: elastic.AllocationId})
		return err == nil
	})
	cloudtest.Eventually(t, "its group may be deleted", func() bool {
		_, err := api.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: group})
		return err == nil
	})
}
