#!/bin/sh
# What this image is, for whoever meets a machine made from it.
set -eu

cat >/etc/ingot-release <<RELEASE
NAME="$IMAGE_NAME"
VERSION="$IMAGE_VERSION"
ARCHITECTURE="$ARCHITECTURE"
VIRTUALIZATION_TYPE="$VIRTUALIZATION_TYPE"
BASE="$IMAGE_BASE"
KERNEL="$(uname -r)"
RELEASE
chmod 0644 /etc/ingot-release

# The tag must not lie.
test "$(uname -m)" = "$ARCHITECTURE"
