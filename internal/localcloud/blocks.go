package localcloud

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
)

// DefaultVolumeType is what a volume is when nothing says.
const DefaultVolumeType = "gp2"

// A volumeLimit bounds a type of volume. Sizes are GiB, throughput MiB/s;
// zero IOPS or throughput: cannot be asked for.
type volumeLimit struct {
	minSize, maxSize             int64
	minIOPS, maxIOPS             int64
	iopsPerGiB                   int64
	minThroughput, maxThroughput int64
}

// volumeLimits are those of
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html
var volumeLimits = map[string]volumeLimit{
	"standard": {minSize: 1, maxSize: 1024},
	"gp2":      {minSize: 1, maxSize: 16384},
	"gp3":      {minSize: 1, maxSize: 65536, minIOPS: 3000, maxIOPS: 80000, iopsPerGiB: 500, minThroughput: 125, maxThroughput: 2000},
	"io1":      {minSize: 4, maxSize: 16384, minIOPS: 100, maxIOPS: 64000, iopsPerGiB: 50},
	"io2":      {minSize: 4, maxSize: 65536, minIOPS: 100, maxIOPS: 256000, iopsPerGiB: 1000},
	"st1":      {minSize: 125, maxSize: 16384},
	"sc1":      {minSize: 125, maxSize: 16384},
}

// ResolveVolume checks what a request says of a volume and fills in what it
// leaves open: the size of the snapshot, the type, its performance, the
// region's encryption default and the full name of a key. The snapshot is the
// zero value when none is named.
func (t *Tx) ResolveVolume(s VolumeSpec) (VolumeSpec, Snapshot, error) {
	var snap Snapshot
	if s.SnapshotID != "" {
		var err error
		if snap, err = t.usableSnapshot(s.SnapshotID); err != nil {
			return s, snap, err
		}
	}
	if s.Type == "" {
		s.Type = DefaultVolumeType
	}
	if s.SizeGiB == 0 {
		if s.SnapshotID == "" {
			return s, snap, Errorf("MissingParameter", "The request must contain the parameter size or snapshotId")
		}
		s.SizeGiB = snap.SizeGiB
	}
	if s.SizeGiB < snap.SizeGiB {
		return s, snap, Errorf("InvalidBlockDeviceMapping", "Volume of size %dGB is smaller than snapshot '%s', expect size >= %dGB", s.SizeGiB, snap.ID, snap.SizeGiB)
	}
	if err := checkPerformance(&s); err != nil {
		return s, snap, err
	}
	err := t.resolveKey(&s.Encrypted, &s.KMSKeyID, snap)
	return s, snap, err
}

// checkPerformance checks size, IOPS and throughput against the type and fills
// in what the type gives.
func checkPerformance(s *VolumeSpec) error {
	l, ok := volumeLimits[s.Type]
	if !ok {
		return Errorf("InvalidParameterValue", "Value (%s) for parameter volumeType is invalid. It must be one of gp3, gp2, io1, io2, st1, sc1, standard", s.Type)
	}
	if s.SizeGiB < l.minSize || s.SizeGiB > l.maxSize {
		return Errorf("InvalidParameterValue", "Volume of %dGiB is invalid. A volume of type %s holds %d to %d GiB", s.SizeGiB, s.Type, l.minSize, l.maxSize)
	}
	switch {
	case s.IOPS != 0 && l.maxIOPS == 0:
		return Errorf("InvalidParameterCombination", "The parameter iops is not supported for %s volumes.", s.Type)
	case s.IOPS == 0 && s.Type == "gp3":
		s.IOPS = 3000
	case s.IOPS == 0 && l.maxIOPS != 0:
		return Errorf("MissingParameter", "The request must contain the parameter iops for %s volumes", s.Type)
	case s.IOPS != 0 && (s.IOPS < l.minIOPS || s.IOPS > l.maxIOPS):
		return Errorf("InvalidParameterValue", "Volume iops of %d is invalid; a volume of type %s has %d to %d", s.IOPS, s.Type, l.minIOPS, l.maxIOPS)
	}
	if most := l.iopsPerGiB * s.SizeGiB; l.iopsPerGiB != 0 && s.IOPS > max(most, l.minIOPS) {
		return Errorf("InvalidParameterValue", "Iops to volume size ratio of %d is too high; maximum is %d", s.IOPS/s.SizeGiB, l.iopsPerGiB)
	}
	switch {
	case s.Throughput != 0 && l.maxThroughput == 0:
		return Errorf("InvalidParameterCombination", "The parameter throughput is not supported for %s volumes.", s.Type)
	case s.Throughput == 0:
		s.Throughput = l.minThroughput
	case s.Throughput < l.minThroughput || s.Throughput > l.maxThroughput:
		return Errorf("InvalidParameterValue", "Throughput of %d is invalid; a volume of type %s has %d to %d MiB/s", s.Throughput, s.Type, l.minThroughput, l.maxThroughput)
	}
	if s.Throughput*4 > s.IOPS && l.maxThroughput != 0 {
		return Errorf("InvalidParameterValue", "Throughput (MiBps) to iops ratio of %g is too high; maximum is 0.25 MiBps per iops", float64(s.Throughput)/float64(s.IOPS))
	}
	return nil
}

// ShownIOPS is the IOPS that a description of a volume has: gp2 gives them by
// size.
func (s VolumeSpec) ShownIOPS() int64 {
	if s.Type == "gp2" {
		return min(max(3*s.SizeGiB, 100), 16000)
	}
	return s.IOPS
}

var kmsKey = regexp.MustCompile(`^(alias/[A-Za-z0-9/_-]+|(mrk-)?[0-9a-f-]{8,36})$`)

// resolveKey decides on the encryption of a disk made of snap: encrypted ones
// stay so, the region's default applies otherwise.
func (t *Tx) resolveKey(encrypted *bool, key *string, snap Snapshot) error {
	if *key != "" && !*encrypted && !snap.Encrypted {
		return Errorf("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set.")
	}
	d, err := t.EBSDefaults()
	if err != nil {
		return err
	}
	*encrypted = *encrypted || snap.Encrypted || d.Encrypted
	switch {
	case !*encrypted:
		return nil
	case *key == "" && snap.KMSKeyID != "" && keyRegion(snap.KMSKeyID) == t.Region:
		*key = snap.KMSKeyID
		return nil
	case *key == "":
		*key = d.KMSKeyID
	}
	*key, err = KeyARN(t.Region, *key)
	return err
}

// KeyARN is the full name of a KMS key in a region, given by its id, alias or
// ARN. No key is ever made or checked: an alias is a key whose id follows from
// its name.
func KeyARN(region, key string) (string, error) {
	id := key
	if strings.HasPrefix(key, "arn:") {
		if keyRegion(key) != region {
			return "", Errorf("InvalidParameterValue", "The key %s is not of the region %s", key, region)
		}
		id = strings.SplitN(key, ":", 6)[5]
		id = strings.TrimPrefix(id, "key/")
	}
	if !kmsKey.MatchString(id) {
		return "", Errorf("InvalidParameterValue", "Value (%s) for parameter KmsKeyId is invalid. It must be a key id, an alias or an ARN", key)
	}
	if strings.HasPrefix(id, "alias/") {
		sum := sha256.Sum256([]byte(region + " " + id))
		h := hex.EncodeToString(sum[:16])
		id = h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-8" + h[17:20] + "-" + h[20:32]
	}
	return "arn:aws:kms:" + region + ":" + AccountID + ":key/" + id, nil
}

func keyRegion(arn string) string {
	if p := strings.SplitN(arn, ":", 6); len(p) == 6 && p[2] == "kms" {
		return p[3]
	}
	return ""
}

var deviceName = regexp.MustCompile(`^(/dev/)?(sd[a-z][a-z]?[0-9]{0,2}|xvd[a-z][a-z]?[0-9]{0,2}|hd[a-z][0-9]{0,2})$`)

// CheckDeviceName refuses names that no block device has.
func CheckDeviceName(name string) error {
	if !deviceName.MatchString(name) {
		return Errorf("InvalidParameterValue", "Value (%s) for parameter device is invalid. %s is not a valid EBS device name.", name, name)
	}
	return nil
}

// CheckMappings refuses device mappings that EC2 refuses whatever they are for.
func CheckMappings(maps []DeviceMapping) error {
	seen := map[string]bool{}
	for _, m := range maps {
		if m.Device == "" {
			return Errorf("MissingParameter", "The request must contain the parameter DeviceName for each block device mapping")
		}
		if !deviceName.MatchString(m.Device) {
			return Errorf("InvalidBlockDeviceMapping", "Invalid device name %s", m.Device)
		}
		if seen[m.Device] {
			return Errorf("InvalidBlockDeviceMapping", "The device '%s' is used in more than one block-device mapping", m.Device)
		}
		seen[m.Device] = true
		given := 0
		for _, b := range []bool{m.Volume != nil, m.Virtual != "", m.None} {
			if b {
				given++
			}
		}
		if given != 1 {
			return Errorf("InvalidBlockDeviceMapping", "The mapping of '%s' must have exactly one of Ebs, VirtualName and NoDevice", m.Device)
		}
		if m.Virtual != "" && !validVirtual(m.Virtual) {
			return Errorf("InvalidBlockDeviceMapping", "Invalid virtual name '%s'; it is ephemeral0 to ephemeral23", m.Virtual)
		}
	}
	return nil
}

func validVirtual(name string) bool {
	n, ok := strings.CutPrefix(name, "ephemeral")
	return ok && n != "" && len(n) <= 2 && strings.Trim(n, "0123456789") == ""
}

// mapping returns the mapping of a device.
func mapping(maps []DeviceMapping, device string) (DeviceMapping, bool) {
	i := slices.IndexFunc(maps, func(m DeviceMapping) bool { return m.Device == device })
	if i < 0 {
		return DeviceMapping{}, false
	}
	return maps[i], true
}

// snapshotsOf lists the snapshots that mappings name.
func snapshotsOf(maps []DeviceMapping) []string {
	var out []string
	for _, m := range maps {
		if m.Volume != nil && m.Volume.SnapshotID != "" && !slices.Contains(out, m.Volume.SnapshotID) {
			out = append(out, m.Volume.SnapshotID)
		}
	}
	return out
}

// validAccount reports whether s is an account id.
func validAccount(s string) bool { return len(s) == 12 && strings.Trim(s, "0123456789") == "" }

// validARN reports whether s names something of AWS Organizations.
func validARN(s, prefix string) bool {
	p := strings.SplitN(s, ":", 6)
	return len(p) == 6 && p[0] == "arn" && p[2] == "organizations" && strings.HasPrefix(p[5], prefix)
}
