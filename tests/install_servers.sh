#!/bin/sh
# Installs Debian packages that are missing. Needs root or sudo only if one is.
set -eu
missing=
for package in "$@"; do
    dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
        missing="$missing $package"
done
[ -n "$missing" ] || exit 0
echo "installing$missing" >&2
sudo=
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || {
        echo "as root, run: apt-get install$missing" >&2
        exit 1
    }
    sudo=sudo
fi
# Debian's package starts a server of its own unless told not to; the tests start theirs.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod +x "$policy"
    made=1
fi
status=0
{
    $sudo apt-get update -q &&
        $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
} >&2 || status=$?
[ -z "$made" ] || $sudo rm -f "$policy"
exit "$status"
