package s3api

import (
	"encoding/base64"
	"encoding/xml"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

func (a api) bucket(r request) (b localcloud.Bucket, err error) {
	err = a.cloud.View(r.HTTP.Context(), "", func(t *localcloud.Tx) error {
		var ok bool
		if b, ok, err = localcloud.Get[localcloud.Bucket](t, r.bucket); err == nil && !ok {
			err = localcloud.NoSuchBucket(r.bucket)
		}
		return err
	})
	return b, err
}

type bucketItem struct{ Name, CreationDate string }

func (a api) listBuckets(r request) error {
	var out struct {
		Owner   struct{ ID string }
		Buckets []bucketItem `xml:"Buckets>Bucket"`
	}
	out.Owner.ID = r.Account
	err := a.cloud.View(r.HTTP.Context(), "", func(t *localcloud.Tx) error {
		all, err := localcloud.All[localcloud.Bucket](t)
		for _, b := range all {
			out.Buckets = append(out.Buckets, bucketItem{b.Name, awswire.Time(b.Created)})
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.reply("ListAllMyBucketsResult", out)
}

func (a api) createBucket(r request) error {
	if !bucketName.MatchString(r.bucket) || net.ParseIP(r.bucket) != nil || strings.Contains(r.bucket, "..") {
		return awswire.Errorf("InvalidBucketName", "The specified bucket is not valid: %s", r.bucket)
	}
	region := r.Region
	if body, err := r.read(64 << 10); err != nil {
		return err
	} else if len(body) > 0 {
		var conf struct{ LocationConstraint string }
		if err := xml.Unmarshal(body, &conf); err != nil {
			return awswire.Errorf("MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
		}
		if conf.LocationConstraint != "" {
			region = conf.LocationConstraint
		}
	}
	if !localcloud.KnownRegion(region) {
		return awswire.Errorf("InvalidLocationConstraint", "The specified location-constraint is not valid: %s", region)
	}
	err := a.cloud.Update(r.HTTP.Context(), "", func(t *localcloud.Tx) error {
		_, ok, err := localcloud.Get[localcloud.Bucket](t, r.bucket)
		if err != nil {
			return err
		}
		if ok {
			return awswire.Statusf(http.StatusConflict, "BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded and you already own it.")
		}
		return localcloud.Put(t, localcloud.Bucket{Name: r.bucket, Region: region, Created: t.Now})
	})
	if err == nil {
		r.w.Header().Set("Location", "/"+r.bucket)
	}
	return err
}

func (a api) headBucket(r request) error {
	b, err := a.bucket(r)
	if err == nil {
		r.w.Header().Set("X-Amz-Bucket-Region", b.Region)
	}
	return err
}

func (a api) location(r request) error {
	b, err := a.bucket(r)
	if err != nil {
		return err
	}
	if b.Region == "us-east-1" {
		b.Region = "" // S3's oldest region has no name here
	}
	return r.reply("LocationConstraint", b.Region)
}

func (a api) deleteBucket(r request) error {
	err := a.cloud.Update(r.HTTP.Context(), "", func(t *localcloud.Tx) error {
		objects, err := localcloud.Objects(t, r.bucket, "")
		if err != nil {
			return err
		}
		if len(objects) > 0 {
			return awswire.Statusf(http.StatusConflict, "BucketNotEmpty", "The bucket you tried to delete is not empty")
		}
		return localcloud.Delete[localcloud.Bucket](t, r.bucket)
	})
	if err == nil {
		r.w.WriteHeader(http.StatusNoContent)
	}
	return err
}

type listResult struct {
	Name, Prefix, Delimiter, EncodingType string
	KeyCount, MaxKeys                     int
	IsTruncated                           bool
	ContinuationToken, StartAfter         string `xml:",omitempty"`
	NextContinuationToken                 string `xml:",omitempty"`
	Marker, NextMarker                    string `xml:",omitempty"`
	Contents                              []listItem
	CommonPrefixes                        []commonPrefix
}

type listItem struct {
	Key, LastModified, ETag, StorageClass string
	Size                                  int64
}

type commonPrefix struct{ Prefix string }

// list serves ListObjectsV2, and the first version, whose page begins at a
// marker.
func (a api) list(r request) error {
	q := r.HTTP.URL.Query()
	out := listResult{
		Name: r.bucket, Prefix: q.Get("prefix"), Delimiter: q.Get("delimiter"), EncodingType: q.Get("encoding-type"), MaxKeys: 1000,
		ContinuationToken: q.Get("continuation-token"), StartAfter: q.Get("start-after"),
	}
	v2 := q.Get("list-type") == "2"
	after := out.StartAfter
	if out.ContinuationToken != "" {
		raw, err := base64.RawURLEncoding.DecodeString(out.ContinuationToken)
		if err != nil {
			return awswire.Errorf("InvalidArgument", "The continuation token provided is incorrect")
		}
		after = string(raw)
	}
	if !v2 {
		out.Marker = q.Get("marker")
		after = out.Marker
	}
	if m := q.Get("max-keys"); m != "" {
		n, err := strconv.Atoi(m)
		if err != nil || n < 0 {
			return awswire.Errorf("InvalidArgument", "max-keys must be a number that is not negative: %q", m)
		}
		out.MaxKeys = min(n, 1000)
	}
	err := a.cloud.View(r.HTTP.Context(), "", func(t *localcloud.Tx) error {
		objects, err := localcloud.Objects(t, r.bucket, out.Prefix)
		last := out.page(objects, after)
		if out.IsTruncated && v2 {
			out.NextContinuationToken = base64.RawURLEncoding.EncodeToString([]byte(last))
		} else if out.IsTruncated {
			out.NextMarker = last
		}
		return err
	})
	if err != nil {
		return err
	}
	if out.EncodingType == "url" {
		out.encode()
	}
	return r.reply("ListBucketResult", out)
}

// page fills in what comes after a key, and returns the last key or prefix.
func (l *listResult) page(objects []localcloud.Object, after string) (last string) {
	for _, o := range objects {
		name, prefix := o.Key, false
		if l.Delimiter != "" {
			if i := strings.Index(o.Key[len(l.Prefix):], l.Delimiter); i >= 0 {
				name, prefix = o.Key[:len(l.Prefix)+i+len(l.Delimiter)], true
			}
		}
		if name <= after || prefix && name == last {
			continue
		}
		if l.KeyCount == l.MaxKeys {
			l.IsTruncated = l.MaxKeys > 0
			return last
		}
		l.KeyCount++
		last = name
		if prefix {
			l.CommonPrefixes = append(l.CommonPrefixes, commonPrefix{name})
			continue
		}
		l.Contents = append(l.Contents, listItem{o.Key, awswire.Time(o.Modified), `"` + o.ETag + `"`, "STANDARD", o.Size})
	}
	return last
}

func (l *listResult) encode() {
	esc := func(s *string) { *s = strings.ReplaceAll(url.QueryEscape(*s), "%2F", "/") }
	for _, s := range []*string{&l.Prefix, &l.Delimiter, &l.StartAfter, &l.Marker, &l.NextMarker} {
		esc(s)
	}
	for i := range l.Contents {
		esc(&l.Contents[i].Key)
	}
	for i := range l.CommonPrefixes {
		esc(&l.CommonPrefixes[i].Prefix)
	}
}

func (a api) deleteSeveral(r request) error {
	body, err := r.read(4 << 20)
	if err != nil {
		return err
	}
	var in struct {
		Quiet  bool
		Object []struct{ Key string }
	}
	if err := xml.Unmarshal(body, &in); err != nil || len(in.Object) > 1000 {
		return awswire.Errorf("MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
	}
	type deleted struct{ Key string }
	var out struct{ Deleted []deleted }
	for _, o := range in.Object {
		if err := a.cloud.DeleteObject(r.HTTP.Context(), r.bucket, o.Key); err != nil {
			return err
		}
		if !in.Quiet {
			out.Deleted = append(out.Deleted, deleted{o.Key})
		}
	}
	slices.SortFunc(out.Deleted, func(a, b deleted) int { return strings.Compare(a.Key, b.Key) })
	return r.reply("DeleteResult", out)
}
