#!/bin/sh
# Makes the certificates of the tests again. They protect nothing: their keys are public. They are valid from 2020 to 2120, so that no
# machine's clock matters.
set -eu
cd "$(dirname "$0")"
DIR=$(mktemp -d)
trap 'rm -rf "$DIR"' EXIT
FROM=20200101000000Z
UNTIL=21200101000000Z

cat > "$DIR/ca.cnf" <<END
[ca]
default_ca = tests
[tests]
new_certs_dir = $DIR
database = $DIR/index
default_md = sha256
policy = any
unique_subject = no
rand_serial = yes
[any]
commonName = supplied
END

key() { openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }

# Common name, key, where the certificate goes, extensions, and how it is signed.
certificate() {
    name=$1 key=$2 out=$3 extensions=$4
    shift 4
    : > "$DIR/index"
    printf '%s\n' "$extensions" > "$DIR/extensions"
    openssl req -new -key "$key" -subj "/CN=$name" -out "$DIR/request"
    openssl ca -batch -notext -config "$DIR/ca.cnf" -extfile "$DIR/extensions" -startdate $FROM -enddate $UNTIL \
        -in "$DIR/request" -out "$out" "$@"
}

authority() {
    key "$DIR/$1.key.pem"
    certificate "$2" "$DIR/$1.key.pem" "$1.pem" 'basicConstraints=critical,CA:TRUE
keyUsage=critical,keyCertSign,cRLSign' -selfsign -keyfile "$DIR/$1.key.pem"
}

issued() {
    key "$1.key.pem"
    certificate "$3" "$1.key.pem" "$1.pem" "$4" -cert "$2.pem" -keyfile "$DIR/$2.key.pem"
}

SERVER='basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1'
CLIENT='basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=clientAuth'

authority ca "Samovar tests"
authority stranger_ca "Another authority"
issued server ca "the first server" "$SERVER"
issued server2 ca "the second server" "$SERVER"
issued client ca "a client" "$CLIENT"
issued stranger stranger_ca "another client" "$CLIENT"
chmod 644 ./*.pem
