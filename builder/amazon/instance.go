package amazon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
)

const (
	runningTime = 15 * time.Minute
	goneTime    = 15 * time.Minute
)

// noCapacity are the answers after which another type or zone may do.
var noCapacity = []string{
	"InsufficientInstanceCapacity", "InsufficientCapacity", "InsufficientHostCapacity", "InsufficientReservedInstanceCapacity",
	"UnfulfillableCapacity", "Unsupported", "UnsupportedOperation", "InstanceLimitExceeded", "VcpuLimitExceeded", "MaxSpotInstanceCountExceeded",
	"SpotMaxPriceTooLow", "InvalidFleetConfiguration", "InsufficientFreeAddressesInSubnet",
}

// A capacityError says that AWS has no room for this instance in this place.
type capacityError struct {
	What string
	Err  error
}

func (e *capacityError) Error() string { return fmt.Sprintf("no capacity for %s: %v", e.What, e.Err) }
func (e *capacityError) Unwrap() error { return e.Err }

func isCapacity(err error) bool { return slices.Contains(noCapacity, awsaccess.Code(err)) }

// A ladderRetryer does not send a request again that there is no room for,
// which AWS calls a fault of its own (500): another type or zone is asked for
// instead.
type ladderRetryer struct{ aws.RetryerV2 }

// IsErrorRetryable implements [aws.Retryer].
func (r ladderRetryer) IsErrorRetryable(err error) bool {
	return !isCapacity(err) && r.RetryerV2.IsErrorRetryable(err)
}

func onLadder(o *ec2.Options) {
	if r, ok := o.Retryer.(aws.RetryerV2); ok {
		o.Retryer = ladderRetryer{r}
	}
}

// startInstance starts the instance and waits until it runs. One of an earlier
// process is found again; it is replaced when nobody has its key any more.
func (m *machine) startInstance(ctx context.Context, r *builder.Run, s *state) error {
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	if s.Instance.Begun && s.Instance.Key != m.keyName(s) {
		r.Say("An instance was started with a key that is gone; starting another one")
		if err := m.removeInstance(ctx, r, s); err != nil {
			return err
		}
	}
	if s.Instance.ID != "" {
		i, there, err := c.instance(ctx, s.Instance.ID)
		if err != nil {
			return err
		}
		if there && !s.Instance.Gone && (i.State.Name == types.InstanceStateNameRunning || i.State.Name == types.InstanceStateNamePending) {
			return m.awaitRunning(ctx, c, r, s)
		}
		if err := m.removeInstance(ctx, r, s); err != nil {
			return err
		}
		s.Attempt = randomHex(4)
	}
	err = m.startAnywhere(ctx, c, r, s, m.run.SpotPrice != "")
	var full *capacityError
	if m.run.SpotPrice != "" && m.run.SpotFallback && errors.As(err, &full) {
		r.Events.Emit(event.Warn{Text: fmt.Sprintf("%v; starting an on-demand instance (spot_fallback)", err)})
		err = m.startAnywhere(ctx, c, r, s, false)
	}
	if errors.As(err, &full) {
		return diag.WithHint(err, "give more instance_types, or another region; the list is tried in order, in every zone")
	}
	return err
}

// keyName is the key pair that the instance is started with, "" for none.
func (m *machine) keyName(s *state) string {
	if m.comm.SSHKeyPairName != "" {
		return m.comm.SSHKeyPairName
	}
	return s.Key.Name
}

// startAnywhere tries the instance types in order, each in every place, until
// AWS has room for one.
func (m *machine) startAnywhere(ctx context.Context, c cloud, r *builder.Run, s *state, spot bool) error {
	var full []error
	if spot {
		// A fleet tries all types itself.
		err := m.tryPlaces(ctx, c, r, s, "", true)
		return err
	}
	for _, typ := range m.run.types() {
		if !m.fits(s.Source, typ) {
			full = append(full, &capacityError{typ, fmt.Errorf("it does not start image %s", s.Source.ID)})
			continue
		}
		err := m.tryPlaces(ctx, c, r, s, typ, false)
		var ce *capacityError
		if !errors.As(err, &ce) {
			return err
		}
		full = append(full, m.explain(ctx, err)) // each by itself: the list is one error
	}
	return errors.Join(full...)
}

// tryPlaces starts an instance in one of the places where it may run.
func (m *machine) tryPlaces(ctx context.Context, c cloud, r *builder.Run, s *state, typ string, spot bool) error {
	places := append([]place{{s.Network.Subnet, s.Network.Zone}}, s.Network.Others...)
	var last error
	for n := 0; n < len(places); n++ {
		err := m.tryPlace(ctx, c, r, s, typ, places[n], spot)
		var ce *capacityError
		if !errors.As(err, &ce) {
			return err
		}
		r.Events.Emit(event.Detail{Text: err.Error()})
		last = err
		if n == 0 && places[0] == (place{}) && !spot {
			// AWS chose the zone and had no room in it: try them one by one.
			zones, zerr := m.zones(ctx, c, typ)
			if zerr != nil {
				return errors.Join(err, zerr)
			}
			for _, z := range zones {
				places = append(places, place{Zone: z})
			}
		}
	}
	return last
}

func (m *machine) tryPlace(ctx context.Context, c cloud, r *builder.Run, s *state, typ string, at place, spot bool) error {
	s.Instance = instanceState{Begun: true, Type: typ, Zone: at.Zone, Spot: spot, Key: m.keyName(s)}
	var err error
	if spot {
		err = m.runFleet(ctx, c, r, s, at)
	} else {
		err = m.runOnDemand(ctx, c, r, s, typ, at)
	}
	if err != nil {
		if refused(ctx, err) {
			s.Instance.Begun = false
		}
		return err
	}
	if err := r.Save(); err != nil {
		return err
	}
	err = m.awaitRunning(ctx, c, r, s)
	var ce *capacityError
	if errors.As(err, &ce) {
		// It was accepted and ended again for lack of room.
		if rerr := m.removeInstance(ctx, r, s); rerr != nil {
			return errors.Join(errors.Unwrap(ce), rerr)
		}
	}
	return err
}

// refused reports whether AWS said no, so that nothing was made.
func refused(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (isCapacity(err) || awsaccess.Code(err) != "" && !awsaccess.IsTemporary(err))
}

func (m *machine) runOnDemand(ctx context.Context, c cloud, r *builder.Run, s *state, typ string, at place) error {
	in, err := m.runInput(r, s, typ, at)
	if err != nil {
		return err
	}
	if err := r.Save(); err != nil { // the token's parts are known to whoever looks for the instance
		return err
	}
	var out *ec2.RunInstancesOutput
	var full error
	err = c.s.Wait(ctx, profileTime, func(ctx context.Context) (bool, error) {
		out, err = c.RunInstances(ctx, in, onLadder)
		if isCapacity(err) {
			full = err
			return true, nil
		}
		// A new profile or group may not be seen by EC2 yet.
		if err != nil && (s.Profile.ID != "" && strings.Contains(err.Error(), "iamInstanceProfile") || awsaccess.Code(err) == "InvalidGroup.NotFound" && s.Group.ID != "") {
			return false, nil
		}
		return err == nil, err
	})
	switch {
	case full != nil:
		where := typ
		if at.Zone != "" {
			where += " in " + at.Zone
		}
		return &capacityError{where, full}
	case err != nil:
		return err
	case len(out.Instances) == 0:
		return errors.New("RunInstances started no instance and gave no reason")
	}
	s.Instance.ID = aws.ToString(out.Instances[0].InstanceId)
	r.Say("Started instance %s (%s)", s.Instance.ID, typ)
	if resent(out.ResultMetadata) {
		return m.endStrays(ctx, c, r, s)
	}
	return nil
}

// resent reports whether the request was sent more than once.
func resent(meta middleware.Metadata) bool {
	results, ok := retry.GetAttemptResults(meta)
	return ok && len(results.Results) > 1
}

// endStrays ends the instances of this build other than the one in use: those
// of requests whose answers were lost, where the client token is not heeded.
func (m *machine) endStrays(ctx context.Context, c cloud, r *builder.Run, s *state) error {
	if err := r.Save(); err != nil {
		return err
	}
	all, err := m.ourInstances(ctx, c, r)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(id string) bool { return id == s.Instance.ID })
	if len(all) == 0 {
		return nil
	}
	_, err = c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: all})
	return gone(err, "InvalidInstanceID.NotFound")
}

// awaitRunning waits until the instance runs, and takes its disks into the
// state.
func (m *machine) awaitRunning(ctx context.Context, c cloud, r *builder.Run, s *state) error {
	var i types.Instance
	err := c.s.Wait(ctx, runningTime, func(ctx context.Context) (done bool, err error) {
		var there bool
		if i, there, err = c.instance(ctx, s.Instance.ID); err != nil || !there {
			return false, err
		}
		switch i.State.Name {
		case types.InstanceStateNameRunning:
			return true, nil
		case types.InstanceStateNamePending:
			return false, nil
		}
		err = fmt.Errorf("instance %s is %s%s", s.Instance.ID, i.State.Name, reason(i.StateReason))
		if sr := i.StateReason; sr != nil && strings.HasPrefix(aws.ToString(sr.Code), "Server.Insufficient") {
			return false, &capacityError{string(i.InstanceType), err}
		}
		return false, err
	})
	var late *awsaccess.TimeoutError
	if errors.As(err, &late) {
		err = fmt.Errorf("instance %s does not run: %w", s.Instance.ID, err)
	}
	if err != nil {
		return err
	}
	st := &s.Instance
	st.Type, st.Nitro, st.Volumes = string(i.InstanceType), m.nitro(string(i.InstanceType)), volumesOf(i)
	if i.Placement != nil {
		st.Zone = aws.ToString(i.Placement.AvailabilityZone)
	}
	st.Spot = st.Spot || i.InstanceLifecycle == types.InstanceLifecycleTypeSpot
	m.mu.Lock()
	m.running = &i
	m.mu.Unlock()
	return r.Save()
}

func reason(sr *types.StateReason) string {
	if sr == nil || aws.ToString(sr.Message) == "" {
		return ""
	}
	return ": " + aws.ToString(sr.Message)
}

// instance describes one instance; there is false while it does not show.
func (c cloud) instance(ctx context.Context, id string) (i types.Instance, there bool, err error) {
	out, err := c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
	if err != nil {
		return i, false, gone(err, "InvalidInstanceID.NotFound")
	}
	for _, res := range out.Reservations {
		for _, i := range res.Instances {
			if aws.ToString(i.InstanceId) == id && i.State != nil {
				return i, true, nil
			}
		}
	}
	return i, false, nil
}

// ourInstances are those of this run and build that have not ended.
func (m *machine) ourInstances(ctx context.Context, c cloud, r *builder.Run) ([]string, error) {
	var ids []string
	in := &ec2.DescribeInstancesInput{Filters: []types.Filter{
		{Name: aws.String("tag:" + tagRun), Values: []string{r.RunID}},
		{Name: aws.String("tag:" + tagBuild), Values: []string{r.Build}},
		{Name: aws.String("instance-state-name"), Values: []string{"pending", "running", "stopping", "stopped"}},
	}}
	for {
		out, err := c.DescribeInstances(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, res := range out.Reservations {
			for _, i := range res.Instances {
				ids = append(ids, aws.ToString(i.InstanceId))
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return ids, nil
		}
		in.NextToken = out.NextToken
	}
}

// release ends the instance as soon as it is no longer needed: the copies of
// the image may take an hour. What fails here is done by removeInstance.
func (m *machine) release(ctx context.Context, r *builder.Run, s *state) error {
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	if err := m.terminate(ctx, c, s); err != nil {
		r.Events.Emit(event.Detail{Text: fmt.Sprintf("instance %s is ended later: %v", s.Instance.ID, err)})
	}
	return nil
}

func (m *machine) terminate(ctx context.Context, c cloud, s *state) error {
	if s.Instance.Gone || s.Instance.ID == "" {
		return nil
	}
	_, err := c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{s.Instance.ID}})
	if err = gone(err, "InvalidInstanceID.NotFound"); err == nil {
		s.Instance.Gone = true
	}
	return err
}

// removeInstance ends the instance, and removes the disks that would stay
// although nobody asked for them.
func (m *machine) removeInstance(ctx context.Context, r *builder.Run, s *state) error {
	if !s.Instance.Begun {
		return nil
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	ids := []string{s.Instance.ID}
	switch {
	case s.Instance.ID == "":
		// The call was made and its answer never seen.
		_, err := c.appears(ctx, true, func(ctx context.Context) (bool, error) {
			var err error
			ids, err = m.ourInstances(ctx, c, r)
			return len(ids) > 0, err
		})
		if err != nil {
			return err
		}
	case s.Instance.Gone:
		ids = nil
	}
	if err := m.learnVolumes(ctx, c, r, s); err != nil {
		return err
	}
	for _, id := range ids {
		r.Say("Terminating instance %s", id)
		_, err := c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
		if err := gone(err, "InvalidInstanceID.NotFound"); err != nil {
			return err
		}
	}
	s.Instance.Gone = true
	if err := m.removeDisks(ctx, c, r, s); err != nil {
		return err
	}
	s.Instance, s.Swap = instanceState{}, swapState{}
	m.mu.Lock()
	m.running = nil
	m.mu.Unlock()
	return nil
}
