#!/bin/sh
# Starts a machine from a copy of the baked AMI, in a region it was not baked
# in, and asks it over the network.
#
#   examples/web-prod/check.sh [IMAGE [REGION]]
set -eu

ingot=${INGOT:-bin/ingot}
image=${1:-web-prod-1.0.0}
region=${2:-eu-west-1}
work=$(mktemp -d)
id=
served=$("$ingot" local status | grep '^service: *http' || :)

finish() {
	status=$?
	trap - EXIT
	if [ "$status" != 0 ] && [ -n "$id" ]; then
		echo "--- console of $id, its end"
		"$ingot" local console "$id" | tail -n 20
	fi
	[ -z "$id" ] || "$ingot" local rm "$id" || status=1
	[ -n "$served" ] || "$ingot" local down || status=1
	rm -rf "$work"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

fail() {
	echo "FAILED  $*" >&2
	exit 1
}

# try COMMAND...: again until it succeeds, for as long as a boot may take.
try() {
	end=$(($(date +%s) + 600))
	until "$@" >"$work/out" 2>"$work/err"; do
		[ "$(date +%s)" -lt "$end" ] || fail "$*: $(cat "$work/err")"
		sleep 2
	done
}

"$ingot" local run -region "$region" -name web-prod-check "$image" >"$work/run"
set -- $(tail -n 1 "$work/run")
id=$1 address=$3
echo "started $id in $region at $address, from the copy of $image"

try curl -ksSf --max-time 20 "https://$address/"
grep -q '<title>' "$work/out" || fail "the page is not the one that was baked"
echo "ok      the page over TLS"

curl -sS --max-time 20 -o "$work/out" -D "$work/head" "http://$address/"
grep -qi '^location: https://' "$work/head" || fail "plain HTTP is not sent to HTTPS"
echo "ok      plain HTTP is sent there"

try curl -sSf --max-time 20 "http://$address:9100/metrics"
grep -q '^node_uname_info' "$work/out" || fail "the agent tells nothing of the machine"
echo "ok      metrics of the agent"

try "$ingot" local ssh "$id" cat /etc/ingot-release
grep -q 'VIRTUALIZATION_TYPE="*hvm' "$work/out" || fail "/etc/ingot-release: $(cat "$work/out")"
echo "ok      $(grep -i '^ARCHITECTURE' "$work/out"), virtualization type hvm"

left=$("$ingot" local ssh "$id" 'sudo find /root /home -name authorized_keys -size +0')
[ -z "$left" ] || fail "login keys are left in the image: $left"
echo "ok      no login key is in the image"
