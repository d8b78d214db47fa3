package debootstrap

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-build/ingot/internal/diag"
)

// A node is one name of the root file system.
type node struct {
	path  string // clean, relative to the root; "" is the root
	kind  byte   // a tar type flag
	mode  int64  // permission bits, set-user-ID, set-group-ID and sticky included
	uid   int
	gid   int
	mtime int64 // seconds
	spool string
	link  string // target of a symbolic link; path of the first name for a hard link
	major int64
	minor int64
	names int64 // how many names a file has
	xattr map[string]string
}

// A tree is the root file system as mmdebstrap made it, without what has no
// place in an image; file contents lie in a folder of numbered files.
type tree struct {
	nodes []*node // sorted: parents before children, a hard link after its file
	boot  map[string][]byte
	bytes int64 // of file contents
}

// errNoSystem says that the stream ended before it held a system.
var errNoSystem = errors.New("the archive holds no root file system")

// xattrPrefix is how GNU tar names extended attributes in its headers.
const xattrPrefix = "SCHILY.xattr."

// readTree reads a tar archive of a root file system into the folder spool.
// File times after epoch become epoch. More than room bytes are an error.
func readTree(r io.Reader, spool string, epoch, room int64) (*tree, error) {
	if err := os.MkdirAll(spool, 0o700); err != nil {
		return nil, err
	}
	t := &tree{boot: map[string][]byte{}}
	byPath := map[string]*node{}
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read the root file system: %w", err)
		}
		name, err := cleanName(h.Name)
		if err != nil {
			return nil, err
		}
		if file, ok := strings.CutPrefix(name, scratch+"/boot/"); ok && h.Typeflag == tar.TypeReg {
			if t.boot[file], err = io.ReadAll(io.LimitReader(tr, 16<<20)); err != nil {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
			continue
		}
		if unwanted(name, h.Typeflag) {
			continue
		}
		n := &node{
			path: name, kind: h.Typeflag, mode: h.Mode & 0o7777, uid: h.Uid, gid: h.Gid,
			mtime: min(max(h.ModTime.Unix(), 0), epoch), link: h.Linkname, names: 1,
			major: h.Devmajor, minor: h.Devminor,
		}
		for k, v := range h.PAXRecords {
			if attr, ok := strings.CutPrefix(k, xattrPrefix); ok {
				if n.xattr == nil {
					n.xattr = map[string]string{}
				}
				n.xattr[attr] = v
			}
		}
		switch h.Typeflag {
		case tar.TypeReg:
			content := io.Reader(tr)
			if name == "etc/machine-id" {
				content = bytes.NewReader(nil) // every machine makes its own
			}
			n.spool = filepath.Join(spool, strconv.Itoa(len(t.nodes)))
			size, err := writeSpool(n.spool, io.LimitReader(content, room-t.bytes+1))
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", name, err)
			}
			if t.bytes += size; t.bytes > room {
				return nil, diag.WithHint(fmt.Errorf("the packages hold more than the %d MiB of the disk", room>>20), "raise disk_size")
			}
		case tar.TypeLink:
			if n.link, err = cleanName(h.Linkname); err != nil {
				return nil, err
			}
			first := byPath[n.link]
			if first == nil || first.kind != tar.TypeReg {
				return nil, fmt.Errorf("%s is a hard link to %s, which is not there", name, n.link)
			}
			first.names++
		case tar.TypeDir, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		default:
			return nil, fmt.Errorf("%s has the unknown type %q", name, h.Typeflag)
		}
		if byPath[name] != nil {
			return nil, fmt.Errorf("%s is in the root file system twice", name)
		}
		byPath[name] = n
		t.nodes = append(t.nodes, n)
	}
	return t, t.finish(byPath)
}

// mountPoints are folders a system cannot start without; mmdebstrap leaves out
// /dev where it cannot make device files.
var mountPoints = map[string]int64{"dev": 0o755, "proc": 0o555, "sys": 0o555, "run": 0o755, "tmp": 0o1777}

// finish sorts and checks that every name has a folder.
func (t *tree) finish(byPath map[string]*node) error {
	if len(t.nodes) == 0 || byPath[""] == nil {
		return errNoSystem
	}
	for name, mode := range mountPoints {
		if byPath[name] == nil {
			n := &node{path: name, kind: tar.TypeDir, mode: mode, mtime: byPath[""].mtime, names: 1}
			byPath[name] = n
			t.nodes = append(t.nodes, n)
		}
	}
	for _, n := range t.nodes {
		if n.path == "" {
			continue
		}
		if p := byPath[parent(n.path)]; p == nil || p.kind != tar.TypeDir {
			return fmt.Errorf("%s has no folder", n.path)
		}
	}
	slices.SortFunc(t.nodes, func(a, b *node) int { return strings.Compare(sortKey(a), sortKey(b)) })
	return nil
}

// sortKey orders folder by folder: all folders first, then the names in each
// folder together, then hard links.
func sortKey(n *node) string {
	switch {
	case n.path == "":
		return "\x00"
	case n.kind == tar.TypeDir:
		return "\x01" + strings.ReplaceAll(n.path, "/", "\x00")
	case n.kind == tar.TypeLink:
		return "\x03" + n.path
	}
	return "\x02" + parent(n.path) + "\x00" + path.Base(n.path)
}

func parent(p string) string {
	if d := path.Dir(p); d != "." {
		return d
	}
	return ""
}

// cleanName returns a name of the archive relative to the root.
func cleanName(name string) (string, error) {
	p := path.Clean("/" + name)[1:]
	if slices.Contains(strings.Split(name, "/"), "..") || strings.ContainsAny(p, "\x00\n\r") {
		return "", fmt.Errorf("the root file system has a name %q", name)
	}
	return p, nil
}

func writeSpool(name string, r io.Reader) (int64, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, r)
	return n, errors.Join(err, f.Close())
}

// emptied are folders that stay, without what is in them.
var emptied = []string{
	scratch, "dev", "proc", "sys", "run", "tmp", "var/tmp",
	"var/lib/apt/lists", "var/cache/apt", "var/cache/ldconfig",
}

// unwantedFiles are patterns (path.Match) of files that differ from run to
// run, tell of the host, or belong to one machine.
var unwantedFiles = []string{
	"etc/apt/apt.conf.d/99mmdebstrap", aptFile, "etc/ssh/ssh_host_*", "etc/.pwd.lock", "etc/.resolv.conf.systemd-resolved.bak",
	"etc/passwd-", "etc/shadow-", "etc/group-", "etc/gshadow-", "etc/subuid-", "etc/subgid-",
	"var/cache/debconf/*-old", "var/lib/dpkg/*-old", "var/lib/systemd/random-seed", "var/lib/systemd/credential.secret",
	"var/lib/dbus/machine-id", "root/.bash_history", "root/.viminfo", "root/.lesshst",
}

// unwanted reports whether a name is left out of the image.
func unwanted(name string, kind byte) bool {
	if name == scratch {
		return true
	}
	for _, dir := range emptied {
		if strings.HasPrefix(name, dir+"/") {
			return true
		}
	}
	if kind == tar.TypeReg && strings.HasPrefix(name, "var/log/") {
		return true
	}
	for _, pattern := range unwantedFiles {
		if ok, _ := path.Match(pattern, name); ok && kind != tar.TypeDir {
			return true
		}
	}
	return false
}
