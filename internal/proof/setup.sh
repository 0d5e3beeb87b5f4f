#!/usr/bin/env bash
# Installs the peers of the proofs into a folder outside the tree, once:
# Python packages into a virtual environment, and the programs prometheus and
# mosquitto out of Debian's packages, of which nothing is installed or started.
# strace is installed where it is missing.
# TBHIST_PROOF_DIR names another folder, PROMETHEUS and MOSQUITTO installed
# programs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${TBHIST_PROOF_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/tbhist-proof}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

if ! cmp -s "$here/requirements.txt" "$dir/venv/installed.txt"; then
	echo "installing the Python peers into $dir/venv"
	rm -rf "$dir/venv"
	if ! python3 -m venv "$dir/venv"; then # Debian has it in a package of its own
		apt-get update -qq && apt-get install -qq -y python3-venv
		python3 -m venv --clear "$dir/venv"
	fi
	"$dir/venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"
	cp "$here/requirements.txt" "$dir/venv/installed.txt"
fi

if ! command -v strace >/dev/null; then # it makes disks fail
	apt-get install -qq -y strace || { apt-get update -qq && apt-get install -qq -y strace; }
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 777 "$work" # apt-get downloads as a user of its own
cd "$work"

# take PACKAGE… unpacks Debian's packages into the working folder.
take() {
	apt-get download -qq "$@" || { apt-get update -qq && apt-get download -qq "$@"; }
	for package in *.deb; do
		dpkg -x "$package" .
	done
	rm ./*.deb
}

if [[ ! -x $dir/prometheus ]]; then
	if [[ -z ${PROMETHEUS:-} ]]; then
		PROMETHEUS=$(command -v prometheus || true)
	fi
	if [[ -n $PROMETHEUS ]]; then
		ln -sf "$PROMETHEUS" "$dir/prometheus"
	else
		echo "taking the prometheus program from Debian's package into $dir"
		take prometheus
		mv usr/bin/prometheus "$dir/prometheus"
	fi
fi
version=$("$dir/prometheus" --version 2>&1)
echo "${version%%$'\n'*}"

if [[ ! -x $dir/mosquitto/mosquitto ]]; then
	mkdir -p "$dir/mosquitto/lib"
	if [[ -z ${MOSQUITTO:-} ]]; then
		MOSQUITTO=$(PATH=$PATH:/usr/sbin command -v mosquitto || true)
	fi
	if [[ -n $MOSQUITTO ]]; then
		ln -sf "$MOSQUITTO" "$dir/mosquitto/mosquitto"
		ln -sf "$(command -v mosquitto_passwd)" "$dir/mosquitto/mosquitto_passwd"
	else
		echo "taking the mosquitto program from Debian's package into $dir/mosquitto"
		apt-cache show mosquitto >/dev/null 2>&1 || apt-get update -qq
		missing=()
		for library in $(apt-cache depends mosquitto | sed -n 's/^ *Depends: \(lib.*\)/\1/p'); do
			dpkg-query -W "$library" >/dev/null 2>&1 || missing+=("$library")
		done
		take mosquitto "${missing[@]}"
		cp -a usr/lib/*/lib*.so* "$dir/mosquitto/lib/"
		mv usr/bin/mosquitto_passwd usr/sbin/mosquitto "$dir/mosquitto/"
	fi
fi
# Its help ends with an error; that it can be read tells that all libraries are there.
help=$(LD_LIBRARY_PATH=$dir/mosquitto/lib "$dir/mosquitto/mosquitto" -h 2>&1) || true
echo "${help%%$'\n'*}"
[[ $help == mosquitto\ version* ]]
