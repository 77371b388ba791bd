#!/bin/sh
# Unpacks the PgBouncer of a later Debian release, with the libraries it needs, into a folder of its own,
# where it runs beside this system's: DIRECTORY/pgbouncer. Installs nothing.
#   sh install_later_pooler.sh RELEASE DIRECTORY
set -eu
release=$1
directory=$2
[ ! -x "$directory/pgbouncer" ] || exit 0
mirror=http://deb.debian.org/debian
machine=$(dpkg --print-architecture)
triplet=$(dpkg-architecture -q DEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch)
mkdir -p "$directory"
root=$(cd "$directory" && pwd)
get() {
    if command -v curl >/dev/null; then curl -fsS -o "$2" "$1"; else wget -q -O "$2" "$1"; fi
}
get "$mirror/dists/$release/main/binary-$machine/Packages.xz" "$root/packages.xz"
xz -dc "$root/packages.xz" >"$root/packages"
field() { # FIELD PACKAGE
    awk -v name="Package: $2" -v field="$1: " 'BEGIN { RS = ""; FS = "\n" }
        $1 == name { for (i = 1; i <= NF; i++) if (index($i, field) == 1) print substr($i, length(field) + 1) }' \
        "$root/packages" | head -n 1
}
for package in pgbouncer libc6 libcares2 libevent-2.1-7t64 libpam0g libssl3t64 libsystemd0 libldap2 \
    libcap2 libaudit1 libcap-ng0 libsasl2-2 libzstd1 zlib1g; do
    path=$(field Filename "$package")
    if [ -z "$path" ]; then
        echo "$release has no $package" >&2
        exit 1
    fi
    get "$mirror/$path" "$root/package.deb"
    echo "$(field SHA256 "$package")  $root/package.deb" | sha256sum --check --quiet
    dpkg-deb -x "$root/package.deb" "$root/root"
done
rm -f "$root/packages" "$root/packages.xz" "$root/package.deb"
loader=$(find "$root/root" -name 'ld-linux*.so.*' | head -n 1)
cat >"$root/pgbouncer" <<EOF
#!/bin/sh
exec $loader --library-path $root/root/usr/lib/$triplet $root/root/usr/sbin/pgbouncer "\$@"
EOF
chmod 755 "$root/pgbouncer"
chmod -R a+rX "$root"
"$root/pgbouncer" --version | head -n 1 >&2
