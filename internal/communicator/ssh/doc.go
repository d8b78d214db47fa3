// Package ssh is the connection to a guest over SSH.
//
// [Dial] waits until the guest answers and logs in; the [Conn] it returns
// runs commands and moves files, everything as channels of one connection. A
// connection that breaks is made anew by the next call.
//
// Nothing is asked of the guest beyond an SSH server: where /bin/sh, cat, head
// or tar are missing, files go through the SFTP subsystem instead.
package ssh
