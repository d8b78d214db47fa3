package amazon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/communicator/ssh"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
)

const (
	stoppedTime = 30 * time.Minute // Windows installs its updates first
	// selfStoppedTime is for a guest that the template has shut down: sysprep,
	// with updates before it.
	selfStoppedTime = 2 * time.Hour
)

// stop has the instance shut down, which gives its disks the content that an
// image can rely on. A spot instance cannot be stopped: CreateImage reboots
// it.
func (m *machine) stop(ctx context.Context, r *builder.Run, s *state) error {
	if s.Stopped {
		return nil
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	if m.conn != nil {
		// One that shut itself down is not waited for to answer.
		i, there, err := c.instance(ctx, s.Instance.ID)
		if err != nil {
			return err
		}
		if there && i.State.Name == types.InstanceStateNameRunning {
			err = m.leaveGuest(ctx, r, s)
		} else if there {
			err = m.ended(i)
		}
		if err != nil {
			return err
		}
	}
	if s.Instance.Spot {
		return nil
	}
	if m.run.DisableStop {
		r.Say("Waiting for instance %s to be stopped by its last provisioner (disable_stop_instance)", s.Instance.ID)
		err := m.awaitStopped(ctx, c, s, selfStoppedTime)
		var late *awsaccess.TimeoutError
		if errors.As(err, &late) {
			err = diag.WithHint(err, "with disable_stop_instance = true the last provisioner must shut the guest down, or aws_polling give it longer")
		}
		return err
	}
	r.Say("Stopping instance %s", s.Instance.ID)
	err = c.s.Wait(ctx, settleTime, func(ctx context.Context) (bool, error) {
		_, err := c.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{s.Instance.ID}})
		if awsaccess.Code(err) == "IncorrectInstanceState" {
			// Stopped already by the guest, or just not ready for it.
			i, there, ierr := c.instance(ctx, s.Instance.ID)
			return there && i.State.Name == types.InstanceStateNameStopped, ierr
		}
		return err == nil, err
	})
	if err != nil {
		return err
	}
	return m.awaitStopped(ctx, c, s, stoppedTime)
}

func (m *machine) awaitStopped(ctx context.Context, c cloud, s *state, limit time.Duration) error {
	err := c.s.Wait(ctx, limit, func(ctx context.Context) (bool, error) {
		i, there, err := c.instance(ctx, s.Instance.ID)
		if err != nil || !there {
			return false, err
		}
		return i.State.Name == types.InstanceStateNameStopped, m.ended(i)
	})
	var late *awsaccess.TimeoutError
	if errors.As(err, &late) {
		return fmt.Errorf("instance %s does not stop: %w", s.Instance.ID, err)
	}
	s.Stopped = err == nil
	return err
}

// ended says that an instance is gone for good, with its disks; nil when it is
// not.
func (m *machine) ended(i types.Instance) error {
	switch i.State.Name {
	case types.InstanceStateNameTerminated, types.InstanceStateNameShuttingDown:
		err := fmt.Errorf("instance %s is %s%s: there is nothing to make an image of", aws.ToString(i.InstanceId), i.State.Name, reason(i.StateReason))
		if m.run.DeadMan > 0 {
			err = diag.WithHint(err, "dead_man = %q may be less than the build takes", m.run.DeadMan)
		}
		return err
	}
	return nil
}

// leaveGuest takes away what this build put into the guest.
func (m *machine) leaveGuest(ctx context.Context, r *builder.Run, s *state) error {
	if m.conn == nil || m.comm.Communicator == "winrm" || m.run.DisableStop { // the guest is shutting down
		return nil
	}
	if err := m.disarm(ctx, r); err != nil {
		return err
	}
	// The comment of the key in the guest is the key pair's name.
	if m.keyLine == "" || s.Key.Name == "" {
		return nil
	}
	if err := ssh.ClearAuthorizedKeys(ctx, m.conn, s.Key.Name); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if m.comm.SSHClearAuthorizedKeys {
			r.Events.Emit(event.Warn{Text: fmt.Sprintf("The temporary key may be left in the image: %v", err)})
		} else {
			r.Events.Emit(event.Detail{Text: fmt.Sprintf("the temporary key may be left in the image: %v", err)})
		}
	}
	return nil
}

// setInstanceAttributes marks the instance as having the drivers that its
// image is to be marked with.
func (m *machine) setInstanceAttributes(ctx context.Context, r *builder.Run, s *state) error {
	ena, sriov := m.drivers()
	if m.sur != nil && !m.sur.UseCreateImage {
		return nil // RegisterImage is told
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	if sriov && s.Source.SRIOV != "simple" {
		r.Say("Marking the instance for enhanced networking (SR-IOV)")
		_, err := c.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{
			InstanceId: &s.Instance.ID, SriovNetSupport: &types.AttributeValue{Value: aws.String("simple")},
		})
		if err != nil {
			return err
		}
	}
	if ena != nil && *ena != s.Source.ENA {
		r.Say("Marking the instance for enhanced networking (ENA): %t", *ena)
		_, err := c.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{
			InstanceId: &s.Instance.ID, EnaSupport: &types.AttributeBooleanValue{Value: ena},
		})
		return err
	}
	return nil
}

// drivers are what the options say of the image's network drivers.
func (m *machine) drivers() (ena *bool, sriov bool) {
	if m.vol != nil {
		return m.vol.ENASupport, m.vol.SRIOVSupport
	}
	return m.img.ENASupport, m.img.SRIOVSupport
}
