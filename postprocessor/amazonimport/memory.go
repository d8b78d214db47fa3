package amazonimport

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/ebsdirect"
	"github.com/ingot-build/ingot/internal/event"
)

// What is remembered between processes, in Ingot's folder for state.
const (
	inUploads = "uploads" // how far an upload came, by token
	inLines   = "lines"   // what the last snapshot of a line holds, by line
)

// memory opens a record. nil means that none can be kept: the work goes on
// without.
func (j *job) memory(kind, name string) (*ebsdirect.FileRecord, error) {
	dir := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(dir) {
		home, err := os.UserHomeDir()
		if err != nil {
			j.warn("Nothing of the upload can be remembered: %s", err)
			return nil, nil
		}
		dir = filepath.Join(home, ".local", "state")
	}
	rec, err := ebsdirect.OpenRecord(filepath.Join(dir, "ingot", kind, name))
	var busy *ebsdirect.BusyError
	switch {
	case errors.As(err, &busy):
		return nil, err
	case err != nil:
		j.warn("Nothing of the upload can be remembered: %s", err)
		return nil, nil
	}
	return rec, nil
}

// last returns the last snapshot of the line that is still there, with what it
// holds; nothing when there is none that serves.
func (j *job) last(ctx context.Context, size int64) (string, ebsdirect.Manifest, error) {
	rec, err := j.memory(inLines, j.line)
	if rec == nil {
		return "", nil, err
	}
	h, m, err := rec.Load()
	if err = errors.Join(err, rec.Close()); err != nil {
		return "", nil, err
	}
	// A volume does not shrink; a record that a crash cut short would have old
	// blocks show through.
	if h.SnapshotID == "" || h.Size > (size+1<<30-1)>>30<<30 || h.Entries != len(m) {
		return "", nil, nil
	}
	out, err := j.ec2.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{h.SnapshotID}})
	if awsaccess.Code(err) == "InvalidSnapshot.NotFound" {
		return "", nil, nil
	}
	if err != nil || len(out.Snapshots) == 0 || out.Snapshots[0].State != types.SnapshotStateCompleted {
		return "", nil, err
	}
	j.say("Sending what differs from %s", h.SnapshotID)
	return h.SnapshotID, m, nil
}

// keep remembers what the snapshot of the image holds. That it cannot costs
// the next upload time and nothing else.
func (j *job) keep(r ebsdirect.Result, img image) {
	if !j.Incremental {
		return
	}
	rec, err := j.memory(inLines, j.line)
	if err == nil && rec != nil {
		err = rec.Start(ebsdirect.Header{SnapshotID: r.SnapshotID, Size: r.VolumeSize << 30, Entries: len(r.Manifest)})
		for i, d := range r.Manifest {
			if err == nil {
				err = rec.Sent(i, d)
			}
		}
		if cerr := rec.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		j.out.Emit(event.Detail{Text: "content of " + img.id + " is not remembered: " + err.Error()})
	}
}
