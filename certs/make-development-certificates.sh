#!/bin/sh
# Makes a development CA and, signed by it, a certificate for a gate on this machine. They are for trying sslmode=verify-full;
# anybody who has the folder can make certificates that your clients believe, so use them for nothing else.
#
# Usage: make-development-certificates.sh [FOLDER [NAME...]]     (FOLDER: development; NAME: localhost 127.0.0.1 ::1)
set -eu

folder=${1:-"$(dirname "$0")/development"}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- localhost 127.0.0.1 ::1

command -v openssl >/dev/null || {
    echo "openssl was not found; install it (Debian, Ubuntu: apt install openssl)." >&2
    exit 1
}

names=""
for name in "$@"; do
    case $name in
    *:* | [0-9]*.[0-9]*.[0-9]*.[0-9]*) kind=IP ;;
    *) kind=DNS ;;
    esac
    names="${names:+$names,}$kind:$name"
done

umask 077
mkdir -p "$folder"
cd "$folder"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
    -keyout development-ca.key -out development-ca.crt -subj "/CN=Tidegate DEVELOPMENT CA" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -keyout development-gate.key -out gate.csr -subj "/CN=$1" 2>/dev/null
printf '%s\n' "basicConstraints=critical,CA:FALSE" "keyUsage=critical,digitalSignature" "extendedKeyUsage=serverAuth" \
    "subjectAltName=$names" >gate.ext
openssl x509 -req -in gate.csr -CA development-ca.crt -CAkey development-ca.key -CAcreateserial -days 30 \
    -extfile gate.ext -out development-gate.crt 2>/dev/null
rm -f gate.csr gate.ext development-ca.srl
chmod 644 development-ca.crt development-gate.crt

echo "Made in $(pwd), valid for 30 days, for $*:"
echo "  the gate:     [tls] cert = \"$(pwd)/development-gate.crt\", key = \"$(pwd)/development-gate.key\""
echo "  its clients:  sslmode=verify-full sslrootcert=$(pwd)/development-ca.crt"
