#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# pairs/N/map and pairs/N/digest as tools see them that never heard of LunFS: ddrescuelog
# takes the map, also while it grows and where a medium error broke the copy; sha256sum -c
# takes the digest; inotifywait sees both change.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd sha256sum
need_cmd inotifywait
export LUNFS_TEST_BACKENDS=1

size=$((8 << 20))
stop=$((4 << 20))
for name in one two; do
	fill_random "$T/$name" 8M "$name"
done
echo "[slow]
event = read
offset = $stop
length = 4096
stall = yes" > "$T/slow"
echo "[bad]
event = read
offset = $stop
length = 4096
errno = ENODATA" > "$T/bad"
: > "$T/rules"
write_conf <<-END
	[element one]
	url = file://$T/one
	access = exclusive
	[element two]
	url = fault:$T/rules:file://$T/two
	access = exclusive
	[setting kept]
	digest = yes
END
start_lunfs
cd "$MNT"
for e in one two; do
	wait_until 20 test -s elements/$e/size
done
mkdir groups/prod groups/g groups/s
echo "one two" > groups/prod/members

rules()
{
	cp "$1" "$T/rules.new"
	mv "$T/rules.new" "$T/rules"
}

# bytes MAP STATUS: the sum of its blocks, in decimal.
bytes()
{
	local offset length status sum=0
	while read -r offset length status; do
		[ "$status" != "$2" ] || sum=$((sum + length))
	done < <(sed '/^#/d' "$1" | tail -n +2)
	echo "$sum"
}

grows()
{
	[ "$(bytes "$1" +)" -ge "$2" ]
}

# ddrescue MAP OPTION...
ddrescue()
{
	local map=$1
	shift
	if type -P ddrescuelog > /dev/null; then
		ddrescuelog "$@" "$map"
	fi
}

note "a map grows while it is copied, and adds up"
rules "$T/slow"
echo "SourceGroup=prod SyncType=Clone" > groups/g/spec
wait_until 20 grows groups/g/pairs/1/map $size
wait_until 20 grows groups/g/pairs/2/map $((1 << 20))
map=groups/g/pairs/2/map
assert_eq $size $(($(bytes $map +) + $(bytes $map '?')))
if type -P ddrescuelog > /dev/null; then
	must_fail ddrescuelog --done-status $map
	ddrescuelog --show-status $map > "$T/status"
	assert_match "non-tried: +[0-9]" "$(cat "$T/status")"
	# As a copy of it, too.
	cp $map "$T/copy"
	ddrescuelog --show-status "$T/copy" > /dev/null
else
	echo "ddrescuelog is not installed: maps are read by the test only"
fi
must_refuse groups/g/pairs/1/digest "sha256" "Device or resource busy"
assert_match '^6 In Use' "$(cat groups/g/pairs/1/result)"
: > "$T/none"
rules "$T/none"
cat groups/g/wait/Synchronized
assert_eq $size "$(bytes $map +)"
ddrescue $map --done-status

note "a digest is a line that sha256sum takes, in images/"
for n in 1 2; do
	assert_eq "" "$(cat groups/g/pairs/$n/digest)"
done
inotifywait -q -q -t 30 -e close_write groups/g/pairs/2/digest &
watcher=$!
wait_until 10 sh -c "grep -qs inotify /proc/$watcher/fdinfo/*"
echo sha256 > groups/g/pairs/1/digest
assert_match '^4096 ' "$(cat groups/g/pairs/1/result)"
assert_match '^Digest g$' "$(cat groups/g/job/Name)"
echo sha256 > groups/g/pairs/2/digest
wait_until 30 file_has groups/g/job/JobState Completed
wait $watcher
(cd groups/g/images && sha256sum --strict -c ../pairs/1/digest ../pairs/2/digest)
assert_eq "$(sha256sum < "$T/two" | cut -d ' ' -f 1)  g_2" "$(cat groups/g/pairs/2/digest)"
must_refuse groups/g/pairs/1/digest "md5" "Invalid argument"
assert_match 'write sha256' "$(cat groups/g/pairs/1/result)"

note "a write to the image empties it"
inotifywait -q -q -t 30 -e close_write groups/g/pairs/1/digest &
watcher=$!
wait_until 10 sh -c "grep -qs inotify /proc/$watcher/fdinfo/*"
printf x | dd of=groups/g/images/g_1 bs=1 seek=4711 conv=notrunc,fsync status=none
assert_eq "" "$(cat groups/g/pairs/1/digest)"
wait $watcher
(cd groups/g/images && sha256sum --strict -c ../pairs/2/digest)

note "a Snapshot: what its file holds, and a digest of what it shows"
echo "SourceGroup=prod SyncType=Snapshot" > groups/s/spec
assert_eq $size "$(bytes groups/s/pairs/1/map '?')"
printf x | dd of=groups/s/images/s_1 bs=1 seek=70000 conv=notrunc,fsync status=none
assert_eq 65536 "$(bytes groups/s/pairs/1/map +)"
printf y | dd of=elements/one/data bs=1 seek=200000 conv=notrunc,fsync status=none
echo yes > groups/s/pairs/1/digest
wait_until 30 file_has groups/s/job/JobState Completed
(cd groups/s/images && sha256sum --strict -c ../pairs/1/digest)
echo ReturnToResourcePool > groups/s/control

note "digest = yes: whenever the copy is complete, also after ResyncReplica and a restart"
mkdir groups/k
echo "SourceElement=one SyncType=Clone ReplicationSettingData=kept" > groups/k/spec
is_right()
{
	[ -s groups/k/pairs/1/digest ] && (cd groups/k/images &&
		sha256sum --strict --status -c ../pairs/1/digest)
}
wait_until 30 is_right
assert_match '^Digest k$' "$(cat groups/k/job/Name)"
printf z | dd of=elements/one/data bs=1 seek=300000 conv=notrunc,fsync status=none
before=$(cat groups/k/pairs/1/digest)
cd /
stop_lunfs
start_lunfs
cd "$MNT"
echo ResyncReplica > groups/k/control
wait_until 30 is_right
[ "$before" != "$(cat groups/k/pairs/1/digest)" ] || fail "the digest is that of before"
wait_until 10 file_has groups/k/job/JobState Completed
echo ReturnToResourcePool > groups/k/control
mkdir groups/no
must_refuse groups/no/spec "SourceElement=one SyncType=Snapshot ReplicationSettingData=kept" \
	"not supported"
assert_match 'kept: digest of what is not copied' "$(cat groups/no/result)"

note "a medium error is bad sectors, for ddrescue to fetch"
rules "$T/bad"
echo ResyncReplica > groups/g/control
wait_until 20 file_has groups/g/CopyState Broken
assert_eq 4096 "$(bytes $map -)"
assert_match "0x00400000  0x00001000  -" "$(cat $map)"
if type -P ddrescuelog > /dev/null; then
	assert_eq $((stop / 512)) "$(ddrescuelog --list-blocks=- $map | head -n 1)"
	assert_eq 8 "$(ddrescuelog --list-blocks=- $map | wc -l)"
fi

note "a stop in the midst of a digest"
rules "$T/none"
wait_until 20 file_has elements/two/OperationalStatus OK
echo ResyncReplica > groups/g/control
cat groups/g/wait/Synchronized
mkdir groups/t
echo "SourceElement=two SyncType=Snapshot" > groups/t/spec
rules "$T/slow"
echo sha256 > groups/t/pairs/1/digest
wait_until 20 file_matches groups/t/job/bytes_copied '^[1-9]'
cd /
stop_lunfs
rules "$T/none"
start_lunfs
cd "$MNT"
assert_eq "" "$(cat groups/t/pairs/1/digest)"
assert_eq Exception "$(cat groups/t/job/JobState)"
