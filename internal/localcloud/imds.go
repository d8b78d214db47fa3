package localcloud

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud/metadata"
	"github.com/ingot-build/ingot/internal/secret"
)

// A listener answers the metadata of one instance on a port of this machine,
// and holds the lock that says so.
type listener struct {
	addr string
	stop func()
}

func (l *listener) close() { l.stop() }

// metadataRead bounds how long a guest takes to send a request.
const metadataRead = 10 * time.Second

// serveMetadata returns the address at which this process answers the metadata
// of an instance until ctx ends or the instance is dropped; fresh says that it
// has just begun to. The address is "" when another process does.
func (c *Cloud) serveMetadata(ctx context.Context, region, id string) (addr string, fresh bool, err error) {
	c.live.mu.Lock()
	l := c.live.serving[id]
	c.live.mu.Unlock()
	if l != nil {
		return l.addr, false, nil
	}
	key, err := c.metadataKey(ctx)
	if err != nil {
		return "", false, err
	}
	claim, ok, err := tryLock(c.lockPath(id + ".metadata"))
	if err != nil || !ok {
		return "", false, err
	}
	tcp, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		_ = claim.Close()
		return "", false, fmt.Errorf("local cloud: metadata of %s: %w", id, err)
	}
	srv := &http.Server{
		Handler:           metadata.New(metadataSource{c, region, id}, metadata.Options{Key: key, Now: c.now}),
		ReadHeaderTimeout: metadataRead,
	}
	l = &listener{addr: tcp.Addr().String()}
	l.stop = func() {
		_ = srv.Close() // its requests are of a machine that is gone
		_ = claim.Close()
	}
	c.live.mu.Lock()
	if c.live.serving == nil {
		c.live.serving = map[string]*listener{}
	}
	c.live.serving[id] = l
	c.live.mu.Unlock()
	context.AfterFunc(ctx, func() {
		l.stop()
		c.live.mu.Lock()
		if c.live.serving[id] == l {
			delete(c.live.serving, id)
		}
		c.live.mu.Unlock()
	})
	go func() {
		if err := srv.Serve(tcp); !errors.Is(err, http.ErrServerClosed) {
			c.warn(fmt.Errorf("metadata of %s: %w", id, err))
		}
	}()
	return l.addr, true, nil
}

// MetadataAddress is where this process answers the metadata of a running
// instance, "" when it does not.
func (c *Cloud) MetadataAddress(id string) string {
	c.live.mu.Lock()
	defer c.live.mu.Unlock()
	if l := c.live.serving[id]; l != nil {
		return l.addr
	}
	return ""
}

// A metadataSecret makes the tokens of metadata, so that one process accepts
// those of another.
type metadataSecret struct {
	Key []byte
}

// RecordKind implements [Record].
func (metadataSecret) RecordKind() string { return "metadata-secret" }

// RecordID implements [Record].
func (metadataSecret) RecordID() string { return "cloud" }

func (c *Cloud) metadataKey(ctx context.Context) ([]byte, error) {
	c.live.mu.Lock()
	key := c.live.key
	c.live.mu.Unlock()
	if key != nil {
		return key, nil
	}
	var s metadataSecret
	look := func(t *Tx) (err error) {
		s, _, err = Get[metadataSecret](t, metadataSecret{}.RecordID())
		return err
	}
	err := c.View(ctx, "", look)
	if err == nil && s.Key == nil {
		err = c.Update(ctx, "", func(t *Tx) error {
			if err := look(t); err != nil || s.Key != nil {
				return err
			}
			s.Key = make([]byte, 32)
			_, _ = rand.Read(s.Key) // never fails (crypto/rand)
			return Put(t, s)
		})
	}
	if err != nil {
		return nil, err
	}
	c.live.mu.Lock()
	defer c.live.mu.Unlock()
	c.live.key = s.Key
	return s.Key, nil
}

// metadataSource is one instance as its guest sees it.
type metadataSource struct {
	c          *Cloud
	region, id string
}

// Instance implements [metadata.Source].
func (s metadataSource) Instance(ctx context.Context) (m metadata.Instance, err error) {
	var role string
	err = s.c.View(ctx, s.region, func(t *Tx) (err error) {
		m, role, err = t.metadata(s.id)
		return err
	})
	if err != nil || role == "" {
		return m, err
	}
	cred, err := s.c.roleCredential(ctx, s.id, role)
	if err != nil {
		return m, err
	}
	p := m.Profile
	p.Role, p.LastUpdated, p.Expiration = role, cred.Since, cred.Credential.Expires
	p.AccessKeyID, p.SecretKey, p.SessionToken = cred.Credential.AccessKey, secret.New(cred.Credential.Secret), secret.New(cred.Credential.Token)
	return m, nil
}

// metadata describes an instance; role is that of its profile.
func (t *Tx) metadata(id string) (m metadata.Instance, role string, err error) {
	i, err := t.FindInstance(id)
	if err != nil {
		return m, "", err
	}
	m = metadata.Instance{
		Disabled: i.Metadata.Endpoint == "disabled", TokensRequired: i.Metadata.Tokens == "required",
		TagsEnabled: i.Metadata.Tags == "enabled",
		ID:          i.ID, Type: i.Type, Architecture: i.Arch, LifeCycle: i.Lifecycle, LaunchTime: i.Launched,
		LaunchIndex: i.Index, ReservationID: i.Reservation, OwnerID: AccountID, ImageID: i.ImageID,
		Region: t.Region, AvailabilityZone: i.Zone, ZoneID: ZoneID(i.Zone),
		LocalHostname: i.hostname(t.Region), LocalIPv4: i.PrivateIP, PublicHostname: i.PublicDNS(t.Region),
		PublicIPv4: i.PublicIP, MAC: i.Interface.MAC, InterfaceID: i.Interface.ID, SubnetID: i.Subnet, VPCID: i.VPC,
		Tags: i.Tags, UserData: i.UserData,
	}
	if sub, ok, err := Get[Subnet](t, i.Subnet); err != nil {
		return m, "", err
	} else if ok {
		m.SubnetCIDR = sub.CIDR
	}
	if v, ok, err := Get[VPC](t, i.VPC); err != nil {
		return m, "", err
	} else if ok {
		m.VPCCIDRs = []string{v.CIDR}
	}
	for _, id := range i.SecurityGroups {
		if g, ok, err := Get[SecurityGroup](t, id); err != nil {
			return m, "", err
		} else if ok {
			m.SecurityGroups = append(m.SecurityGroups, metadata.Group{ID: g.ID, Name: g.Name})
		}
	}
	if i.PublicKey != "" {
		m.Keys = []metadata.Key{{Name: i.KeyName, OpenSSH: i.PublicKey}}
	}
	for _, d := range i.Devices {
		if d.Device == i.RootDevice {
			m.Devices = append([]metadata.Device{{Name: d.Device}}, m.Devices...)
		} else {
			m.Devices = append(m.Devices, metadata.Device{Name: d.Device})
		}
	}
	if i.Profile == "" {
		return m, "", nil
	}
	p, ok, err := Get[InstanceProfile](t.In(""), i.Profile)
	if err != nil || !ok {
		return m, "", err
	}
	if len(p.Roles) == 0 { // a profile that hands out nothing
		return m, "", nil
	}
	m.Profile = &metadata.Profile{ARN: p.ARN(), ID: p.ID}
	return m, p.Roles[0], nil
}

// How long the credentials of a role that an instance gets are valid, and how
// long before their end it gets new ones.
const (
	roleLife  = 6 * time.Hour
	roleEarly = 10 * time.Minute
)

// A roleSession is what an instance acts as.
type roleSession struct {
	Instance, Role string
	Since          time.Time
	Credential     Credential
}

// RecordKind implements [Record].
func (roleSession) RecordKind() string { return "role-session" }

// RecordID implements [Record].
func (r roleSession) RecordID() string { return r.Instance }

// roleCredential returns the credentials of a role for an instance, new ones
// when those it had end soon.
func (c *Cloud) roleCredential(ctx context.Context, id, role string) (s roleSession, err error) {
	fresh := func(t *Tx) (ok bool, err error) {
		s, ok, err = Get[roleSession](t, id)
		return ok && s.Role == role && t.Now.Before(s.Credential.Expires.Add(-roleEarly)), err
	}
	var ok bool
	err = c.View(ctx, "", func(t *Tx) (err error) { ok, err = fresh(t); return err })
	if err != nil || ok {
		return s, err
	}
	err = c.Update(ctx, "", func(t *Tx) error {
		if ok, err := fresh(t); err != nil || ok {
			return err
		}
		r, _, err := Get[Role](t, role)
		if err != nil {
			return err
		}
		if old := s.Credential.AccessKey; old != "" && t.Now.After(s.Credential.Expires) {
			if err := Delete[Credential](t, old); err != nil {
				return err
			}
		}
		s = roleSession{Instance: id, Role: role, Since: t.Now, Credential: NewSession(
			"arn:aws:sts::"+AccountID+":assumed-role/"+role+"/"+id, or(r.ID, "AROALOCALCLOUDOFINGOT")+":"+id, t.Now.Add(roleLife))}
		return errors.Join(Put(t, s), Put(t, s.Credential))
	})
	return s, err
}
