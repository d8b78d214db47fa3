package ebsapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/ingot-build/ingot/internal/imagestore"
	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

// An upload is a snapshot that is being written.
type upload struct {
	*localcloud.BlockUpload
	snapshot localcloud.Snapshot

	finish   sync.RWMutex // writers share it, the end has it alone
	finished bool
}

type tag struct{ Key, Value string }

type startInput struct {
	VolumeSize       *int64
	ParentSnapshotID string `json:"ParentSnapshotId"`
	Tags             []tag
	Description      string
	ClientToken      string
	Encrypted        *bool
	KmsKeyArn        string
	Timeout          *int64
}

type startOutput struct {
	SnapshotID       string `json:"SnapshotId"`
	OwnerID          string `json:"OwnerId"`
	Status           string
	StartTime        float64
	VolumeSize       int64
	BlockSize        int
	Description      string `json:",omitempty"`
	ParentSnapshotID string `json:"ParentSnapshotId,omitempty"`
	KmsKeyArn        string `json:",omitempty"`
	Tags             []tag  `json:",omitempty"`
}

func (a *api) start(w http.ResponseWriter, call *awswire.Call) error {
	var in startInput
	if err := awswire.DecodeJSON(call.Body, &in); err != nil {
		return err
	}
	if in.VolumeSize == nil {
		return invalid("INVALID_VOLUME_SIZE", "VolumeSize is required")
	}
	p := localcloud.UploadParams{
		SizeGiB: *in.VolumeSize, Parent: in.ParentSnapshotID, Description: in.Description, ClientToken: in.ClientToken, KMSKeyID: in.KmsKeyArn,
	}
	if in.Encrypted != nil {
		p.Encrypted = *in.Encrypted
	}
	if in.Timeout != nil {
		if p.Minutes = *in.Timeout; p.Minutes < 10 || p.Minutes > 4320 {
			return invalid("INVALID_PARAMETER_VALUE", fmt.Sprintf("The timeout of %d minutes is invalid: it is 10 to 4320", p.Minutes))
		}
	}
	var tags []ec2wire.Tag
	for _, t := range in.Tags {
		tags = append(tags, ec2wire.Tag{Key: t.Key, Value: t.Value})
	}
	var err error
	if p.Tags, err = ec2wire.CheckTags(tags); err != nil {
		return invalid("INVALID_TAG", awswire.AsError(err).Message)
	}
	s, err := a.cloud.StartSnapshot(call.HTTP.Context(), call.Region, p)
	if err != nil {
		return err
	}
	out := startOutput{
		SnapshotID: s.ID, OwnerID: s.Owner, Status: s.State, StartTime: seconds(s.Started), VolumeSize: s.SizeGiB,
		BlockSize: imagestore.BlockSize, Description: s.Description, ParentSnapshotID: s.Parent, KmsKeyArn: s.KMSKeyID,
	}
	for _, t := range ec2wire.Tags(s.Tags) {
		out.Tags = append(out.Tags, tag{t.Key, t.Value})
	}
	return writeJSON(w, call, http.StatusCreated, out)
}

func key(region, snapshot string) string { return region + "/" + snapshot }

// open returns the upload of a pending snapshot.
func (a *api) open(ctx context.Context, region, id string) (*upload, func(), error) {
	return a.uploads.use(key(region, id), func() (*upload, error) {
		all, err := a.cloud.Snapshots(ctx, region, []string{id})
		if err != nil {
			return nil, err
		}
		s := all[0]
		if s.Owner != localcloud.AccountID {
			return nil, &fault{http.StatusForbidden, "AccessDeniedException", "UNAUTHORIZED_ACCOUNT", "The snapshot " + id + " is another account's"}
		}
		if s.Upload == "" || s.UploadDone || s.State != "pending" {
			return nil, errNotPending(id)
		}
		u, err := a.cloud.OpenUpload(ctx, s)
		if err != nil {
			return nil, err
		}
		return &upload{BlockUpload: u, snapshot: s}, nil
	})
}

func errNotPending(id string) error {
	return invalid("INVALID_SNAPSHOT_ID", "The snapshot "+id+" is not one that is being written")
}

func (a *api) put(w http.ResponseWriter, call *awswire.Call, id, block string) error {
	h := call.HTTP.Header
	index, err := strconv.ParseInt(block, 10, 64)
	if err != nil || index < 0 {
		return invalid("INVALID_BLOCK", fmt.Sprintf("The block index %q is invalid", block))
	}
	switch {
	case h.Get("X-Amz-Data-Length") != strconv.Itoa(imagestore.BlockSize):
		return invalid("INVALID_BLOCK", fmt.Sprintf("The header x-amz-Data-Length must be %d", imagestore.BlockSize))
	case len(call.Body) != imagestore.BlockSize:
		return invalid("INVALID_BLOCK", fmt.Sprintf("The block has %d bytes; it must have %d", len(call.Body), imagestore.BlockSize))
	case h.Get("X-Amz-Checksum-Algorithm") != "SHA256":
		return invalid("INVALID_PARAMETER_VALUE", "The header x-amz-Checksum-Algorithm must be SHA256")
	}
	if p := h.Get("X-Amz-Progress"); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 0 || n > 100 {
			return invalid("INVALID_PARAMETER_VALUE", fmt.Sprintf("The progress %q is invalid: it is 0 to 100", p))
		}
	}
	sum := sha256.Sum256(call.Body)
	text := base64.StdEncoding.EncodeToString(sum[:])
	if h.Get("X-Amz-Checksum") != text {
		return invalid("INVALID_BLOCK", "The checksum of the block is "+text+", not what the header x-amz-Checksum says")
	}
	if err := a.write(call, id, index, sum); err != nil {
		return err
	}
	w.Header().Set("X-Amz-Checksum", text)
	w.Header().Set("X-Amz-Checksum-Algorithm", "SHA256")
	w.Header().Set("X-Amzn-Requestid", call.RequestID)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (a *api) write(call *awswire.Call, id string, index int64, sum [sha256.Size]byte) error {
	u, done, err := a.open(call.HTTP.Context(), call.Region, id)
	if err != nil {
		return err
	}
	defer done()
	if blocks := u.snapshot.SizeGiB << 30 / imagestore.BlockSize; index >= blocks {
		return invalid("INVALID_BLOCK", fmt.Sprintf("The block %d is outside the volume, which has %d", index, blocks))
	}
	u.finish.RLock()
	defer u.finish.RUnlock()
	if u.finished {
		return errNotPending(id)
	}
	if err := u.Write(index, call.Body, sum); err != nil {
		// Perhaps the snapshot was deleted, and its upload with it.
		a.uploads.drop(key(call.Region, id))
		if _, ferr := a.cloud.Snapshots(call.HTTP.Context(), call.Region, []string{id}); ferr != nil {
			return ferr
		}
		return err
	}
	return nil
}

type completeOutput struct{ Status string }

func (a *api) complete(w http.ResponseWriter, call *awswire.Call, id string) error {
	h := call.HTTP.Header
	count, err := strconv.Atoi(h.Get("X-Amz-Changedblockscount"))
	if err != nil || count < 0 {
		return invalid("INVALID_PARAMETER_VALUE", "The header x-amz-ChangedBlocksCount must be the number of blocks that were written")
	}
	sum, algorithm, method := h.Get("X-Amz-Checksum"), h.Get("X-Amz-Checksum-Algorithm"), h.Get("X-Amz-Checksum-Aggregation-Method")
	if sum != "" && (algorithm != "SHA256" || method != "LINEAR") {
		return invalid("INVALID_PARAMETER_VALUE", "A checksum goes with the algorithm SHA256 and the aggregation method LINEAR")
	}
	// The same request again, as after a lost reply, succeeds.
	if all, err := a.cloud.Snapshots(call.HTTP.Context(), call.Region, []string{id}); err != nil {
		return err
	} else if all[0].UploadDone && all[0].State != "error" {
		return writeJSON(w, call, http.StatusAccepted, completeOutput{all[0].State})
	}
	if err := a.end(call, id, count, sum); err != nil {
		return err
	}
	s, err := a.cloud.FinishUpload(call.HTTP.Context(), call.Region, id)
	if err != nil {
		return err
	}
	return writeJSON(w, call, http.StatusAccepted, completeOutput{s.State})
}

// end checks an upload and closes it here, so that whichever process does the
// job can open it.
func (a *api) end(call *awswire.Call, id string, count int, sum string) error {
	u, done, err := a.open(call.HTTP.Context(), call.Region, id)
	if err != nil {
		return err
	}
	defer done()
	u.finish.Lock()
	defer u.finish.Unlock()
	blocks, linear, err := u.Sum()
	switch {
	case err != nil:
		return err
	case blocks != count:
		return invalid("INVALID_PARAMETER_VALUE", fmt.Sprintf("%d blocks were written, x-amz-ChangedBlocksCount says %d", blocks, count))
	case sum != "" && sum != linear:
		return invalid("INVALID_PARAMETER_VALUE", "The checksum of the blocks is "+linear+", not "+sum)
	}
	u.finished = true
	a.uploads.drop(key(call.Region, id))
	return nil
}
