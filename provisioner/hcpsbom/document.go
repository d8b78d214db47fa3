package hcpsbom

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ingot-build/ingot/internal/diag"
)

// A format is one of bills of materials, by the name scanners give it.
type format string

const (
	cycloneDX format = "cyclonedx-json" // CycloneDX 1.x
	spdx      format = "spdx-json"      // SPDX 2.x
)

var (
	cycloneVersion = regexp.MustCompile(`^1\.[0-9]+$`)
	spdxVersion    = regexp.MustCompile(`^SPDX-2\.[0-9]+$`)
)

// check tells which format a document has. An error says what is missing to be
// of one.
func check(doc []byte) (format, error) {
	var d struct {
		BOMFormat   string          `json:"bomFormat"`
		SpecVersion string          `json:"specVersion"`
		Components  json.RawMessage `json:"components"`
		SPDXVersion string          `json:"spdxVersion"`
		SPDXID      string          `json:"SPDXID"`
		Name        string          `json:"name"`
		Namespace   string          `json:"documentNamespace"`
		Packages    json.RawMessage `json:"packages"`
	}
	if err := json.Unmarshal(doc, &d); err != nil {
		return "", diag.WithHint(fmt.Errorf("not an SBOM in JSON: %w", err), "CycloneDX and SPDX are taken, in their JSON forms")
	}
	list := func(field string, raw json.RawMessage) error {
		var items []json.RawMessage
		if len(raw) > 0 && json.Unmarshal(raw, &items) != nil {
			return fmt.Errorf("its %s is no list", field)
		}
		return nil
	}
	switch {
	case d.BOMFormat == "CycloneDX":
		if !cycloneVersion.MatchString(d.SpecVersion) {
			return "", fmt.Errorf("a CycloneDX document of the version %q, and 1.x is taken", d.SpecVersion)
		}
		return cycloneDX, list("components", d.Components)
	case d.SPDXVersion != "":
		switch {
		case !spdxVersion.MatchString(d.SPDXVersion):
			return "", fmt.Errorf("an SPDX document of the version %q, and SPDX-2.x is taken", d.SPDXVersion)
		case d.SPDXID != "SPDXRef-DOCUMENT" || d.Name == "" || d.Namespace == "":
			return "", errors.New("an SPDX document needs SPDXID, name and documentNamespace")
		}
		return spdx, list("packages", d.Packages)
	}
	return "", diag.WithHint(errors.New("neither a CycloneDX nor an SPDX document"), "it needs bomFormat and specVersion, or spdxVersion")
}

// A listing is what a guest says is installed on it.
type listing struct {
	system, version string // of the operating system
	packages        []installed
}

// An installed package. license is as the package manager has it, "" where it
// has none.
type installed struct{ kind, name, version, arch, license string }

var errListing = errors.New("what the guest listed is not understood")

// parseListing reads the lines of the runner: fields with tabs between.
func parseListing(text string) (l listing, err error) {
	seen := map[installed]bool{}
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimPrefix(strings.TrimRight(line, "\r\n"), "\ufeff"), "\t")
		switch {
		case f[0] == "":
		case f[0] == "os" && len(f) == 3:
			l.system, l.version = f[1], f[2]
		case len(f) == 6 && f[0] == "pkg" && f[2] != "":
			p := installed{f[1], f[2], f[3], f[4], f[5]}
			if !seen[p] {
				seen[p] = true
				l.packages = append(l.packages, p)
			}
		default:
			return l, fmt.Errorf("%w: %.60q", errListing, line)
		}
	}
	if l.system == "" {
		return l, fmt.Errorf("%w: it names no operating system", errListing)
	}
	return l, nil
}

// purl is the package's URL (https://github.com/package-url/purl-spec).
func (l listing) purl(p installed) string {
	q := url.Values{}
	if p.arch != "" {
		q.Set("arch", p.arch)
	}
	version := p.version
	if epoch, rest, ok := strings.Cut(version, ":"); ok && p.kind == "rpm" {
		if version = rest; epoch != "0" {
			q.Set("epoch", epoch)
		}
	}
	path := "pkg:" + p.kind + "/"
	if p.kind != "generic" {
		q.Set("distro", l.system+"-"+l.version)
		path += url.PathEscape(l.system) + "/"
	}
	path += url.PathEscape(p.name)
	if version != "" {
		path += "@" + strings.ReplaceAll(url.PathEscape(version), "+", "%2B")
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return path
}

type object = map[string]any

// document writes the listing in a format.
func (l listing) document(f format, name string, now time.Time) ([]byte, error) {
	id := uuid.NewString()
	var doc object
	if f == spdx {
		doc = l.spdx(id, name, now)
	} else {
		doc = l.cycloneDX(id, name, now)
	}
	out, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write SBOM: %w", err)
	}
	return append(out, '\n'), nil
}

// cycloneDX is a document of https://cyclonedx.org/docs/1.5/json/.
func (l listing) cycloneDX(id, name string, now time.Time) object {
	components := []object{{"type": "operating-system", "bom-ref": "os", "name": l.system, "version": l.version}}
	for i, p := range l.packages {
		c := object{"type": "library", "bom-ref": fmt.Sprintf("pkg-%d", i+1), "name": p.name, "version": p.version, "purl": l.purl(p)}
		if p.kind == "generic" {
			c["type"] = "application"
		}
		if p.license != "" {
			c["licenses"] = []object{{"license": object{"name": p.license}}}
		}
		components = append(components, c)
	}
	return object{
		"$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.5",
		"serialNumber": "urn:uuid:" + id, "version": 1,
		"metadata": object{
			"timestamp": now.UTC().Format(time.RFC3339),
			"tools":     object{"components": []object{{"type": "application", "name": "ingot"}}},
			"component": object{"type": "operating-system", "bom-ref": "image", "name": name},
		},
		"components": components,
	}
}

// spdx is a document of https://spdx.github.io/spdx-spec/v2.3/.
func (l listing) spdx(id, name string, now time.Time) object {
	const none = "NOASSERTION"
	packages := []object{{
		"SPDXID": "SPDXRef-os", "name": l.system, "versionInfo": l.version, "downloadLocation": none, "filesAnalyzed": false,
		"primaryPackagePurpose": "OPERATING-SYSTEM",
	}}
	relations := []object{{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-os"}}
	for i, p := range l.packages {
		ref := fmt.Sprintf("SPDXRef-pkg-%d", i+1)
		o := object{
			"SPDXID": ref, "name": p.name, "versionInfo": p.version, "downloadLocation": none, "filesAnalyzed": false,
			"licenseConcluded": none, "licenseDeclared": none, "copyrightText": none,
			"externalRefs": []object{{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": l.purl(p)}},
		}
		if p.license != "" {
			o["licenseComments"] = "the package manager says: " + p.license
		}
		packages = append(packages, o)
		relations = append(relations, object{"spdxElementId": "SPDXRef-os", "relationshipType": "CONTAINS", "relatedSpdxElement": ref})
	}
	return object{
		"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": name,
		"documentNamespace": "https://ingot.invalid/spdx/" + url.PathEscape(name) + "-" + id,
		"creationInfo":      object{"created": now.UTC().Format(time.RFC3339), "creators": []string{"Tool: ingot"}},
		"packages":          packages, "relationships": relations,
	}
}
