#!/bin/sh
# The site: pages, nginx, and a certificate for each host on its first boot.
set -eu
src=/tmp

sed -e "s/@SITE@/$SITE_NAME/g" -e "s/@VERSION@/$IMAGE_VERSION/g" "$src/site/index.html" >"$src/site/index.html.new"
mv "$src/site/index.html.new" "$src/site/index.html"
rm -rf /var/www/web-prod
install -d -m 0755 /var/www/web-prod
cp -R "$src/site/." /var/www/web-prod/
chown -R root:root /var/www/web-prod
chmod -R u=rwX,go=rX /var/www/web-prod

install -m 0644 "$src/nginx.conf" /etc/nginx/sites-available/web-prod
rm -f /etc/nginx/sites-enabled/*
ln -s ../sites-available/web-prod /etc/nginx/sites-enabled/web-prod

install -d -m 0700 /etc/nginx/tls
install -m 0755 "$src/web-prod-tls" /usr/local/sbin/web-prod-tls
install -m 0644 "$src/web-prod-tls.service" /etc/systemd/system/web-prod-tls.service
systemctl daemon-reload
systemctl --quiet enable web-prod-tls.service nginx.service prometheus-node-exporter.service

# The configuration is proved here and now, with a certificate that exists in
# memory only: a key that was on the disk for a moment could be found there.
check=$(mktemp -d /run/web-prod.XXXXXX)
trap 'rm -rf "$check"' EXIT
TLS_DIR="$check" /usr/local/sbin/web-prod-tls
sed "s#/etc/nginx/tls/#$check/#" /etc/nginx/sites-available/web-prod >"$check/site.conf"
sed -e "s#/etc/nginx/sites-enabled/\*#$check/site.conf#" \
	-e 's#^error_log .*#error_log /dev/null;#' -e 's#access_log .*#access_log off;#' \
	/etc/nginx/nginx.conf >"$check/nginx.conf"
sed -i "s#^pid .*#pid $check/pid;#" "$check/nginx.conf"
nginx -q -t -c "$check/nginx.conf"
