#!/bin/sh
# Everything that comes over the network, in one go and once.
set -eu
export DEBIAN_FRONTEND=noninteractive

# Services start on the machines made from the image, not while it is baked:
# what has not run has left no key, no log and no state.
policy=/usr/sbin/policy-rc.d
trap 'rm -f "$policy"' EXIT
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 0755 "$policy"

apt_get() {
	# A bake that breaks off is thrown away: dpkg need not wait for the disk.
	apt-get -q -y -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 \
		-o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confold "$@"
}
apt_get -o Acquire::Languages=none update
apt_get install --no-install-recommends \
	nginx openssl prometheus-node-exporter nftables unattended-upgrades
