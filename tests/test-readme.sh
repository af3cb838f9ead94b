#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The shell commands of README's "Data: the in-band path", as they stand there, one
# after the other in one shell; and what stands behind a # is what they print.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_loop
need_cmd mkfs.ext4
grep -qw ext4 /proc/filesystems || skip "this kernel has no ext4"

start_tgtd
add_target 1
add_lun 1 1 32M
add_lun 1 2 16M thin
add_target 2
add_lun 2 1 32M
add_lun 2 2 20M
tgt_do --op new --mode target --tid 3 -T iqn.2026-01.com.example:mail
secret=secret-$RANDOM$RANDOM
(umask 077 && echo "$secret" > "$T/secret")
tgt_do --op new --mode account --user lunfs --password "$secret"
tgt_do --op bind --mode account --tid 3 --user lunfs
tgt_do --op bind --mode target --tid 3 -I ALL
add_lun 3 1 4M
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1)
	access = exclusive
	[element log0]
	url = $(lun_url 1 2)
	access = exclusive
	[element db1]
	url = $(lun_url 2 1)
	access = exclusive
	[element log1]
	url = $(lun_url 2 2)
	access = exclusive
	[access_point array1]
	portal = 127.0.0.1:$TGT_PORT
	user = lunfs
	password_file = $T/secret
END
start_lunfs
for e in db0 log0 db1 log1; do
	wait_until 10 file_has "$MNT/elements/$e/OperationalStatus" OK
done
mkdir "$MNT/groups/prod"
echo "db0 log0" > "$MNT/groups/prod/members"

# The section's indented lines; what needs a guest or another target is not run here.
readme_commands "Data: the in-band path" 41
grep -vE '^(qemu-system|tgtadm)' "$T/commands" |
	sed "s,/mnt/lunfs,$MNT,g; s,/mnt/,$T/,g" > "$T/script"

timeout 60 bash -eux "$T/script" < /dev/null > "$T/out" 2> "$T/trace" ||
	fail "exit code $?: $(tail -n 3 "$T/trace")"
note "$(wc -l < "$T/script") commands of README do"

readme_has_said "$T/script" "$T/out" 3
wait_until 10 gone "$MNT/elements/iqn.2026-01.com.example_mail_1"
assert_eq "db0
db1
log0
log1" "$(ls "$MNT/elements")" "what is left"
assert_eq prod "$(ls "$MNT/groups")" "what is left"
stop_lunfs
