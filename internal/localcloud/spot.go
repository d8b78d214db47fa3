package localcloud

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"
)

// A SpotRequest asks for one spot instance.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_SpotInstanceRequest.html
type SpotRequest struct {
	ID            string
	State         string // open active closed cancelled failed disabled
	Code, Message string // status
	Type          string // one-time persistent
	MaxPrice      string
	Interruption  string // terminate stop hibernate
	LaunchGroup   string
	Instance      string
	Zone          string
	Spec          LaunchSpec
	ValidFrom     time.Time
	ValidUntil    time.Time
	Created       time.Time
	Updated       time.Time
	Tags          Tags
}

// RecordKind implements [Record].
func (SpotRequest) RecordKind() string { return "spot-request" }

// RecordID implements [Record].
func (r SpotRequest) RecordID() string { return r.ID }

func (r *SpotRequest) move(t *Tx, state, code, message string) {
	r.State, r.Code, r.Message, r.Updated = state, code, message, t.Now
}

// persistent reports whether a spot instance is launched again after its end.
func (i *Instance) persistent() bool { return i.SpotType == "persistent" }

// check refuses market options that EC2 refuses.
func (m *LaunchMarket) check(s *LaunchSpec) error {
	kinds, ends := []string{"one-time", "persistent"}, []string{"terminate", "stop", "hibernate"}
	switch {
	case m.Type == "" || m.Type == "capacity-block":
		if m.Type != "" {
			return Errorf("InvalidParameterCombination", "A capacity block needs a capacity reservation; the local cloud has none")
		}
		return Errorf("MissingParameter", "The request must contain the parameter MarketType")
	case m.Type != "spot":
		return badValue(m.Type, "marketType", "spot", "capacity-block")
	case m.SpotType != "" && !slices.Contains(kinds, m.SpotType):
		return badValue(m.SpotType, "spotInstanceType", kinds...)
	case m.Interruption != "" && !slices.Contains(ends, m.Interruption):
		return badValue(m.Interruption, "instanceInterruptionBehavior", ends...)
	case m.Interruption != "" && m.Interruption != "terminate" && m.SpotType != "persistent":
		return Errorf("InvalidParameterCombination", "The interruption behavior '%s' needs a persistent spot request", m.Interruption)
	case m.BlockDuration != 0 && (m.BlockDuration%60 != 0 || m.BlockDuration < 60 || m.BlockDuration > 360):
		return Errorf("InvalidParameterValue", "Value (%d) for parameter blockDurationMinutes is invalid. It is a multiple of 60, up to 360", m.BlockDuration)
	case !m.ValidUntil.IsZero() && m.SpotType != "persistent":
		return Errorf("InvalidParameterCombination", "ValidUntil needs a persistent spot request")
	case deref(s.Hibernation):
		return Errorf("UnsupportedHibernationConfiguration", "The local cloud does not hibernate instances")
	}
	return checkPrice(m.MaxPrice)
}

func checkPrice(price string) error {
	if price == "" {
		return nil
	}
	if v, err := strconv.ParseFloat(price, 64); err != nil || v <= 0 || v > 1e6 {
		return Errorf("InvalidParameterValue", "Value (%s) for parameter price is invalid. \"%s\" is an invalid spot instance price", price, price)
	}
	return nil
}

// priceAllows refuses a price that is lower than that of the type.
func (p *launchPlan) priceAllows(price string) error {
	if price == "" {
		return nil
	}
	now := p.kind.SpotUSD()
	if v, err := strconv.ParseFloat(price, 64); err != nil || v < now {
		return Errorf("SpotMaxPriceTooLow", "Your Spot request price of %s is lower than the minimum required Spot request fulfillment price of %.4f.", price, now)
	}
	return nil
}

// hourly is what an instance of a plan costs.
func (p *launchPlan) hourly(spot bool) float64 {
	if spot {
		return p.kind.SpotUSD()
	}
	return p.kind.SpotUSD() * onDemandTimes
}

// fulfil makes an instance the answer to a spot request: to the one of the
// launch, or to a new one.
func (t *Tx) fulfil(i *Instance, p *launchPlan, l launching) error {
	r := l.request
	if r == nil {
		m := l.market
		if err := p.priceAllows(m.MaxPrice); err != nil {
			return err
		}
		r = &SpotRequest{
			ID: NewID("sir"), Type: or(m.SpotType, "one-time"), MaxPrice: m.MaxPrice, Interruption: or(m.Interruption, "terminate"),
			ValidUntil: m.ValidUntil, Spec: p.spec, Created: t.Now, Tags: p.spec.Tags["spot-instances-request"].Clone(),
		}
	}
	r.Instance, r.Zone = i.ID, i.Zone
	if r.MaxPrice == "" {
		r.MaxPrice = strconv.FormatFloat(p.hourly(false), 'f', 6, 64)
	}
	r.move(t, "active", "fulfilled", "Your spot request is fulfilled.")
	i.Lifecycle, i.SpotRequest, i.SpotType = "spot", r.ID, r.Type
	return Put(t, *r)
}

// onDemandTimes is how much an instance costs on demand compared with the
// spot price: the price that counts when a request says none.
const onDemandTimes = 3

// spotEnded closes the request of an instance that is terminated; a persistent
// one asks for another instance.
func (t *Tx) spotEnded(i *Instance) error {
	if i.SpotRequest == "" {
		return nil
	}
	r, ok, err := Get[SpotRequest](t, i.SpotRequest)
	if err != nil || !ok || r.Instance != i.ID {
		return err
	}
	r.Instance = ""
	switch {
	case r.State == "cancelled":
		r.move(t, "cancelled", "request-canceled-and-instance-terminated", "Your spot request was canceled and your instance was terminated.")
	case r.Type == "persistent":
		r.move(t, "open", "pending-evaluation", "Your Spot request has been submitted for review, and is pending evaluation.")
		if err := t.Later("spot-fulfil", r.ID, time.Time{}, nil); err != nil {
			return err
		}
	case i.StateCode == reasonUser || i.StateCode == reasonGuest:
		r.move(t, "closed", "instance-terminated-by-user", "Spot Instance terminated due to user-initiated termination.")
	default:
		r.move(t, "closed", "instance-terminated-launch-failure", i.StateReason)
	}
	r.Instance = i.ID // as EC2 still shows it
	return Put(t, r)
}

// spotStopped marks the request of an instance that its user stopped.
func (t *Tx) spotStopped(i *Instance) error {
	if i.SpotRequest == "" {
		return nil
	}
	r, ok, err := Get[SpotRequest](t, i.SpotRequest)
	if err != nil || !ok || r.State != "active" {
		return err
	}
	r.move(t, "disabled", "instance-stopped-by-user", "Spot Instance stopped by the user.")
	return Put(t, r)
}

// SpotParams are those of RequestSpotInstances.
type SpotParams struct {
	Launch       LaunchSpec
	Count        int
	Price        string
	Type         string
	Interruption string
	LaunchGroup  string
	Duration     int // BlockDurationMinutes
	ValidFrom    time.Time
	ValidUntil   time.Time
	ClientToken  string
	Tags         Tags
}

// RequestSpotInstances asks for spot instances, each by a request of its own.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RequestSpotInstances.html
func (c *Cloud) RequestSpotInstances(ctx context.Context, region string, p SpotParams) (out []SpotRequest, err error) {
	if p.Count < 1 || p.Count > maxLaunch {
		return nil, Errorf("InvalidParameterValue", "Value (%d) for parameter instanceCount is invalid. It is from 1 to %d", p.Count, maxLaunch)
	}
	m := LaunchMarket{Type: "spot", MaxPrice: p.Price, SpotType: p.Type, Interruption: p.Interruption, BlockDuration: p.Duration}
	if err := m.check(&p.Launch); err != nil {
		return nil, err
	}
	err = c.Update(ctx, region, func(t *Tx) error {
		out = nil
		ids, used, err := t.Token("RequestSpotInstances", p.ClientToken, p)
		if err != nil {
			return err
		}
		if used {
			out, err = t.spotRequests(ids)
			return err
		}
		if !p.ValidUntil.IsZero() && !p.ValidUntil.After(t.Now) {
			return Errorf("InvalidTime", "The time %s of validUntil is in the past", p.ValidUntil.Format(time.RFC3339))
		}
		if _, err := t.planLaunch(p.Launch, p.Count); err != nil {
			return err
		}
		ids = nil
		for range p.Count {
			r := SpotRequest{
				ID: NewID("sir"), Type: or(p.Type, "one-time"), MaxPrice: p.Price, Interruption: or(p.Interruption, "terminate"),
				LaunchGroup: p.LaunchGroup, ValidFrom: p.ValidFrom, ValidUntil: p.ValidUntil, Spec: p.Launch, Created: t.Now, Tags: p.Tags.Clone(),
			}
			r.move(t, "open", "pending-evaluation", "Your Spot request has been submitted for review, and is pending evaluation.")
			if err := errors.Join(Put(t, r), t.Later("spot-fulfil", r.ID, p.ValidFrom, nil)); err != nil {
				return err
			}
			out, ids = append(out, r), append(ids, r.ID)
		}
		return t.SaveToken("RequestSpotInstances", p.ClientToken, p, ids...)
	})
	return out, err
}

// spotRetry is how soon a request that could not be fulfilled is looked at
// again.
const spotRetry = 5 * time.Second

// spotFulfil launches the instance of an open request.
func (c *Cloud) spotFulfil(ctx context.Context, j Job) error {
	return c.Update(ctx, j.Region, func(t *Tx) error {
		r, ok, err := Get[SpotRequest](t, j.Target)
		if err != nil || !ok || r.State != "open" {
			return errors.Join(err, t.Done(j))
		}
		if !r.ValidUntil.IsZero() && t.Now.After(r.ValidUntil) {
			r.move(t, "cancelled", "schedule-expired", "Your Spot request expired before it was fulfilled.")
			return errors.Join(Put(t, r), t.Done(j))
		}
		err = t.tryFulfil(&r)
		var e *Error
		switch {
		case err == nil:
			return t.Done(j)
		case !errors.As(err, &e):
			return err
		case e.Code == "InsufficientInstanceCapacity":
			r.move(t, "open", "capacity-not-available", "There is no Spot capacity available that matches your request.")
		case e.Code == "SpotMaxPriceTooLow":
			r.move(t, "open", "price-too-low", e.Message)
		default:
			r.move(t, "failed", "bad-parameters", e.Message)
			return errors.Join(Put(t, r), t.Done(j))
		}
		return errors.Join(Put(t, r), t.Done(j), t.Later("spot-fulfil", r.ID, t.Now.Add(spotRetry), nil))
	})
}

func (t *Tx) tryFulfil(r *SpotRequest) error {
	p, err := t.planLaunch(r.Spec, 1)
	if err != nil {
		return err
	}
	if err := p.priceAllows(r.MaxPrice); err != nil {
		return err
	}
	if _, err := t.capacity(&p, 1, 1, true); err != nil {
		return err
	}
	_, err = t.launch(&p, 1, launching{request: r})
	return err
}

func (t *Tx) findSpotRequest(id string) (SpotRequest, error) {
	if !ValidID("sir", id) {
		return SpotRequest{}, Errorf("InvalidSpotInstanceRequestID.Malformed", "Invalid id: \"%s\" (expecting \"sir-...\")", id)
	}
	r, ok, err := Get[SpotRequest](t, id)
	if err == nil && !ok {
		err = Errorf("InvalidSpotInstanceRequestID.NotFound", "The spot instance request ID '%s' does not exist", id)
	}
	return r, err
}

func (t *Tx) spotRequests(ids []string) (out []SpotRequest, err error) {
	if len(ids) == 0 {
		out, err = All[SpotRequest](t)
	}
	for _, id := range ids {
		r, err := t.findSpotRequest(id)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	slices.SortStableFunc(out, func(a, b SpotRequest) int { return a.Created.Compare(b.Created) })
	return out, err
}

// SpotRequests returns those of a region; those with the ids when any are
// given.
func (c *Cloud) SpotRequests(ctx context.Context, region string, ids []string) (out []SpotRequest, err error) {
	err = c.View(ctx, region, func(t *Tx) (err error) {
		out, err = t.spotRequests(ids)
		return err
	})
	return out, err
}

// CancelSpotRequests cancels requests; their instances stay.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CancelSpotInstanceRequests.html
func (c *Cloud) CancelSpotRequests(ctx context.Context, region string, ids []string) (out []SpotRequest, err error) {
	if len(ids) == 0 {
		return nil, Errorf("MissingParameter", "The request must contain the parameter SpotInstanceRequestId")
	}
	err = c.Update(ctx, region, func(t *Tx) error {
		if out, err = t.spotRequests(ids); err != nil {
			return err
		}
		for n := range out {
			r := &out[n]
			switch r.State {
			case "active", "disabled":
				r.move(t, "cancelled", "request-canceled-and-instance-running", "Your spot request was canceled. Your instance is still running.")
			case "open":
				r.move(t, "cancelled", "canceled-before-fulfillment", "Your Spot request was canceled before it was fulfilled.")
			}
			if err := Put(t, *r); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}
