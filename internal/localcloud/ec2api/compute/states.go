package compute

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) states() awswire.Operations {
	return awswire.Operations{
		"StartInstances":     awswire.Op(a.start),
		"StopInstances":      awswire.Op(a.stop),
		"RebootInstances":    awswire.Op(a.reboot),
		"TerminateInstances": awswire.Op(a.terminate),
		"MonitorInstances":   awswire.Op(a.monitor),
		"UnmonitorInstances": awswire.Op(a.unmonitor),
	}
}

type stateChange struct {
	ID       string `xml:"instanceId"`
	Current  state  `xml:"currentState"`
	Previous state  `xml:"previousState"`
}

type statesOutput struct {
	Changes []stateChange `xml:"instancesSet>item"`
}

func changes(in []localcloud.StateChange, err error) (*statesOutput, error) {
	if err != nil {
		return nil, err
	}
	return &statesOutput{ec2wire.Mapped(in, func(c localcloud.StateChange) stateChange {
		return stateChange{c.ID, stateOf(c.Current), stateOf(c.Previous)}
	})}, nil
}

type startInput struct {
	instanceIDs
	AdditionalInfo string `q:"AdditionalInfo"` // reserved
}

func (a *api) start(ctx context.Context, call *awswire.Call, in *startInput) (*statesOutput, error) {
	return changes(a.cloud.StartInstances(dry(ctx, in.DryRun), call.Region, in.IDs))
}

type stopInput struct {
	instanceIDs
	Force          bool `q:"Force"`
	Hibernate      bool `q:"Hibernate"`
	SkipOSShutdown bool `q:"SkipOsShutdown"`
}

func (a *api) stop(ctx context.Context, call *awswire.Call, in *stopInput) (*statesOutput, error) {
	return changes(a.cloud.StopInstances(dry(ctx, in.DryRun), call.Region, localcloud.StopParams{
		IDs: in.IDs, Force: in.Force || in.SkipOSShutdown, Hibernate: in.Hibernate,
	}))
}

func (a *api) reboot(ctx context.Context, call *awswire.Call, in *instanceIDs) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.RebootInstances(dry(ctx, in.DryRun), call.Region, in.IDs)
}

type terminateInput struct {
	instanceIDs
	Force          bool `q:"Force"`          // a machine is switched off at once anyway
	SkipOSShutdown bool `q:"SkipOsShutdown"` // likewise
}

func (a *api) terminate(ctx context.Context, call *awswire.Call, in *terminateInput) (*statesOutput, error) {
	return changes(a.cloud.TerminateInstances(dry(ctx, in.DryRun), call.Region, in.IDs))
}

type monitored struct {
	ID         string     `xml:"instanceId"`
	Monitoring monitoring `xml:"monitoring"`
}

type monitorOutput struct {
	Instances []monitored `xml:"instancesSet>item"`
}

func (a *api) monitor(ctx context.Context, call *awswire.Call, in *instanceIDs) (*monitorOutput, error) {
	return a.setMonitoring(dry(ctx, in.DryRun), call.Region, in.IDs, true)
}

func (a *api) unmonitor(ctx context.Context, call *awswire.Call, in *instanceIDs) (*monitorOutput, error) {
	return a.setMonitoring(dry(ctx, in.DryRun), call.Region, in.IDs, false)
}

func (a *api) setMonitoring(ctx context.Context, region string, ids []string, on bool) (*monitorOutput, error) {
	all, err := a.cloud.MonitorInstances(ctx, region, ids, on)
	if err != nil {
		return nil, err
	}
	return &monitorOutput{ec2wire.Mapped(all, func(i localcloud.Instance) monitored {
		return monitored{i.ID, monitoringOf(i.Monitoring)}
	})}, nil
}
