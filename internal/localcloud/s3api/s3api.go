// Package s3api speaks the protocol of S3, path style, as far as disks are
// brought in through it: buckets, objects, multipart uploads.
// https://docs.aws.amazon.com/AmazonS3/latest/API/
package s3api

import (
	"bytes"
	"encoding/xml"
	"net/http"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

const namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

// A request is an S3 call taken apart.
type request struct {
	*awswire.Call
	bucket, key string
	w           http.ResponseWriter
}

type handler func(a api, r request) error

type api struct{ cloud *localcloud.Cloud }

// actions are what a method does to the service, a bucket or an object, with
// the query parameter that selects it.
var actions = []struct {
	method, on, query string
	name              string
	serve             handler
}{
	{"GET", "service", "", "ListBuckets", api.listBuckets},
	{"PUT", "bucket", "", "CreateBucket", api.createBucket},
	{"HEAD", "bucket", "", "HeadBucket", api.headBucket},
	{"DELETE", "bucket", "", "DeleteBucket", api.deleteBucket},
	{"GET", "bucket", "location", "GetBucketLocation", api.location},
	{"GET", "bucket", "", "ListObjectsV2", api.list},
	{"POST", "bucket", "delete", "DeleteObjects", api.deleteSeveral},
	{"POST", "object", "uploads", "CreateMultipartUpload", api.begin},
	{"PUT", "object", "uploadId", "UploadPart", api.part},
	{"POST", "object", "uploadId", "CompleteMultipartUpload", api.complete},
	{"DELETE", "object", "uploadId", "AbortMultipartUpload", api.abort},
	{"PUT", "object", "", "PutObject", api.put},
	{"GET", "object", "", "GetObject", api.get},
	{"HEAD", "object", "", "HeadObject", api.get},
	{"DELETE", "object", "", "DeleteObject", api.delete},
}

// refused are query parameters that ask for what there is not: ignoring them
// would do something else.
var refused = []string{
	"acl", "cors", "lifecycle", "logging", "notification", "object-lock", "policy", "replication", "restore", "retention",
	"select", "tagging", "torrent", "versioning", "versionId", "versions", "website", "encryption", "legal-hold", "ownershipControls", "publicAccessBlock",
}

func find(r *http.Request) (name string, serve handler, bucket, key string) {
	bucket, key, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	on := "object"
	switch {
	case bucket == "":
		on = "service"
	case key == "":
		on = "bucket"
	}
	q := r.URL.Query()
	for _, a := range actions {
		if a.method == r.Method && a.on == on && (a.query == "" || q.Has(a.query)) {
			return a.name, a.serve, bucket, key
		}
	}
	return "", nil, bucket, key
}

// Action names what a call does.
func Action(c *awswire.Call) string {
	name, _, _, _ := find(c.HTTP)
	return name
}

// Handler serves authenticated calls, whose body has not been read.
func Handler(c *localcloud.Cloud) func(http.ResponseWriter, *awswire.Call) {
	a := api{c}
	return func(w http.ResponseWriter, call *awswire.Call) {
		_, serve, bucket, key := find(call.HTTP)
		var err error
		switch bad := slices.IndexFunc(refused, call.HTTP.URL.Query().Has); {
		case bad >= 0:
			err = awswire.Statusf(http.StatusNotImplemented, "NotImplemented", "The local cloud does not have %q of S3", refused[bad])
		case serve == nil:
			err = awswire.Statusf(http.StatusMethodNotAllowed, "MethodNotAllowed", "The specified method is not allowed against this resource")
		case call.HTTP.Header.Get("X-Amz-Copy-Source") != "":
			err = awswire.Statusf(http.StatusNotImplemented, "NotImplemented", "The local cloud does not copy objects of S3")
		default:
			w.Header().Set("X-Amz-Request-Id", call.RequestID)
			err = serve(a, request{call, bucket, key, w})
		}
		if err != nil {
			WriteError(w, call.RequestID, localcloud.Refusal(err))
		}
	}
}

// WriteError writes an error in S3's form.
func WriteError(w http.ResponseWriter, requestID string, err error) {
	e := awswire.AsError(err)
	if e.Status == 0 {
		e.Status = http.StatusBadRequest
	}
	var b bytes.Buffer
	b.WriteString(xml.Header)
	_ = xml.NewEncoder(&b).Encode(struct { // into memory: cannot fail
		XMLName                  xml.Name `xml:"Error"`
		Code, Message, RequestId string
	}{Code: e.Code, Message: e.Message, RequestId: requestID})
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("X-Amz-Request-Id", requestID)
	w.WriteHeader(e.Status)
	_, _ = w.Write(b.Bytes()) // the client is gone: nobody to tell
}

func (r request) reply(name string, v any) error {
	var b bytes.Buffer
	b.WriteString(xml.Header)
	start := xml.StartElement{Name: xml.Name{Local: name}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: namespace}}}
	if err := xml.NewEncoder(&b).EncodeElement(v, start); err != nil {
		return err
	}
	r.w.Header().Set("Content-Type", "application/xml")
	_, err := r.w.Write(b.Bytes())
	return err
}
