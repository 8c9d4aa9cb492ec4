#!/bin/sh
# folder_janitor.sh FOLDER: waits for the end of standard input, whose other end a test holds, so for the test's own end, however
# it came; then ends every process that still works in FOLDER (a stopped postmaster does not die with its parent) and removes it.
folder=$1
trap '' HUP INT TERM
cat >/dev/null
[ -d "$folder" ] || exit 0

members() {
    find /proc/[0-9]*/cwd -maxdepth 0 \( -lname "$folder" -o -lname "$folder/*" \) 2>/dev/null | cut -d/ -f3
}

signal_members() {
    for pid in $(members); do kill "-$1" "$pid" 2>/dev/null; done
}

segment=$(sed -n '7s/^ *[0-9]* *//p' "$folder/data/postmaster.pid" 2>/dev/null)
signal_members QUIT
signal_members CONT
tries=0
while [ -n "$(members)" ] && [ $tries -lt 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
while [ -n "$(members)" ]; do signal_members KILL; sleep 0.1; done
# What a killed postmaster leaves outside of its folder.
if [ -n "$segment" ] && [ -e "$folder/data/postmaster.pid" ]; then ipcrm -m "$segment" 2>/dev/null; fi
rm -rf "$folder"
