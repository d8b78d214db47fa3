package compute

import (
	"context"
	"encoding/base64"

	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

func (a *api) consoles() awswire.Operations {
	return awswire.Operations{
		"GetConsoleOutput":     awswire.Op(a.consoleOutput),
		"GetConsoleScreenshot": awswire.Op(a.screenshot),
		"GetPasswordData":      awswire.Op(a.passwordData),
	}
}

type consoleInput struct {
	instanceID
	Latest bool `q:"Latest"`
}

type consoleOutput struct {
	ID     string `xml:"instanceId"`
	At     string `xml:"timestamp,omitempty"`
	Output string `xml:"output,omitempty"`
}

func (a *api) consoleOutput(ctx context.Context, call *awswire.Call, in *consoleInput) (*consoleOutput, error) {
	text, at, err := a.cloud.ConsoleOutput(ctx, call.Region, in.ID, in.Latest)
	if err != nil {
		return nil, err
	}
	return &consoleOutput{in.ID, awswire.Time(at), base64.StdEncoding.EncodeToString(text)}, in.Check()
}

type screenshotInput struct {
	instanceID
	WakeUp bool `q:"WakeUp"` // no screen sleeps here
}

type screenshotOutput struct {
	ID   string `xml:"instanceId"`
	Data string `xml:"imageData"`
}

func (a *api) screenshot(ctx context.Context, call *awswire.Call, in *screenshotInput) (*screenshotOutput, error) {
	img, err := a.cloud.ConsoleScreenshot(ctx, call.Region, in.ID)
	if err != nil {
		return nil, err
	}
	return &screenshotOutput{in.ID, base64.StdEncoding.EncodeToString(img)}, in.Check()
}

type passwordOutput struct {
	ID   string `xml:"instanceId"`
	At   string `xml:"timestamp"`
	Data string `xml:"passwordData"`
}

func (a *api) passwordData(ctx context.Context, call *awswire.Call, in *instanceID) (*passwordOutput, error) {
	data, at, err := a.cloud.PasswordData(ctx, call.Region, in.ID)
	if err != nil {
		return nil, err
	}
	return &passwordOutput{in.ID, awswire.Time(at), base64.StdEncoding.EncodeToString(data)}, in.Check()
}
