// Package localcloud is a cloud on this machine: regions with instances,
// volumes, snapshots and images of their own, kept in one folder. The packages
// beside it speak the vendors' protocols; they translate and hold no state.
//
// State is a transactional database that is opened for each transaction, so
// that several processes work on one cloud at a time and a killed one loses
// nothing. What takes time (starting a machine, capturing a disk) is a [Job]
// in that database, written in the transaction that asks for it: whichever
// process runs [Cloud.Work] does it, and does it again when the one that had
// begun it is gone.
package localcloud
