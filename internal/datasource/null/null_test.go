package null

import (
	"errors"
	"testing"

	"github.com/ingot-build/ingot/internal/diag"
)

func TestNull(t *testing.T) {
	d := Driver()
	cfg := d.Config().(*Config)
	cfg.Input = "x"
	s, err := d.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Read(t.Context()); err != nil || got != (Output{Output: "x"}) {
		t.Errorf("%+v %v", got, err)
	}
	var f *diag.FieldError
	if _, err := d.Open(new(Config)); !errors.As(err, &f) || f.Paths[0] != "input" {
		t.Errorf("%v", err)
	}
}
