package pipeline

import (
	"encoding/json"
	"fmt"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/journal"
)

// A past is what the journal says of one build since it last began anew.
type past struct {
	begun     bool // something was done that may have left something
	steps     []string
	guest     communicator.Data // without secrets
	sealed    *artifact.Set     // what the builder made; the build never boots again
	regions   []string          // where copies are wanted
	states    map[string]json.RawMessage
	copied    map[string]artifact.SystemImage
	collected *artifact.Set // the artifact with every copy
	processed map[string]artifact.Set
	ended     *journal.Ending // nil: the process that worked on it last did not end it
	where     placeRecord     // for whoever discards what was made
	abandoned *journal.Ending // what was made is given up, but for its artifacts
}

// A placeRecord is what another process needs to open the builder again
// without the template.
type placeRecord struct {
	Type  string          `json:"type"`
	Name  string          `json:"name"`
	Place json.RawMessage `json:"place"`
}

func (p *past) done() bool { return p.ended != nil && p.ended.Error == "" }

// left is the artifacts that are there although the build was not ended well.
func (p *past) left() []artifact.Set {
	switch {
	case p.ended != nil && len(p.ended.Artifacts) > 0:
		return p.ended.Artifacts
	case p.abandoned != nil && len(p.abandoned.Artifacts) > 0:
		return p.abandoned.Artifacts
	case p.collected != nil:
		return []artifact.Set{*p.collected}
	case p.sealed != nil:
		return []artifact.Set{*p.sealed}
	}
	return nil
}

// read returns the past of build. A record that cannot be decoded is an error:
// what was made could otherwise be made twice.
func read(recs []journal.Record, build string) (*past, error) {
	p := newPast()
	for _, r := range recs {
		if r.Build != build {
			continue
		}
		if r.Kind == journal.KindRestart {
			p = newPast()
			continue
		}
		if err := p.add(r); err != nil {
			return nil, fmt.Errorf("journal, record %d (%s): %w", r.Seq, r.Kind, err)
		}
	}
	return p, nil
}

func newPast() *past {
	return &past{
		states: map[string]json.RawMessage{}, copied: map[string]artifact.SystemImage{}, processed: map[string]artifact.Set{},
	}
}

func (p *past) add(r journal.Record) error {
	switch r.Kind {
	case journal.KindAbandoned:
		return decode(r, &p.abandoned)
	case journal.KindPlace:
		p.ended = nil
		return decode(r, &p.where)
	case journal.KindEnded:
		return decode(r, &p.ended)
	}
	p.ended, p.begun = nil, true
	switch r.Kind {
	case journal.KindBegin, journal.KindProvision:
		p.steps = append(p.steps, r.Step)
	case journal.KindGuest:
		var g guestRecord
		if err := decode(r, &g); err != nil {
			return err
		}
		p.guest = g.data()
	case journal.KindSealed:
		return decode(r, &p.sealed)
	case journal.KindRegions:
		p.regions = nil
		return decode(r, &p.regions)
	case journal.KindCopy:
		p.states[r.Step] = r.Data
	case journal.KindCopied:
		var img artifact.SystemImage
		if err := decode(r, &img); err != nil {
			return err
		}
		p.copied[r.Step] = img
	case journal.KindCollected:
		return decode(r, &p.collected)
	case journal.KindProcessed:
		var set artifact.Set
		if err := decode(r, &set); err != nil {
			return err
		}
		p.processed[r.Step] = set
	}
	return nil
}

func decode(r journal.Record, v any) error { return json.Unmarshal(r.Data, v) }

// A guestRecord is what is journaled of a guest, so that post-processors have
// their build.* in another process too. Passwords and keys are not in it:
// there, they are empty.
type guestRecord struct {
	ID           string            `json:"id,omitempty"`
	Host         string            `json:"host,omitempty"`
	Port         int               `json:"port,omitempty"`
	User         string            `json:"user,omitempty"`
	ConnType     string            `json:"conn_type,omitempty"`
	HTTPIP       string            `json:"http_ip,omitempty"`
	HTTPPort     int               `json:"http_port,omitempty"`
	SSHPublicKey string            `json:"ssh_public_key,omitempty"`
	Generated    map[string]string `json:"generated,omitempty"`
}

func recordOf(d communicator.Data) guestRecord {
	return guestRecord{
		ID: d.ID, Host: d.Host, Port: d.Port, User: d.User, ConnType: d.ConnType,
		HTTPIP: d.HTTPIP, HTTPPort: d.HTTPPort, SSHPublicKey: d.SSHPublicKey, Generated: d.Generated,
	}
}

func (g guestRecord) data() communicator.Data {
	return communicator.Data{
		ID: g.ID, Host: g.Host, Port: g.Port, User: g.User, ConnType: g.ConnType,
		HTTPIP: g.HTTPIP, HTTPPort: g.HTTPPort, SSHPublicKey: g.SSHPublicKey, Generated: g.Generated,
	}
}
