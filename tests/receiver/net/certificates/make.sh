#!/bin/sh
# Makes the certificates of the TLS tests again: an authority, a server for localhost and agent.example, a client.
# They are valid for a hundred years, protect nothing, and lie here so that the tests need no tool to make them.
set -eu
cd "$(dirname "$0")"
new() { name=$1; shift; openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$name.key" -subj "/CN=$name" "$@"; }
new ca -x509 -days 36500 -out ca.pem -addext basicConstraints=critical,CA:TRUE
for who in server client; do
  new "$who" -out "$who.csr"
  printf 'subjectAltName=DNS:localhost,DNS:agent.example,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >"$who.ext"
  openssl x509 -req -in "$who.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 36500 -extfile "$who.ext" -out "$who.pem"
done
rm -f ./*.csr ./*.ext ./*.srl ca.key
