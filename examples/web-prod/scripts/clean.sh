#!/bin/sh
# Nothing that belongs to one machine, and nothing of the bake, stays. This is
# the last script: after it the machine is shut down.
set -eu

apt-get -q clean
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old

# Identity: made anew by every machine on its first boot.
rm -f /etc/ssh/ssh_host_* /etc/nginx/tls/* /var/lib/dbus/machine-id
: >/etc/machine-id
rm -f /root/.ssh/authorized_keys /root/.ssh/authorized_keys2 /root/.ssh/known_hosts /home/*/.ssh/authorized_keys
rmdir /root/.ssh 2>/dev/null || :
rm -rf /var/lib/cloud /var/lib/dhcp/* /var/lib/systemd/timers/* /var/lib/systemd/timesync/clock
rm -f /var/lib/systemd/credential.secret

# The random seed would be the same on all machines; it is not to be saved at
# shutdown either. A mask in /run goes with this boot.
systemctl --quiet --runtime mask systemd-random-seed.service
rm -f /var/lib/systemd/random-seed

# The journal of the shutdown stays in memory.
journalctl --relinquish-var
rm -rf /var/log/journal/*
find /var/log -type f -delete

rm -f /root/.bash_history /root/.lesshst /root/.viminfo /root/.wget-hsts
find /tmp /var/tmp -mindepth 1 -xdev -delete 2>/dev/null || :

# What was deleted is really gone, and the image small.
sync
fstrim / || echo "the disk cannot discard: deleted data may be left in unused blocks" >&2
sync
