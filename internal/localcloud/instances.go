package localcloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// terminatedLife is how long a terminated instance is still shown.
const terminatedLife = time.Hour

// Why instances change their state, as EC2 says it.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html
const (
	reasonUser     = "Client.UserInitiatedShutdown"
	reasonGuest    = "Client.InstanceInitiatedShutdown"
	reasonInternal = "Server.InternalError"

	loopbackFallback = "127.0.0.1" // of machines that forward no port
)

// StateCodes are the numbers of the states of instances.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceState.html
var StateCodes = map[string]int{
	"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80,
}

func errNoInstance(id string) error {
	return Errorf("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
}

// FindInstance returns an instance, or InvalidInstanceID.NotFound.
func (t *Tx) FindInstance(id string) (Instance, error) {
	if !ValidID("i", id) {
		return Instance{}, Errorf("InvalidInstanceID.Malformed", "Invalid id: \"%s\" (expecting \"i-...\")", id)
	}
	i, ok, err := Get[Instance](t, id)
	if err == nil && !ok {
		err = errNoInstance(id)
	}
	return i, err
}

// findInstances returns the instances with the ids, in their order; an id
// given twice counts once.
func (t *Tx) findInstances(ids []string) ([]Instance, error) {
	if len(ids) == 0 {
		return nil, Errorf("MissingParameter", "The request must contain the parameter InstanceId")
	}
	var out []Instance
	var missing []string
	for n, id := range ids {
		if slices.Contains(ids[:n], id) {
			continue
		}
		i, err := t.FindInstance(id)
		if CodeOf(err) == "InvalidInstanceID.NotFound" {
			missing = append(missing, id)
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	switch len(missing) {
	case 0:
		return out, nil
	case 1:
		return nil, errNoInstance(missing[0])
	}
	return nil, Errorf("InvalidInstanceID.NotFound", "The instance IDs '%s' do not exist", strings.Join(missing, ", "))
}

// Instances returns the instances of a region, those launched first at the
// front; those with the ids when any are given.
func (c *Cloud) Instances(ctx context.Context, region string, ids []string) (out []Instance, err error) {
	err = c.View(ctx, region, func(t *Tx) (err error) {
		out, err = t.Instances(ids)
		return err
	})
	return out, err
}

// Instances is [Cloud.Instances] within a transaction.
func (t *Tx) Instances(ids []string) (out []Instance, err error) {
	if len(ids) > 0 {
		out, err = t.findInstances(ids)
	} else {
		out, err = All[Instance](t)
	}
	slices.SortStableFunc(out, func(a, b Instance) int {
		if d := a.Launched.Compare(b.Launched); d != 0 {
			return d
		}
		if d := strings.Compare(a.Reservation, b.Reservation); d != 0 {
			return d
		}
		return a.Index - b.Index
	})
	return out, err
}

// move puts an instance into a state, now.
func (i *Instance) move(t *Tx, state, code, reason string) {
	i.State, i.StateCode, i.StateReason, i.Transitioned = state, code, reason, t.Now
}

// hostAddress is where its machine's ports are, or will be.
func (i *Instance) hostAddress() string {
	if i.Address != "" {
		return i.Address
	}
	return i.wantedAddress()
}

// wantedAddress is where its machine's ports should be.
func (i *Instance) wantedAddress() string { return or(i.PublicIP, loopbackFallback) }

// hostname is the name the guest is given.
func (i *Instance) hostname(region string) string {
	name := "ip-" + strings.ReplaceAll(i.PrivateIP, ".", "-")
	if i.HostnameType == "resource-name" {
		name = i.ID
	}
	return name + "." + privateDomain(region)
}

// privateDomain is the domain of private names in a region.
func privateDomain(region string) string {
	if region == "us-east-1" {
		return "ec2.internal"
	}
	return region + ".compute.internal"
}

// PrivateDNS is the private name of an instance, "" once it is terminated.
func (i *Instance) PrivateDNS(region string) string {
	if i.State == "terminated" {
		return ""
	}
	return i.hostname(region)
}

// PublicDNS is the name of its public address, "" without one. Nothing
// resolves it: the local cloud runs no name server.
func (i *Instance) PublicDNS(region string) string {
	if i.PublicIP == "" {
		return ""
	}
	name := "ec2-" + strings.ReplaceAll(i.PublicIP, ".", "-")
	if region == "us-east-1" {
		return name + ".compute-1.amazonaws.com"
	}
	return name + "." + region + ".compute.amazonaws.com"
}

// A StateChange is what an action did to an instance.
type StateChange struct {
	ID, Previous, Current string
}

// change runs fn on instances, in one transaction, and says how their states
// changed.
func (c *Cloud) change(ctx context.Context, region string, ids []string, fn func(*Tx, *Instance) error) (out []StateChange, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		out = nil
		all, err := t.findInstances(ids)
		if err != nil {
			return err
		}
		for _, i := range all {
			ch := StateChange{ID: i.ID, Previous: i.State}
			if err := fn(t, &i); err != nil {
				return err
			}
			if err := Put(t, i); err != nil {
				return err
			}
			ch.Current = i.State
			out = append(out, ch)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func badState(i *Instance, wants string) error {
	return Errorf("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be %s: it is %s.", i.ID, wants, i.State)
}

// StartInstances starts stopped instances.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StartInstances.html
func (c *Cloud) StartInstances(ctx context.Context, region string, ids []string) ([]StateChange, error) {
	return c.change(ctx, region, ids, func(t *Tx, i *Instance) error {
		switch i.State {
		case "pending", "running":
			return nil
		case "stopped":
		default:
			return badState(i, "started")
		}
		if i.RootVolume() == "" {
			return Errorf("IncorrectInstanceState", "Instance %s does not have a volume attached at root (%s)", i.ID, i.RootDevice)
		}
		return t.start(i)
	})
}

// start moves an instance to pending and asks for its machine.
func (t *Tx) start(i *Instance) error {
	set, err := t.Settings()
	if err != nil {
		return err
	}
	if i.Public && i.PublicIP == "" {
		if i.PublicIP, err = t.NextPublicIP(); err != nil {
			return err
		}
	}
	i.move(t, "pending", "", "")
	i.Launched, i.Address, i.Machine, i.Rebooting = t.Now, "", nil, false
	return t.Later("instance-start", i.ID, t.Now.Add(set.StartTime), nil)
}

// RootVolume is the id of the volume at the root device, "" when there is none.
func (i *Instance) RootVolume() string {
	for _, d := range i.Devices {
		if d.Device == i.RootDevice {
			return d.Volume
		}
	}
	return ""
}

// StopParams are those of StopInstances.
type StopParams struct {
	IDs       []string
	Force     bool // do not ask the guest
	Hibernate bool
}

// StopInstances shuts running instances down and keeps their disks.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StopInstances.html
func (c *Cloud) StopInstances(ctx context.Context, region string, p StopParams) ([]StateChange, error) {
	return c.change(ctx, region, p.IDs, func(t *Tx, i *Instance) error {
		if p.Hibernate {
			return Errorf("UnsupportedHibernationConfiguration", "The instance %s was not launched with hibernation", i.ID)
		}
		if i.APIStop {
			return Errorf("OperationNotPermitted", "The instance '%s' may not be stopped. Modify its 'disableApiStop' instance attribute and try again.", i.ID)
		}
		if i.Lifecycle == "spot" && !i.persistent() {
			return Errorf("UnsupportedOperation", "You can't stop the Spot Instance '%s' because it is associated with a one-time Spot Instance request. You can only stop Spot Instances associated with persistent Spot Instance requests.", i.ID)
		}
		switch i.State {
		case "stopped":
			return nil
		case "stopping":
			if !p.Force {
				return nil
			}
		case "running":
			i.move(t, "stopping", reasonUser, "User initiated shutdown")
		default:
			return badState(i, "stopped")
		}
		i.ForceStop = p.Force
		return t.Later("instance-stop", i.ID, time.Time{}, nil)
	})
}

// TerminateInstances ends instances for good.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_TerminateInstances.html
func (c *Cloud) TerminateInstances(ctx context.Context, region string, ids []string) ([]StateChange, error) {
	return c.change(ctx, region, ids, func(t *Tx, i *Instance) error {
		if i.State == "shutting-down" || i.State == "terminated" {
			return nil
		}
		if i.APITermination {
			return Errorf("OperationNotPermitted", "The instance '%s' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.", i.ID)
		}
		return t.terminate(i, reasonUser, "User initiated shutdown")
	})
}

func (t *Tx) terminate(i *Instance, code, reason string) error {
	i.move(t, "shutting-down", code, reason)
	return t.Later("instance-terminate", i.ID, time.Time{}, nil)
}

// RebootInstances boots running instances again.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RebootInstances.html
func (c *Cloud) RebootInstances(ctx context.Context, region string, ids []string) error {
	_, err := c.change(ctx, region, ids, func(t *Tx, i *Instance) error {
		switch i.State {
		case "running", "pending":
		default:
			return Errorf("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be rebooted: it is %s.", i.ID, i.State)
		}
		if i.Rebooting {
			return nil
		}
		i.Rebooting = i.State == "running"
		return t.Later("instance-reboot", i.ID, time.Time{}, nil)
	})
	return err
}

// MonitorInstances turns detailed monitoring on or off and returns the
// instances. Nothing is measured either way.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_MonitorInstances.html
func (c *Cloud) MonitorInstances(ctx context.Context, region string, ids []string, on bool) (out []Instance, err error) {
	_, err = c.change(ctx, region, ids, func(t *Tx, i *Instance) error {
		if i.State == "terminated" || i.State == "shutting-down" {
			return badState(i, "monitored")
		}
		i.Monitoring = on
		out = append(out, *i)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// instanceForget drops an instance that was terminated long enough ago, with
// all its files.
func (c *Cloud) instanceForget(ctx context.Context, j Job) error {
	i, ok, err := c.getInstance(ctx, j.Region, j.Target)
	if err != nil {
		return err
	}
	if ok && i.State != "terminated" {
		return nil
	}
	for _, path := range []string{c.instanceDir(j.Target), c.lockPath(j.Target), c.lockPath(j.Target + ".metadata")} {
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("forget %s: %w", j.Target, err)
		}
	}
	return c.Update(ctx, j.Region, func(t *Tx) error {
		return errors.Join(Delete[Instance](t, j.Target), t.Done(j))
	})
}

// clearInstance removes what the machine of a terminated instance left, its
// console excepted.
func (c *Cloud) clearInstance(id string) error {
	files, err := os.ReadDir(c.instanceDir(id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear %s: %w", id, err)
	}
	var errs []error
	for _, f := range files {
		if path := filepath.Join(c.instanceDir(id), f.Name()); path != c.consoleFile(id) {
			errs = append(errs, os.RemoveAll(path))
		}
	}
	return errors.Join(errs...)
}
