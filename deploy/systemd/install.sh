#!/bin/sh
# Installs otelbee as systemd services, from the wheel and the requirements.lock beside this file: sudo sh install.sh
# Run again from a newer release it upgrades. It writes /etc/otelbee/otelbee.yaml once, for what it finds on this machine.
set -eu

release=$(dirname "$0")
python=${PYTHON:-python3}
home=/opt/otelbee
config=/etc/otelbee/otelbee.yaml
socket=/run/otelbee/bpf.sock

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "otelbee needs Python 3.11 or newer: PYTHON=python3.12 sh install.sh")'
umask 022
"$python" -m venv "$home"
"$home/bin/pip" install --disable-pip-version-check --quiet --require-hashes -r "$release/requirements.lock"
"$home/bin/pip" install --disable-pip-version-check --quiet --no-deps --force-reinstall "$release"/otelbee-*.whl
ln -sfn "$("$home/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/bpf" "$home/bpf"

install -D -m 644 "$home/share/otelbee/systemd/otelbee-user.conf" /etc/sysusers.d/otelbee.conf
install -m 644 "$home/share/otelbee/systemd/otelbee.service" "$home/share/otelbee/systemd/otelbee-bpf.service" /etc/systemd/system/
systemd-sysusers /etc/sysusers.d/otelbee.conf
install -d -o otelbee -g otelbee -m 700 /var/lib/otelbee
systemctl daemon-reload

# The kernel programs run where they can; what can be read is found out as the user who will read it.
if [ ! -e "$config" ]; then
  systemctl start otelbee-bpf
  while systemctl --quiet is-active otelbee-bpf && [ ! -S "$socket" ]; do sleep 0.2; done
  mkdir -p "$(dirname "$config")"
  (cd / && setpriv --reuid otelbee --regid otelbee --init-groups "$home/bin/otelbee" init) > "$config.new"
  mv "$config.new" "$config"
  if grep -q '^  bpf:' "$config"; then systemctl --quiet enable otelbee-bpf; else systemctl stop otelbee-bpf; fi
else
  systemctl try-restart otelbee-bpf
fi
systemctl --quiet enable otelbee
systemctl restart otelbee
echo "otelbee runs with $config: systemctl status otelbee"
