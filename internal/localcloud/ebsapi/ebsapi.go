// Package ebsapi speaks the protocol of the EBS direct APIs: snapshots that are
// written and read block by block.
// https://docs.aws.amazon.com/ebs/latest/APIReference/
package ebsapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/imagestore"
	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

// idleTime is how long an upload or a disk stays open after its last use: as
// long as an upload is open here no other process can write to it.
const idleTime = 5 * time.Second

// An api serves the actions over a cloud.
type api struct {
	cloud   *localcloud.Cloud
	uploads *pool[*upload]
	disks   *pool[*imagestore.Disk] // by layer
}

// Action names what a call asks for; "" when there is no such action.
func Action(call *awswire.Call) string {
	name, _, _ := route(call.HTTP)
	return name
}

// route reads the path: /snapshots, /snapshots/ID/blocks, /snapshots/ID/blocks/N,
// /snapshots/ID/changedblocks, /snapshots/completion/ID.
func route(r *http.Request) (action, snapshot, block string) {
	p := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if p[0] != "snapshots" {
		return "", "", ""
	}
	at := func(i int) string {
		if i < len(p) {
			return p[i]
		}
		return ""
	}
	switch {
	case r.Method == http.MethodPost && len(p) == 1:
		return "StartSnapshot", "", ""
	case r.Method == http.MethodPost && len(p) == 3 && p[1] == "completion":
		return "CompleteSnapshot", p[2], ""
	case r.Method == http.MethodPut && len(p) == 4 && p[2] == "blocks":
		return "PutSnapshotBlock", p[1], p[3]
	case r.Method == http.MethodGet && len(p) == 4 && p[2] == "blocks":
		return "GetSnapshotBlock", p[1], p[3]
	case r.Method == http.MethodGet && len(p) == 3 && at(2) == "blocks":
		return "ListSnapshotBlocks", p[1], ""
	case r.Method == http.MethodGet && len(p) == 3 && at(2) == "changedblocks":
		return "ListChangedBlocks", p[1], ""
	}
	return "", "", ""
}

// Handler serves authenticated calls.
func Handler(c *localcloud.Cloud) func(http.ResponseWriter, *awswire.Call) {
	a := &api{cloud: c, uploads: newPool[*upload](), disks: newPool[*imagestore.Disk]()}
	return func(w http.ResponseWriter, call *awswire.Call) {
		action, snapshot, block := route(call.HTTP)
		var err error
		switch action {
		case "StartSnapshot":
			err = a.start(w, call)
		case "CompleteSnapshot":
			err = a.complete(w, call, snapshot)
		case "PutSnapshotBlock":
			err = a.put(w, call, snapshot, block)
		case "GetSnapshotBlock":
			err = a.get(w, call, snapshot, block)
		case "ListSnapshotBlocks":
			err = a.list(w, call, snapshot)
		case "ListChangedBlocks":
			err = a.changed(w, call, snapshot)
		default:
			err = &fault{http.StatusNotFound, "UnknownOperationException", "", "There is no such operation: " + call.HTTP.Method + " " + call.HTTP.URL.Path}
		}
		if err != nil {
			writeFault(w, call, err)
		}
	}
}

// A fault is an error in the terms of the API.
type fault struct {
	status       int
	kind, reason string
	message      string
}

func (f *fault) Error() string { return f.kind + ": " + f.message }

func invalid(reason, message string) error {
	return &fault{http.StatusBadRequest, "ValidationException", reason, message}
}

// faultOf puts an error into the terms of the API.
func faultOf(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	var busy *imagestore.BusyError
	if errors.As(err, &busy) {
		return &fault{http.StatusBadRequest, "RequestThrottledException", "RESOURCE_LEVEL_THROTTLE", "Another process of this machine writes to the snapshot; try again"}
	}
	var refused *localcloud.Error
	if errors.As(err, &refused) {
		return refusal(refused)
	}
	var wire *awswire.Error
	if errors.As(err, &wire) {
		return &fault{http.StatusBadRequest, "ValidationException", "INVALID_PARAMETER_VALUE", wire.Message}
	}
	return &fault{http.StatusInternalServerError, "InternalServerException", "", err.Error()}
}

func refusal(e *localcloud.Error) *fault {
	bad := func(reason string) *fault {
		return &fault{http.StatusBadRequest, "ValidationException", reason, e.Message}
	}
	switch e.Code {
	case "InvalidSnapshot.NotFound":
		return &fault{http.StatusNotFound, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", e.Message}
	case "UnauthorizedOperation":
		return &fault{http.StatusForbidden, "AccessDeniedException", "UNAUTHORIZED_ACCOUNT", e.Message}
	case "IdempotentParameterMismatch":
		return &fault{http.StatusConflict, "ConflictException", "", e.Message}
	case "InvalidSnapshotID.Malformed":
		return bad("INVALID_SNAPSHOT_ID")
	case "InvalidParameterDependency":
		return bad("INVALID_CUSTOMER_KEY")
	}
	return bad("INVALID_PARAMETER_VALUE")
}

func writeFault(w http.ResponseWriter, call *awswire.Call, err error) {
	f := faultOf(err)
	w.Header().Set("X-Amzn-Errortype", f.kind)
	_ = writeJSON(w, call, f.status, struct { // the client is gone: nobody to tell
		Type    string `json:"__type"`
		Message string
		Reason  string `json:",omitempty"`
	}{f.kind, f.message, f.reason})
}

func writeJSON(w http.ResponseWriter, call *awswire.Call, status int, out any) error {
	body, err := json.Marshal(out)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Requestid", call.RequestID)
	w.WriteHeader(status)
	_, _ = w.Write(body)
	return nil
}

// seconds is a time as the protocol has it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
