#!/bin/sh
# Only what the machine is for gets in.
set -eu

sed "s#@METRICS_FROM@#$METRICS_FROM#" /tmp/nftables.conf >/etc/nftables.conf
chmod 0644 /etc/nftables.conf
nft --check --file /etc/nftables.conf
systemctl --quiet enable nftables.service
