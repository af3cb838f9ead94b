#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# The shell commands of README's "Recipes", as they stand there, one after the other in
# one shell.  What stands behind a # is what they print; and while they run the LUNs are
# written and the copies compared, so that each step has something to do.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_tgtd

start_tgtd
for t in 1 2; do
	add_target $t
	add_lun $t 1 8M
done
add_lun 1 2 4M thin
add_lun 2 2 5M
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
END
start_lunfs
for e in db0 log0 db1 log1; do
	wait_until 10 file_has "$MNT/elements/$e/OperationalStatus" OK
done
mkdir "$MNT/groups/prod" "$T/backup"
echo "db0 log0" > "$MNT/groups/prod/members"
fill_random "$T/first" 4M 1
dd if="$T/first" of="$MNT/elements/db0/data" bs=1M conv=notrunc,fsync status=none
dd if="$T/first" of="$MNT/elements/log0/data" bs=1M count=2 conv=notrunc,fsync status=none

readme_commands Recipes 26

# Before each new instant, and before what goes back, the LUNs change.
cat > "$T/functions" <<-'END'
	n=0
	change()
	{
		n=$((n + 1))
		for e in db0 log0; do
			yes "$n $e" | dd of=elements/$e/data bs=64k seek=$((n * 3)) count=5 \
				iflag=fullblock conv=notrunc,fsync status=none
		done
	}
	same()
	{
		cmp -n "$(cat elements/db0/size)" elements/db0/data "$1"
		cmp -n "$(cat elements/log0/size)" elements/log0/data "$2"
	}
	differs() { ! cmp -s -n "$(cat elements/db0/size)" elements/db0/data "$1"; }
END
sed -e '/^echo ResyncReplica/i change' \
	-e '/^cat groups.nightly.wait/a same groups/nightly/images/db0 groups/nightly/images/log0' \
	-e '/^cat groups.move.wait/a same elements/db1/data elements/log1/data' \
	-e '/^echo RestoreFromReplica/i change\ndiffers groups/before/images/db0' \
	-e '/^grep .*groups.before.job/a same groups/before/images/db0 groups/before/images/log0' \
	"$T/commands" | sed "s,/backup/,$T/backup/," > "$T/steps"
assert_eq 9 "$(grep -cE '^(change|same|differs)' "$T/steps")" "steps between the commands"
cat "$T/functions" "$T/steps" > "$T/script"

(cd "$MNT" && timeout 60 bash -eux "$T/script") < /dev/null > "$T/out" 2> "$T/trace" ||
	fail "exit code $?: $(cat "$T/out"; tail -n 5 "$T/trace")"
note "$(wc -l < "$T/commands") commands of README do"

readme_has_said "$T/commands" "$T/out" 7
cmp "$T/backup/db0.raw" "$MNT/groups/nightly/images/db0"
assert_eq "nightly prod" "$(ls "$MNT/groups" | xargs)" "groups that are left"
assert_eq "db0 db1 log0 log1 nightly_1 nightly_2" \
	"$(ls "$MNT/elements" | grep -v '^lab_' | xargs)" "elements that are left"
stop_lunfs
