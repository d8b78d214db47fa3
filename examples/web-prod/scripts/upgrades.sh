#!/bin/sh
# Security fixes install themselves; a restart is somebody's decision.
set -eu

cat >/etc/apt/apt.conf.d/20auto-upgrades <<'CONF'
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
APT::Periodic::AutocleanInterval "7";
CONF
cat >/etc/apt/apt.conf.d/52web-prod <<'CONF'
Unattended-Upgrade::Automatic-Reboot "false";
Unattended-Upgrade::Remove-Unused-Kernel-Packages "true";
Unattended-Upgrade::SyslogEnable "true";
CONF
systemctl --quiet enable unattended-upgrades.service apt-daily.timer apt-daily-upgrade.timer
test "$(apt-config shell on APT::Periodic::Unattended-Upgrade)" = "on='1'"
