#!/bin/sh
# Unpacks Debian's radosgw (a real S3 server), its monitor and its OSD into a folder, with the libraries
# that they need; installs nothing. tests/radosgw.py runs them from there.
#   sh install_radosgw.sh DIRECTORY
set -eu
directory=$1
[ ! -x "$directory/usr/bin/radosgw" ] || exit 0
mkdir -p "$directory/debs"
cd "$directory/debs"
apt-get download -q ceph-base ceph-common ceph-mon ceph-osd libaio1 libboost-context1.74.0 \
    libboost-thread1.74.0 libcephfs2 libdaxctl1 libfmt9 libfuse2 libgoogle-perftools4 libibverbs1 \
    libleveldb1d liblua5.3-0 libndctl6 libnl-3-200 libnl-route-3-200 liboath0 libpmem1 librabbitmq4 \
    librados2 libradosstriper1 librbd1 librdmacm1 librgw2 libsnappy1v5 libtcmalloc-minimal4 libunwind8 \
    radosgw >&2
for package in *.deb; do dpkg -x "$package" ..; done
rm -rf ../debs
