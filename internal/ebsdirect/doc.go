// Package ebsdirect makes an EBS snapshot of a disk that is here, by the EBS
// direct APIs
// (https://docs.aws.amazon.com/ebs/latest/APIReference/Welcome.html): no
// instance, no bucket, no role. Only the blocks that hold something are sent,
// many at a time; of a snapshot with a parent, only those that changed.
//
// A [Record] of what was sent lets another process go on where one was killed.
package ebsdirect
