// Package amazon makes images on AWS EC2: the builders "amazon-ebs",
// "amazon-ebssurrogate" and "amazon-ebsvolume".
//
// Everything that is made carries the tags ingot:run and ingot:build from its
// first moment, and what AWS gives an id is in the journal before it is waited
// for: whatever a crash or a lost reply leaves behind is found again. Calls
// that AWS can repeat by a client token carry one. The others are repeated
// only after a look whether the first one had its effect.
//
// The image is made in the build region by the steps that seal the build.
// Copies to further regions are jobs of their own, see [builder.Copier].
package amazon
