package metadata

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

const stamp = "2006-01-02T15:04:05Z"

func or(v, otherwise string) string {
	if v == "" {
		return otherwise
	}
	return v
}

// tree returns the values below meta-data by their paths.
func (i *Instance) tree() map[string]string {
	t := map[string]string{
		"ami-launch-index":             strconv.Itoa(i.LaunchIndex),
		"ami-manifest-path":            "(unknown)",
		"hibernation/configured":       "false",
		"instance-action":              "none",
		"instance-life-cycle":          or(i.LifeCycle, "on-demand"),
		"profile":                      "default-hvm",
		"services/domain":              or(i.DomainSuffix, "amazonaws.com"),
		"services/partition":           or(i.Partition, "aws"),
		"system":                       "nitro",
		"events/maintenance/history":   "[]",
		"events/maintenance/scheduled": "[]",
	}
	put := func(path, value string) {
		if value != "" {
			t[path] = value
		}
	}
	put("ami-id", i.ImageID)
	put("instance-id", i.ID)
	put("instance-type", i.Type)
	put("hostname", i.LocalHostname)
	put("local-hostname", i.LocalHostname)
	put("local-ipv4", i.LocalIPv4)
	put("public-hostname", i.PublicHostname)
	put("public-ipv4", i.PublicIPv4)
	put("mac", i.MAC)
	put("reservation-id", i.ReservationID)
	put("placement/availability-zone", i.AvailabilityZone)
	put("placement/availability-zone-id", i.ZoneID)
	put("placement/region", i.Region)
	var ids, names []string
	for _, g := range i.SecurityGroups {
		ids, names = append(ids, g.ID), append(names, g.Name)
	}
	put("security-groups", strings.Join(names, "\n"))
	if i.MAC != "" {
		dir := "network/interfaces/macs/" + i.MAC + "/"
		put(dir+"device-number", "0")
		put(dir+"interface-id", i.InterfaceID)
		put(dir+"local-hostname", i.LocalHostname)
		put(dir+"local-ipv4s", i.LocalIPv4)
		put(dir+"mac", i.MAC)
		put(dir+"owner-id", i.OwnerID)
		put(dir+"public-hostname", i.PublicHostname)
		put(dir+"public-ipv4s", i.PublicIPv4)
		put(dir+"security-group-ids", strings.Join(ids, "\n"))
		put(dir+"security-groups", strings.Join(names, "\n"))
		put(dir+"subnet-id", i.SubnetID)
		put(dir+"subnet-ipv4-cidr-block", i.SubnetCIDR)
		put(dir+"vpc-id", i.VPCID)
		if len(i.VPCCIDRs) > 0 {
			put(dir+"vpc-ipv4-cidr-block", i.VPCCIDRs[0])
			put(dir+"vpc-ipv4-cidr-blocks", strings.Join(i.VPCCIDRs, "\n"))
		}
		if i.PublicIPv4 != "" {
			put(dir+"ipv4-associations/"+i.PublicIPv4, i.LocalIPv4)
		}
	}
	for n, k := range i.Keys {
		put(fmt.Sprintf("public-keys/%d/openssh-key", n), strings.TrimSpace(k.OpenSSH)+"\n")
	}
	ebs, ephemeral := 0, 0
	for n, d := range i.Devices {
		short := strings.TrimPrefix(d.Name, "/dev/")
		switch {
		case n == 0:
			put("block-device-mapping/ami", d.Name)
			put("block-device-mapping/root", d.Name)
		case d.Ephemeral:
			put(fmt.Sprintf("block-device-mapping/ephemeral%d", ephemeral), short)
			ephemeral++
		default:
			ebs++
			put(fmt.Sprintf("block-device-mapping/ebs%d", ebs), short)
		}
	}
	if p := i.Profile; p != nil {
		put("iam/info", document(struct {
			Code               string
			LastUpdated        string
			InstanceProfileArn string
			InstanceProfileId  string //nolint:revive // EC2's spelling
		}{"Success", p.LastUpdated.UTC().Format(stamp), p.ARN, p.ID}))
		put("iam/security-credentials/"+p.Role, document(struct {
			Code, LastUpdated, Type, AccessKeyId, SecretAccessKey, Token, Expiration string //nolint:revive // EC2's spelling
		}{
			"Success", p.LastUpdated.UTC().Format(stamp), "AWS-HMAC",
			p.AccessKeyID, p.SecretKey.Reveal(), p.SessionToken.Reveal(), p.Expiration.UTC().Format(stamp),
		}))
	}
	if i.TagsEnabled {
		for k, v := range i.Tags {
			t["tags/instance/"+k] = v
		}
	}
	return t
}

// identity is the instance identity document.
func (i *Instance) identity() string {
	return document(struct {
		AccountID        string   `json:"accountId"`
		Architecture     string   `json:"architecture"`
		AvailabilityZone string   `json:"availabilityZone"`
		Billing          []string `json:"billingProducts"`
		DevPay           []string `json:"devpayProductCodes"`
		Marketplace      []string `json:"marketplaceProductCodes"`
		ImageID          string   `json:"imageId"`
		InstanceID       string   `json:"instanceId"`
		InstanceType     string   `json:"instanceType"`
		KernelID         *string  `json:"kernelId"`
		PendingTime      string   `json:"pendingTime"`
		PrivateIP        string   `json:"privateIp"`
		RamdiskID        *string  `json:"ramdiskId"`
		Region           string   `json:"region"`
		Version          string   `json:"version"`
	}{
		AccountID: i.OwnerID, Architecture: i.Architecture, AvailabilityZone: i.AvailabilityZone, ImageID: i.ImageID,
		InstanceID: i.ID, InstanceType: i.Type, PendingTime: i.LaunchTime.UTC().Truncate(time.Second).Format(stamp),
		PrivateIP: i.LocalIPv4, Region: i.Region, Version: "2017-09-30",
	})
}

func document(v any) string {
	js, _ := json.MarshalIndent(v, "", "  ") // plain values
	return string(js)
}

// find returns a value, or the list of a folder's names.
func (i *Instance) find(path string) (string, bool) {
	path = strings.TrimSuffix(path, "/")
	t := i.tree()
	if v, ok := t[path]; ok {
		return v, true
	}
	prefix := ""
	if path != "" {
		prefix = path + "/"
	}
	var names []string
	for p := range t {
		rest, ok := strings.CutPrefix(p, prefix)
		if !ok {
			continue
		}
		if head, _, more := strings.Cut(rest, "/"); more {
			rest = head + "/"
		}
		names = append(names, rest)
	}
	if len(names) == 0 {
		return "", false
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if path == "public-keys" { // the one list that is not of names
		names = names[:0]
		for n, k := range i.Keys {
			names = append(names, fmt.Sprintf("%d=%s", n, k.Name))
		}
	}
	return strings.Join(names, "\n"), true
}
