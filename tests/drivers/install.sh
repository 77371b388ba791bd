#!/bin/sh
# Fetches node-postgres (npm) and the JDBC driver (Debian) into .packages, for the tests with the mark
# `drivers`. Needs node, npm and a JDK on the machine; installs nothing outside .packages.
set -eu
cd "$(dirname "$0")"
mkdir -p .packages
cp package.json .packages/
npm install --prefix .packages --package-lock=false --ignore-scripts --no-audit --no-fund >&2
# The driver of Debian's package needs its SCRAM client beside it.
(
    cd .packages
    set -- libpostgresql-jdbc-java libscram-java libstringprep-java
    apt-get download -q "$@" >&2 || { apt-get update -q >&2 && apt-get download -q "$@" >&2; }
    for package in ./*.deb; do
        dpkg-deb -x "$package" debian
        rm "$package"
    done
)
ls .packages/debian/usr/share/java/postgresql.jar .packages/node_modules/pg/package.json
