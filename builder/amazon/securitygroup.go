package amazon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
)

// addressURL answers with the address a request comes from.
const addressURL = "https://checkip.amazonaws.com"

// groupTime is how long a network card may keep its group after the instance
// has ended.
const groupTime = 15 * time.Minute

// makeGroup makes the security group that lets us in, unless the user gave
// one. With no communicator, and through the Session Manager, nobody is let
// in.
func (m *machine) makeGroup(ctx context.Context, r *builder.Run, s *state) error {
	if len(s.Network.Groups) > 0 {
		return nil
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	if s.Group.ID == "" {
		if err := m.createGroup(ctx, r, s, c); err != nil {
			return err
		}
		if err := r.Save(); err != nil {
			return err
		}
	}
	port := m.port()
	if port == 0 || m.run.Interface == "session_manager" {
		return nil
	}
	ranges, err := m.sources(ctx, c)
	if err != nil {
		return err
	}
	r.Say("Temporary security group %s lets port %d in from %s", s.Group.ID, port, strings.Join(ranges, ", "))
	return m.openPort(ctx, c, s.Group.ID, port, ranges)
}

// port is where the communicator listens, 0 without one.
func (m *machine) port() int {
	switch m.comm.Communicator {
	case "ssh":
		return m.comm.SSHPort
	case "winrm":
		return m.comm.WinRMPort
	}
	return 0
}

func (m *machine) createGroup(ctx context.Context, r *builder.Run, s *state, c cloud) error {
	tags, err := m.runTags(r, s)
	if err != nil {
		return err
	}
	if s.Group.Name == "" {
		s.Group.Name = s.token(r, "security-group")
	}
	in := &ec2.CreateSecurityGroupInput{
		GroupName: &s.Group.Name, Description: aws.String("Temporary group of an Ingot build"),
		TagSpecifications: []types.TagSpecification{spec(types.ResourceTypeSecurityGroup, tags)},
	}
	if s.Network.VPC != "" {
		in.VpcId = &s.Network.VPC
	}
	err = c.once(ctx, making{
		begun: s.Group.Begun,
		mark:  func() error { s.Group.Begun = true; return r.Save() },
		find:  func(ctx context.Context) (bool, error) { return m.findGroup(ctx, c, s) },
		make: func(ctx context.Context) error {
			out, err := c.CreateSecurityGroup(ctx, in)
			if err == nil {
				s.Group.ID = aws.ToString(out.GroupId)
			}
			return err
		},
		taken: "InvalidGroup.Duplicate",
	})
	if awsaccess.Code(err) == "VPCIdNotSpecified" {
		return diag.WithHint(err, "the account has no default VPC in this region: set vpc_id or subnet_id")
	}
	return err
}

// findGroup looks for the group by its name, which no other attempt has.
func (m *machine) findGroup(ctx context.Context, c cloud, s *state) (bool, error) {
	f := []types.Filter{{Name: aws.String("group-name"), Values: []string{s.Group.Name}}}
	if s.Network.VPC != "" {
		f = append(f, types.Filter{Name: aws.String("vpc-id"), Values: []string{s.Network.VPC}})
	}
	out, err := c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: f})
	if err != nil || len(out.SecurityGroups) == 0 {
		return false, gone(err, "InvalidGroup.NotFound")
	}
	s.Group.ID = aws.ToString(out.SecurityGroups[0].GroupId)
	return true, nil
}

// openPort lets the ranges in. A rule that is there already is as good as a
// new one, and a group that is new may not be seen everywhere yet.
func (m *machine) openPort(ctx context.Context, c cloud, group string, port int, ranges []string) error {
	p := types.IpPermission{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(int32(port)), ToPort: aws.Int32(int32(port))}
	for _, r := range ranges {
		if strings.Contains(r, ":") {
			p.Ipv6Ranges = append(p.Ipv6Ranges, types.Ipv6Range{CidrIpv6: aws.String(r)})
		} else {
			p.IpRanges = append(p.IpRanges, types.IpRange{CidrIp: aws.String(r)})
		}
	}
	in := &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &group, IpPermissions: []types.IpPermission{p}}
	err := c.s.Wait(ctx, settleTime, func(ctx context.Context) (bool, error) {
		_, err := c.AuthorizeSecurityGroupIngress(ctx, in)
		switch awsaccess.Code(err) {
		case "InvalidPermission.Duplicate":
			return true, nil
		case "InvalidGroup.NotFound":
			return false, nil
		}
		return err == nil, err
	})
	return err
}

// sources are the addresses that are let in.
func (m *machine) sources(ctx context.Context, c cloud) ([]string, error) {
	o := m.run
	switch {
	case len(o.GroupSourceCIDRs) > 0:
		return o.GroupSourceCIDRs, nil
	case o.GroupSourcePublicIP:
		ip, err := publicAddress(ctx, addressURL)
		if err != nil {
			return nil, diag.WithHint(fmt.Errorf("this computer's public address: %w", err), "give temporary_security_group_source_cidrs instead")
		}
		return []string{netip.PrefixFrom(ip, ip.BitLen()).String()}, nil
	case c.s.Local():
		return []string{"127.0.0.1/32"}, nil
	case o.Interface == "ipv6":
		return []string{"0.0.0.0/0", "::/0"}, nil
	}
	return []string{"0.0.0.0/0"}, nil
}

// publicAddress asks url for the address that this computer's requests come
// from.
func publicAddress(ctx context.Context, url string) (netip.Addr, error) {
	ctx, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return netip.Addr{}, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return netip.Addr{}, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return netip.Addr{}, fmt.Errorf("%s answered %s", url, res.Status)
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, 256))
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(strings.TrimSpace(string(text)))
}

// removeGroup deletes the group as soon as the instance no longer uses it.
func (m *machine) removeGroup(ctx context.Context, r *builder.Run, s *state) error {
	if !s.Group.Begun {
		return nil
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	if s.Group.ID == "" {
		found, err := c.appears(ctx, true, func(ctx context.Context) (bool, error) { return m.findGroup(ctx, c, s) })
		if err != nil || !found {
			return err
		}
	}
	r.Say("Deleting temporary security group %s", s.Group.ID)
	err = c.dropGroup(ctx, s.Group.ID)
	if err == nil {
		s.Group = thing{}
	}
	return err
}
