#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# capabilities/ as a user reads it: by cat and grep.  tests/check_capabilities holds what it
# says to what is carried out.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs

fill_random "$T/a" 1M 1
write_conf <<-END
	[element a]
	url = file://$T/a
	access = exclusive
END
start_lunfs
cd "$MNT"
wait_until 10 file_has elements/a/OperationalStatus OK

[ "$(find capabilities -type f | wc -l)" -gt 25 ] || fail "capabilities/ has too few files"
assert_eq "" "$(find capabilities -mindepth 1 ! -type f)" "other than files"
for f in capabilities/*; do
	assert_eq "$(stat -c %s "$f")" "$(wc -c < "$f")" "size of $f"
	assert_eq 444 "$(stat -c %a "$f")" "mode of $f"
	if [ "$f" != capabilities/GetDefaultReplicationSettingData ] &&
		grep -nvP '^\d+ [^\t]+(\t\w+=[^\t]+)*$' "$f"; then
		fail "$f: not a line of number and name"
	fi
done
note "$(cat capabilities/* | wc -l) values, each a line with number and name"

# What a script would ask.
grep -q '^11 Asynchronous Clone Local$' capabilities/SupportedReplicationTypes
grep -qP '^8 Detach\tSyncType=Clone\tCopyState=' capabilities/GetSupportedGroupOperations
grep -qP '^12 Fracture\tSyncType=Clone\tCopyState=' capabilities/GetSupportedGroupOperations
must_fail grep -w Split capabilities/GetSupportedGroupOperations
must_fail grep Mirror capabilities/SupportedReplicationTypes
assert_eq "2 Persistent" "$(cat capabilities/GetDefaultGroupPersistency)"
assert_eq "2 Sequentially Consistent" "$(cat capabilities/GetDefaultConsistency)"
assert_eq "CopyPriority=Same" \
	"$(grep SyncType=Clone capabilities/GetDefaultReplicationSettingData | cut -f1 | grep Priority)"
assert_eq "" "$(cat capabilities/GetSupportedListOperations)" "what is not supported"
note "grep finds what is supported"

# And that it is so.
mkdir groups/g
must_refuse groups/g/spec "SourceElement=a SyncType=Mirror" "Operation not supported"
for operation in Split Detach; do
	echo "SourceElement=a SyncType=Clone WaitForCopyState=Synchronized" > groups/g/spec
	if grep -qP "^\d+ $operation\tSyncType=Clone" capabilities/GetSupportedGroupOperations; then
		echo $operation > groups/g/control
	else
		must_refuse groups/g/control $operation "Operation not supported"
		assert_eq "1 Not Supported" "$(head -n 1 groups/g/result)" $operation
		echo ReturnToResourcePool > groups/g/control
	fi
done
assert_eq g_1 "$(cat groups/g/members)" "members after Detach"

# It is for reading, and always the same.
must_fail mkdir capabilities/x
must_fail touch capabilities/x
must_fail rm capabilities/GetSupportedOperations
must_fail cat capabilities/x
inodes=$(stat -c '%i %n' capabilities capabilities/* elements/a)
tar cf "$T/c.tar" capabilities
cd /
stop_lunfs
start_lunfs
cd "$MNT"
assert_eq "$inodes" "$(stat -c '%i %n' capabilities capabilities/* elements/a)" "inodes"
mkdir "$T/c"
tar xf "$T/c.tar" -C "$T/c"
diff -r "$T/c/capabilities" capabilities || fail "capabilities/ is another after a restart"
assert_eq "capabilities elements groups jobs pools" \
	"$(find . -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | sort | paste -sd' ')" \
	"directories"
note "capabilities/ is read only, and the same after a restart"
cd /
stop_lunfs
