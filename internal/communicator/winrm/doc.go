// Package winrm connects to a Windows guest over WinRM: SOAP over HTTP, as
// MS-WSMV describes it. It logs in with a password, plainly or by NTLM. With
// NTLM over plain HTTP every message is sealed, which is what Windows asks for
// where nobody has changed its settings.
//
// Files travel through a PowerShell on the guest that reads a stream of base64
// lines: one start of PowerShell for a whole tree, and several side by side
// where there is much to send.
package winrm
