#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# A real copy, watched: poll and inotify tell of CopyState and PercentSynced, and
# ten thousand reads of wait/Synchronized are answered when it is reached.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd python3 inotifywait
[ -x "$top_builddir/tests/waiters" ] || skip "tests/waiters is not built"

start_tgtd
add_target 1
fill_random "$(lun_file 1 1)" 32M 1
add_lun 1 1 32M
start_proxy slow
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1 "${proxy_port[slow]}")
	access = exclusive
END
start_lunfs
cd "$MNT"
mkdir groups/prod groups/r
echo db0 > groups/prod/members
wait_until 20 file_has elements/db0/OperationalStatus OK

# Watches and polls are set before there is a relationship.
arm slow slow bytes_per_second=16000000
run_in_background inotifywait -m --format '%w %e' -o "$T/events" groups/r/CopyState \
	groups/r/PercentSynced status 2> "$T/watching"
wait_until 10 grep -q 'Watches established' "$T/watching"

cat > "$T/poll.py" <<'END'
import os, select

CHANGED = select.POLLPRI | select.POLLERR
names = {}
p = select.poll()
for name in "CopyState", "PercentSynced":
    fd = os.open("groups/r/" + name, os.O_RDONLY)
    names[fd] = name
    os.read(fd, 100)
    p.register(fd, CHANGED)
print("polling", flush=True)
seen = {"CopyState": [], "PercentSynced": []}
while seen["CopyState"][-1:] != ["Synchronized"]:
    changed = p.poll(30000)
    assert changed, ("nothing within 30 s", seen)
    for fd, _ in changed:
        seen[names[fd]].append(os.pread(fd, 100, 0).decode().strip())
percents = [int(x) for x in seen["PercentSynced"] if x]
assert "Unsynchronized" in seen["CopyState"], seen
assert len(set(percents)) >= 2 and percents == sorted(percents), percents
print("seen", len(percents), flush=True)
END
run_in_background python3 "$T/poll.py" > "$T/poll.out" 2> "$T/poll.err"
poller=$background_pid
wait_until 10 grep -q polling "$T/poll.out"

echo "SourceGroup=prod SyncType=Clone" > groups/r/spec
wait_until 60 file_has groups/r/CopyState Synchronized
wait_until 10 ended "$poller"
[ ! -s "$T/poll.err" ] || fail "poll: $(tail -n 1 "$T/poll.err")"
wait_until 10 grep -x 'groups/r/CopyState MODIFY' "$T/events"
wait_until 10 grep -x 'groups/r/CopyState CLOSE_WRITE,CLOSE' "$T/events"
wait_until 10 grep -x 'groups/r/PercentSynced MODIFY' "$T/events"
wait_until 10 grep -x 'status MODIFY' "$T/events"
[ "$(grep -cx 'groups/r/PercentSynced MODIFY' "$T/events")" -le 40 ] ||
	fail "more than one event a second"
note "poll and inotify follow a copy"

# ---- ten thousand at once ----

disarm slow slow
arm slow stall
mkdir groups/w
echo "SourceGroup=prod SyncType=Clone" > groups/w/spec
threads=$(ls "/proc/$lunfs_pid/task" | wc -l)
run_in_background timeout 120 "$top_builddir/tests/waiters" groups/w/wait/Synchronized 10000 \
	> "$T/waiters.out"
wait_until 60 grep -q "^waiting" "$T/waiters.out"
waiting=$(sed -n 's/^waiting //p' "$T/waiters.out")
[ "$waiting" -ge 500 ] || fail "this machine lets only $waiting wait"
assert_eq "$threads" "$(ls "/proc/$lunfs_pid/task" | wc -l)" "a wait takes no thread"
timeout 5 cat groups/w/CopyState status > /dev/null
timeout 5 ls -lR groups > /dev/null
assert_eq "waiting $waiting" "$(cat "$T/waiters.out")" "nobody is answered yet"
disarm slow stall
wait_until 60 grep -q "^answered" "$T/waiters.out"
assert_match "^answered $waiting " "$(tail -n 1 "$T/waiters.out")"
note "$waiting waiting reads, answered within $(sed -n 's/^answered [0-9]* //p' "$T/waiters.out") s"
cmp groups/w/images/w_1 "$(lun_file 1 1)"
cd /
stop_lunfs
