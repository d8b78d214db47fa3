// Package vm runs virtual machines: a QEMU process and its control channel,
// disk images through qemu-img, and whether this machine can run guests with
// hardware help.
//
// A process is found again after a crash by what is journaled of it (process
// id, start time, boot id) together with a token in its arguments. It is
// stopped in order: by the guest, then by QMP, and killed only as the last
// step, which is told.
package vm
