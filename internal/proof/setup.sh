#!/usr/bin/env bash
# Installs the peers of the proofs into a folder outside the tree, once:
# Python packages into a virtual environment, and the prometheus program out of
# Debian's package, of which nothing is installed or started.
# TBHIST_PROOF_DIR names another folder, PROMETHEUS an installed program.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dir=${TBHIST_PROOF_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/tbhist-proof}
mkdir -p "$dir"

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

if [[ ! -x $dir/prometheus ]]; then
	if [[ -z ${PROMETHEUS:-} ]]; then
		PROMETHEUS=$(command -v prometheus || true)
	fi
	if [[ -n $PROMETHEUS ]]; then
		ln -sf "$PROMETHEUS" "$dir/prometheus"
	else
		echo "taking the prometheus program from Debian's package into $dir"
		work=$(mktemp -d)
		trap 'rm -rf "$work"' EXIT
		chmod 777 "$work" # apt-get downloads as a user of its own
		cd "$work"
		apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }
		dpkg -x prometheus_*.deb .
		mv usr/bin/prometheus "$dir/prometheus"
	fi
fi
"$dir/prometheus" --version 2>&1 | head -1
