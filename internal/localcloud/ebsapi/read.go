package ebsapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/imagestore"
	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

// The limits of pages and the life of block tokens, of
// https://docs.aws.amazon.com/ebs/latest/APIReference/API_ListSnapshotBlocks.html
const (
	leastBlocks = 100
	mostBlocks  = 10000
	tokenLife   = 7 * 24 * time.Hour
)

// blockToken names a block of a snapshot; it can be worked out again.
func blockToken(s localcloud.Snapshot, index int64) string {
	sum := sha256.Sum256([]byte(s.ID + " " + s.Layer + " " + strconv.FormatInt(index, 10)))
	return "AAAB" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// snapshot returns one that can be read.
func (a *api) snapshot(ctx context.Context, region, id string) (localcloud.Snapshot, error) {
	all, err := a.cloud.Snapshots(ctx, region, []string{id})
	if err != nil {
		return localcloud.Snapshot{}, err
	}
	if s := all[0]; s.State != "completed" {
		return s, invalid("INVALID_SNAPSHOT_ID", "The snapshot "+id+" is "+s.State+"; it can be read when it is completed")
	}
	return all[0], nil
}

func (a *api) disk(layer string) (*imagestore.Disk, func(), error) {
	return a.disks.use(layer, func() (*imagestore.Disk, error) { return a.cloud.Images().Read(layer) })
}

func (a *api) get(w http.ResponseWriter, call *awswire.Call, id, block string) error {
	index, err := strconv.ParseInt(block, 10, 64)
	if err != nil || index < 0 {
		return invalid("INVALID_BLOCK", fmt.Sprintf("The block index %q is invalid", block))
	}
	s, err := a.snapshot(call.HTTP.Context(), call.Region, id)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(call.Params.Get("blockToken")), []byte(blockToken(s, index))) == 0 {
		return invalid("INVALID_BLOCK_TOKEN", "The block token is not that of this block of "+id)
	}
	d, done, err := a.disk(s.Layer)
	if err != nil {
		return err
	}
	defer done()
	buf := make([]byte, imagestore.BlockSize)
	if _, err := d.ReadAt(buf, index*imagestore.BlockSize); err != nil && err != io.EOF { //nolint:errorlint // as io.ReaderAt has it
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.Itoa(len(buf)))
	h.Set("X-Amz-Data-Length", strconv.Itoa(len(buf)))
	h.Set("X-Amz-Checksum", localcloud.Checksum(buf))
	h.Set("X-Amz-Checksum-Algorithm", "SHA256")
	h.Set("X-Amzn-Requestid", call.RequestID)
	_, _ = w.Write(buf) // the client is gone: nobody to tell
	return nil
}

// A page says which blocks a list is to hold.
type page struct {
	of    string // what is listed
	start int64
	size  int
}

// readPage reads the parameters of a list. of ties page tokens to it.
func readPage(q url.Values, of string) (page, error) {
	p := page{of: of, size: mostBlocks}
	if v := q.Get("maxResults"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < leastBlocks || n > mostBlocks {
			return p, invalid("INVALID_PARAMETER_VALUE", fmt.Sprintf("MaxResults of %q is invalid: it is %d to %d", v, leastBlocks, mostBlocks))
		}
		p.size = n
	}
	text := q.Get("startingBlockIndex")
	if token := q.Get("pageToken"); token != "" { // it counts more
		raw, err := base64.RawURLEncoding.DecodeString(token)
		rest, ok := strings.CutPrefix(string(raw), of+" ")
		if err != nil || !ok {
			return p, invalid("INVALID_PAGE_TOKEN", "The page token is not of this list")
		}
		text = rest
	}
	if text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 {
			return p, invalid("INVALID_PARAMETER_VALUE", fmt.Sprintf("The block index %q is invalid", text))
		}
		p.start = n
	}
	return p, nil
}

// take returns the indices of a page and the token of the next.
func (p page) take(all iter.Seq2[int64, error]) (out []int64, next string, err error) {
	for i, err := range all {
		switch {
		case err != nil:
			return nil, "", err
		case i < p.start:
		case len(out) == p.size:
			return out, base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s %d", p.of, i)), nil
		default:
			out = append(out, i)
		}
	}
	return out, "", nil
}

type blockItem struct {
	BlockIndex int64
	BlockToken string
}

type listOutput struct {
	Blocks     []blockItem
	ExpiryTime float64
	VolumeSize int64
	BlockSize  int
	NextToken  string `json:",omitempty"`
}

func (a *api) list(w http.ResponseWriter, call *awswire.Call, id string) error {
	s, err := a.snapshot(call.HTTP.Context(), call.Region, id)
	if err != nil {
		return err
	}
	p, err := readPage(call.Params, id)
	if err != nil {
		return err
	}
	d, done, err := a.disk(s.Layer)
	if err != nil {
		return err
	}
	defer done()
	indices, next, err := p.take(d.Blocks(imagestore.BlockSize))
	if err != nil {
		return err
	}
	out := listOutput{
		Blocks: []blockItem{}, ExpiryTime: seconds(a.cloud.Now().Add(tokenLife)), VolumeSize: s.SizeGiB,
		BlockSize: imagestore.BlockSize, NextToken: next,
	}
	for _, i := range indices {
		out.Blocks = append(out.Blocks, blockItem{i, blockToken(s, i)})
	}
	return writeJSON(w, call, http.StatusOK, out)
}

type changedItem struct {
	BlockIndex       int64
	FirstBlockToken  string `json:",omitempty"`
	SecondBlockToken string `json:",omitempty"`
}

type changedOutput struct {
	ChangedBlocks []changedItem
	ExpiryTime    float64
	VolumeSize    int64
	BlockSize     int
	NextToken     string `json:",omitempty"`
}

func (a *api) changed(w http.ResponseWriter, call *awswire.Call, second string) error {
	ctx := call.HTTP.Context()
	s, err := a.snapshot(ctx, call.Region, second)
	if err != nil {
		return err
	}
	var f localcloud.Snapshot
	first := call.Params.Get("firstSnapshotId")
	if first != "" {
		if f, err = a.snapshot(ctx, call.Region, first); err != nil {
			return err
		}
		if ok, err := a.cloud.Related(ctx, call.Region, f, s); err != nil {
			return err
		} else if !ok {
			return invalid("UNRELATED_SNAPSHOTS", "The snapshots "+first+" and "+second+" are not of one volume")
		}
	}
	p, err := readPage(call.Params, first+" "+second)
	if err != nil {
		return err
	}
	d, done, err := a.disk(s.Layer)
	if err != nil {
		return err
	}
	defer done()
	indices, next, err := p.take(d.Changed(f.Layer, imagestore.BlockSize))
	if err != nil {
		return err
	}
	inFirst := map[int64]bool{}
	if first != "" {
		fd, fdone, err := a.disk(f.Layer)
		if err != nil {
			return err
		}
		defer fdone()
		if inFirst, err = present(fd); err != nil {
			return err
		}
	}
	inSecond, err := present(d)
	if err != nil {
		return err
	}
	out := changedOutput{
		ChangedBlocks: []changedItem{}, ExpiryTime: seconds(a.cloud.Now().Add(tokenLife)), VolumeSize: s.SizeGiB,
		BlockSize: imagestore.BlockSize, NextToken: next,
	}
	for _, i := range indices {
		c := changedItem{BlockIndex: i}
		if inFirst[i] {
			c.FirstBlockToken = blockToken(f, i)
		}
		if inSecond[i] {
			c.SecondBlockToken = blockToken(s, i)
		}
		out.ChangedBlocks = append(out.ChangedBlocks, c)
	}
	return writeJSON(w, call, http.StatusOK, out)
}

// present returns the blocks that a disk has.
func present(d *imagestore.Disk) (map[int64]bool, error) {
	out := map[int64]bool{}
	for i, err := range d.Blocks(imagestore.BlockSize) {
		if err != nil {
			return nil, err
		}
		out[i] = true
	}
	return out, nil
}
