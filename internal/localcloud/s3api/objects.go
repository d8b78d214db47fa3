package s3api

import (
	"crypto/md5" //nolint:gosec // ETags of multipart uploads are MD5 sums
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"net/http"
	"strconv"
	"strings"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

const maxKey = 1024 // bytes

// described is the object that the request's headers describe.
func (r request) described() (localcloud.Object, error) {
	h := r.HTTP.Header
	if len(r.key) > maxKey {
		return localcloud.Object{}, awswire.Errorf("KeyTooLongError", "Your key is too long")
	}
	o := localcloud.Object{
		Bucket: r.bucket, Key: r.key, Type: h.Get("Content-Type"), Meta: map[string]string{},
		Encryption: h.Get("X-Amz-Server-Side-Encryption"), KeyID: h.Get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id"),
	}
	switch o.Encryption {
	case "", "AES256", "aws:kms", "aws:kms:dsse":
	default:
		return o, awswire.Errorf("InvalidArgument", "The encryption method %q is not supported", o.Encryption)
	}
	for k := range h {
		if name, ok := strings.CutPrefix(k, "X-Amz-Meta-"); ok {
			o.Meta[name] = h.Get(k)
		}
	}
	return o, nil
}

// store writes the request's body to a file.
func (a api) store(r request) (localcloud.Object, error) {
	if _, err := a.bucket(r); err != nil {
		return localcloud.Object{}, err
	}
	body := r.body()
	o, err := a.cloud.StoreObject(r.HTTP.Context(), body)
	if err == nil {
		err = body.check(o)
	}
	if err != nil && o.File != "" {
		_ = a.cloud.DropObject(o) // the first error is the one to tell
	}
	return o, err
}

func (a api) put(r request) error {
	o, err := r.described()
	if err != nil {
		return err
	}
	stored, err := a.store(r)
	if err != nil {
		return err
	}
	o.File, o.Size, o.ETag = stored.File, stored.Size, stored.ETag
	if err := a.cloud.PutObject(r.HTTP.Context(), o); err != nil {
		return err
	}
	r.showEncryption(o)
	r.w.Header().Set("Etag", `"`+o.ETag+`"`)
	return nil
}

func (r request) showEncryption(o localcloud.Object) {
	if o.Encryption != "" {
		r.w.Header().Set("X-Amz-Server-Side-Encryption", o.Encryption)
	}
	if o.KeyID != "" {
		r.w.Header().Set("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", o.KeyID)
	}
}

// get serves GetObject, ranges and conditions included, and HeadObject.
func (a api) get(r request) error {
	o, err := a.cloud.FindObject(r.HTTP.Context(), r.bucket, r.key)
	if err != nil {
		return err
	}
	f, err := a.cloud.OpenObject(o)
	if err != nil {
		return err
	}
	defer f.Close()
	h := r.w.Header()
	h.Set("Etag", `"`+o.ETag+`"`)
	h.Set("Content-Type", "binary/octet-stream")
	if o.Type != "" {
		h.Set("Content-Type", o.Type)
	}
	for k, v := range o.Meta {
		h.Set("X-Amz-Meta-"+k, v)
	}
	r.showEncryption(o)
	http.ServeContent(r.w, r.HTTP, "", o.Modified, f)
	return nil
}

func (a api) delete(r request) error {
	if err := a.cloud.DeleteObject(r.HTTP.Context(), r.bucket, r.key); err != nil {
		return err
	}
	r.w.WriteHeader(http.StatusNoContent)
	return nil
}

func (a api) begin(r request) error {
	o, err := r.described()
	if err != nil {
		return err
	}
	if _, err := a.bucket(r); err != nil {
		return err
	}
	u := localcloud.MultipartUpload{ID: strings.ReplaceAll(awswire.NewRequestID(), "-", ""), Object: o}
	if err := a.cloud.Update(r.HTTP.Context(), "", func(t *localcloud.Tx) error { return localcloud.Put(t, u) }); err != nil {
		return err
	}
	r.showEncryption(o)
	return r.reply("InitiateMultipartUploadResult", struct{ Bucket, Key, UploadId string }{r.bucket, r.key, u.ID})
}

// upload returns the upload that the request names.
func upload(t *localcloud.Tx, r request) (localcloud.MultipartUpload, error) {
	u, ok, err := localcloud.Get[localcloud.MultipartUpload](t, r.HTTP.URL.Query().Get("uploadId"))
	if err == nil && (!ok || u.Object.Bucket != r.bucket || u.Object.Key != r.key) {
		err = awswire.Statusf(http.StatusNotFound, "NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.")
	}
	return u, err
}

func (a api) part(r request) error {
	n, err := strconv.Atoi(r.HTTP.URL.Query().Get("partNumber"))
	if err != nil || n < 1 || n > 10000 {
		return awswire.Errorf("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
	}
	if err := a.cloud.View(r.HTTP.Context(), "", func(t *localcloud.Tx) error { _, err := upload(t, r); return err }); err != nil {
		return err
	}
	o, err := a.store(r)
	if err != nil {
		return err
	}
	var old localcloud.Object
	err = a.cloud.Update(r.HTTP.Context(), "", func(t *localcloud.Tx) error {
		u, err := upload(t, r)
		if err != nil {
			return err
		}
		if u.Parts == nil {
			u.Parts = map[int]localcloud.Object{}
		}
		old = u.Parts[n]
		u.Parts[n] = o
		return localcloud.Put(t, u)
	})
	if err != nil {
		_ = a.cloud.DropObject(o) // the first error is the one to tell
		return err
	}
	if old.File != "" {
		if err := a.cloud.DropObject(old); err != nil {
			return err
		}
	}
	r.w.Header().Set("Etag", `"`+o.ETag+`"`)
	return nil
}

const minPart = 5 << 20 // bytes, of every part but the last

func (a api) complete(r request) error {
	body, err := r.read(4 << 20)
	if err != nil {
		return err
	}
	var in struct {
		Part []struct {
			ETag       string
			PartNumber int
		}
	}
	if err := xml.Unmarshal(body, &in); err != nil || len(in.Part) == 0 {
		return awswire.Errorf("MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
	}
	var u localcloud.MultipartUpload
	err = a.cloud.View(r.HTTP.Context(), "", func(t *localcloud.Tx) (err error) { u, err = upload(t, r); return err })
	if err != nil {
		return err
	}
	var parts []localcloud.Object
	sum := md5.New() //nolint:gosec // see above
	for i, p := range in.Part {
		have, ok := u.Parts[p.PartNumber]
		switch {
		case i > 0 && p.PartNumber <= in.Part[i-1].PartNumber:
			return awswire.Errorf("InvalidPartOrder", "The list of parts was not in ascending order.")
		case !ok || strings.Trim(p.ETag, `"`) != have.ETag:
			return awswire.Errorf("InvalidPart", "One or more of the specified parts could not be found: %d", p.PartNumber)
		case i < len(in.Part)-1 && have.Size < minPart:
			return awswire.Errorf("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
		}
		raw, _ := hex.DecodeString(have.ETag) // ours
		sum.Write(raw)
		parts = append(parts, have)
	}
	o := u.Object
	joined, err := a.join(r, parts)
	if err != nil {
		return err
	}
	o.File, o.Size, o.ETag = joined.File, joined.Size, hex.EncodeToString(sum.Sum(nil))+"-"+strconv.Itoa(len(parts))
	if err := a.cloud.PutObject(r.HTTP.Context(), o); err != nil {
		return err
	}
	if err := a.forget(r, u); err != nil {
		return err
	}
	return r.reply("CompleteMultipartUploadResult", struct{ Location, Bucket, Key, ETag string }{"/" + r.bucket + "/" + r.key, r.bucket, r.key, `"` + o.ETag + `"`})
}

// join makes one file of several.
func (a api) join(r request, parts []localcloud.Object) (localcloud.Object, error) {
	readers := &sequence{open: a.cloud.OpenObject, parts: parts}
	defer readers.close()
	return a.cloud.StoreObject(r.HTTP.Context(), readers)
}

// forget drops an upload and its parts.
func (a api) forget(r request, u localcloud.MultipartUpload) error {
	if err := a.cloud.Update(r.HTTP.Context(), "", func(t *localcloud.Tx) error {
		return localcloud.Delete[localcloud.MultipartUpload](t, u.ID)
	}); err != nil {
		return err
	}
	for _, p := range u.Parts {
		if err := a.cloud.DropObject(p); err != nil {
			return err
		}
	}
	return nil
}

func (a api) abort(r request) error {
	var u localcloud.MultipartUpload
	err := a.cloud.View(r.HTTP.Context(), "", func(t *localcloud.Tx) (err error) { u, err = upload(t, r); return err })
	if err == nil {
		err = a.forget(r, u)
	}
	if err == nil {
		r.w.WriteHeader(http.StatusNoContent)
	}
	return err
}

func contentMD5(etag, header string) bool {
	raw, err := base64.StdEncoding.DecodeString(header)
	return err == nil && hex.EncodeToString(raw) == etag
}
