#!/bin/sh
# Starts a program with secrets from files. Usage: entrypoint.sh PROGRAM [ARGUMENT...]
#
# For each file /run/secrets/NAME (SECRETS_DIR names another folder), whose name is that of a variable, NAME gets its
# first line, unless it is set already. So a secret is in the environment of the one program that needs it, and not in
# what `docker inspect` or a pod's description shows.
set -eu
secrets=${SECRETS_DIR:-/run/secrets}
for file in "$secrets"/*; do
    [ -f "$file" ] || continue
    name=${file##*/}
    case $name in
        *[!A-Z0-9_]* | [0-9]*) continue ;;
    esac
    if eval "[ -z \"\${$name:-}\" ]"; then
        value=
        IFS= read -r value <"$file" || [ -n "$value" ] || continue
        export "$name=$value"
    fi
done
exec "$@"
