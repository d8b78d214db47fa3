package localcloud

import "maps"

// jobHandlers are the handlers by kind of job. Kinds are in databases of
// others: one is never given a new meaning.
func (c *Cloud) jobHandlers() map[string]handler {
	all := c.storageJobs()
	maps.Copy(all, c.instanceJobs())
	return all
}

func (c *Cloud) storageJobs() map[string]handler {
	return map[string]handler{
		"volume-create":     c.volumeCreate,
		"volume-delete":     c.volumeDelete,
		"volume-attach":     c.volumeAttach,
		"volume-detach":     c.volumeDetach,
		"volume-grow":       c.volumeGrow,
		"snapshot-capture":  c.snapshotCapture,
		"snapshot-complete": c.snapshotComplete,
		"snapshot-copy":     c.snapshotCopy,
		"upload-commit":     c.uploadCommit,
		"upload-abort":      c.uploadAbort,
		"upload-timeout":    c.uploadTimeout,
		"image-create":      c.imageCreate,
		"image-settle":      c.imageSettle,
		"image-copy":        c.imageCopy,
		"import":            c.importDisks,
	}
}
