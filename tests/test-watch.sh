#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# What tells of changes that the engine makes: poll, inotify, reads of wait/,
# and what ends them: signals, removal, the end of the daemon.  On
# tests/fake-lunfs only: its engine does what is written to `control`.
LUNFS=${top_builddir:-.}/tests/fake-lunfs
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd python3 inotifywait
[ -x "$top_builddir/tests/waiters" ] || skip "tests/waiters is not built"

fill_random "$T/db0" 1M 1
write_conf <<-END
	[element db0]
	url = file://$T/db0
	access = exclusive
END
start_lunfs
cd "$MNT"
mkdir groups/prod groups/r
echo db0 > groups/prod/members
C=groups/r/control

# new_relationship: groups/r is a fresh replica.
new_relationship()
{
	[ ! -e groups/r ] || echo RemoveGroup > groups/r/control
	mkdir groups/r
	echo "SourceGroup=prod SyncType=Clone" > groups/r/spec
}

# ---- poll ----

new_relationship
python3 - <<'END'
import errno, os, select, threading

def control(text):
    with open("groups/r/control", "w") as f:
        f.write(text + "\n")

CHANGED = select.POLLPRI | select.POLLERR
fd = os.open("groups/r/CopyState", os.O_RDONLY)
percent = os.open("groups/r/PercentSynced", os.O_RDONLY)
status = os.open("status", os.O_RDONLY)
assert os.read(fd, 100) == b"Unsynchronized\n"
os.read(percent, 100)
p = select.poll()
p.register(fd, CHANGED)
assert p.poll(0) == [], "nothing has changed"
always = select.poll()
always.register(fd, select.POLLIN | select.POLLOUT)
assert always.poll(0) == [(fd, select.POLLIN | select.POLLOUT)]

# A waiter that sleeps is woken.
control("CopyState Synchronized")
assert p.poll(10000) == [(fd, CHANGED)]
assert p.poll(0) == [(fd, CHANGED)], "until it is read"
assert os.pread(fd, 100, 0) == b"Synchronized\n"
assert p.poll(0) == []
threading.Timer(0.2, control, ["CopyState Skewed"]).start()
assert p.poll(10000) == [(fd, CHANGED)]
os.pread(fd, 100, 0)

# epoll, and progress.
e = select.epoll()
e.register(percent, select.EPOLLPRI)
assert e.poll(0) == []
threading.Timer(0.2, control, ["Percent 40"]).start()
assert e.poll(10)[0][0] == percent
assert os.pread(percent, 100, 0) == b"40\n", "a rendering that is kept does not outlive its change"
p2 = select.poll()
p2.register(status, CHANGED)
assert p2.poll(10000), "status changes too"

# The open that writes is told as well; one that never reads stays changed.
fd2 = os.open("groups/r/CopyState", os.O_RDONLY)
p3 = select.poll()
p3.register(fd2, CHANGED)
control("CopyState Synchronized")
assert p3.poll(10000) == [(fd2, CHANGED)]
assert p.poll(10000) == [(fd, CHANGED)]
os.pread(fd, 100, 0)

# The group goes.
threading.Timer(0.2, control, ["RemoveGroup"]).start()
ev = p.poll(10000)[0][1]
assert ev & select.POLLHUP and ev & select.POLLERR, ev
for at in 0, 5:
    try:
        os.pread(fd, 100, at)
    except OSError as x:
        assert x.errno == errno.ENODEV, x
    else:
        raise AssertionError("read from a group that has gone")
END
[ ! -e groups/r ] || fail "the removed group is still there"
note "poll: POLLPRI|POLLERR at a change, POLLHUP at the removal, then ENODEV"

# ---- inotify ----

# watch FILE...: what happens to them is noted in $T/events, one event a line.
watch()
{
	: > "$T/events"
	: > "$T/watching"
	run_in_background inotifywait -m --format '%w%f %e' \
		-e modify -e close_write -e delete_self "$@" > "$T/events" 2> "$T/watching"
	wait_until 10 grep -q 'Watches established' "$T/watching"
}

end_watch()
{
	kill "$background_pid"
	wait_until 10 ended "$background_pid"
}

new_relationship
watch groups/r/CopyState groups/r/PercentSynced groups/r/spec status
echo "CopyState Synchronized" > $C
wait_until 10 grep -x 'groups/r/CopyState MODIFY' "$T/events"
wait_until 10 grep -x 'groups/r/CopyState CLOSE_WRITE,CLOSE' "$T/events"
wait_until 10 grep -x 'status MODIFY' "$T/events"
! grep -q PercentSynced "$T/events" || fail "an event without a change"
echo "Percent 41" > $C
wait_until 10 grep -x 'groups/r/PercentSynced MODIFY' "$T/events"
assert_eq 41 "$(cat groups/r/PercentSynced)"
assert_eq Synchronized "$(cat groups/r/CopyState)" "the touch changed nothing"
assert_eq "0 Completed with No Error" "$(head -n 1 groups/r/result)" "the touch is no command"
end_watch

job=$(readlink -f groups/r/job)
watch groups/r "$job" "$job/JobState"
exec 3< "$job/JobState"
echo RemoveJob > $C
wait_until 10 gone "$job"
[ ! -e groups/r/job ] || fail "the link to the removed job is still there"
exec 3<&-	# the kernel tells of the directory when the last file in it is closed
wait_until 10 grep -E '/jobs/[0-9]+/? DELETE_SELF' "$T/events"
echo "CopyState Skewed" > $C
wait_until 10 grep -x 'groups/r/CopyState MODIFY' "$T/events" # a watch on the directory
end_watch

mkdir groups/gone
watch groups/gone
rmdir groups/gone
wait_until 10 grep -E '^groups/gone/? DELETE_SELF' "$T/events"
end_watch
note "inotify: MODIFY and CLOSE_WRITE for the engine's changes, DELETE_SELF"

# ---- cached pages ----

new_relationship
cat groups/r/images/r_1 > /dev/null
fill_random "$T/db0" 1M 2
echo Content > $C
wait_until 10 cmp groups/r/images/r_1 "$T/db0"
note "content: the kernel forgets what it has cached"

# ---- wait ----

new_relationship
run_in_background timeout 60 cat groups/r/wait/Synchronized > "$T/wait.out"
run_in_background timeout 60 cat groups/r/wait/Skewed > "$T/wait2.out"
echo "CopyState Synchronized" > $C
wait_until 10 file_has "$T/wait.out" Synchronized
echo "CopyState Skewed" > $C
wait_until 10 file_has "$T/wait2.out" Skewed
assert_eq Skewed "$(timeout 10 cat groups/r/wait/Skewed)" "reached already"

python3 - <<'END'
import errno, os, select, signal, threading, time

def control(text):
    with open("groups/r/control", "w") as f:
        f.write(text + "\n")

def fails(number, f, *args):
    try:
        f(*args)
    except OSError as e:
        assert e.errno == number, (e, number)
    else:
        raise AssertionError("succeeded")

def wait_for(state):
    return os.open("groups/r/wait/" + state, os.O_RDONLY)

# Since the open, also when it was over at the time of the read.
fd = wait_for("Synchronized")
assert os.fstat(fd).st_size == len("Synchronized\n")
control("CopyState Synchronized")
control("CopyState Skewed")
assert os.read(fd, 4) == b"Sync"
assert os.read(fd, 100) == b"hronized\n"
assert os.read(fd, 100) == b""

# poll and O_NONBLOCK.
fd = os.open("groups/r/wait/Suspended", os.O_RDONLY | os.O_NONBLOCK)
fails(errno.EAGAIN, os.read, fd, 100)
p = select.poll()
p.register(fd, select.POLLIN)
assert p.poll(0) == []
threading.Timer(0.2, control, ["CopyState Suspended"]).start()
assert p.poll(10000) == [(fd, select.POLLIN)]
assert os.read(fd, 100) == b"Suspended\n"

# A signal ends the read, and another read waits on.
class Alarm(Exception):
    pass

def on_alarm(*_):
    raise Alarm

signal.signal(signal.SIGALRM, on_alarm)
fd = wait_for("Inactive")
for _ in range(3):
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        os.read(fd, 100)
    except Alarm:
        continue
    raise AssertionError("was not interrupted")
threading.Timer(0.2, control, ["CopyState Inactive"]).start()
assert os.read(fd, 100) == b"Inactive\n"

# Broken ends all waits but its own.
fd = wait_for("Synchronized")
broken = wait_for("Broken")
threading.Timer(0.2, control, ["CopyState Broken"]).start()
fails(errno.EIO, os.read, fd, 100)
assert os.read(broken, 100) == b"Broken\n"
control("CopyState Unsynchronized")

# The group goes.
fd = wait_for("Failedover")
threading.Timer(0.2, control, ["RemoveGroup"]).start()
fails(errno.EIO, os.read, fd, 100)
END
note "wait: answered by the state, a signal, Broken, the removal"

# ---- ten thousand at once ----

new_relationship
threads_before=$(ls "/proc/$lunfs_pid/task" | wc -l)
run_in_background timeout 120 "$top_builddir/tests/waiters" groups/r/wait/Synchronized 10000 \
	> "$T/waiters.out"
wait_until 60 grep -q "^waiting" "$T/waiters.out"
waiting=$(sed -n 's/^waiting //p' "$T/waiters.out")
[ "$waiting" -ge 500 ] || fail "this machine lets only $waiting wait"
assert_eq "$threads_before" "$(ls "/proc/$lunfs_pid/task" | wc -l)" "a wait takes no thread"
timeout 5 cat groups/r/CopyState groups/r/PercentSynced status > /dev/null
timeout 5 ls -l groups/r > /dev/null
echo "CopyState Synchronized" > $C
wait_until 60 grep -q "^answered" "$T/waiters.out"
assert_match "^answered $waiting " "$(tail -n 1 "$T/waiters.out")"
note "$waiting waiting reads, answered within $(sed -n 's/^answered [0-9]* //p' "$T/waiters.out") s"

# ---- a parked spec ----

[ ! -e groups/s ] || rmdir groups/s
mkdir groups/s
python3 - <<'END'
import errno, os, signal, threading, time

class Alarm(Exception):
    pass

def on_alarm(*_):
    raise Alarm

def fails(number, f, *args):
    try:
        f(*args)
    except OSError as e:
        assert e.errno == number, (e, number)
    else:
        raise AssertionError("succeeded")

def write(fd, text, seconds):
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return os.write(fd, text)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)

def control(text):
    with open("groups/s/control", "w") as f:
        f.write(text + "\n")

signal.signal(signal.SIGALRM, on_alarm)
text = b"SourceGroup=prod SyncType=Clone WaitForCopyState=Synchronized\n"
fd = os.open("groups/s/spec", os.O_RDWR)
try:
    write(fd, text, 0.3)
except Alarm:
    pass
else:
    raise AssertionError("was not interrupted")
assert open("groups/s/result").readline().startswith("4096 ")
assert open("groups/s/CopyState").read() == "Unsynchronized\n", "the call goes on"
fails(errno.EINVAL, write, fd, b"SourceGroup=prod SyncType=Snapshot\n", 5)
os.close(fd)
rm = open("groups/s/control", "w")
rm.write("RemoveGroup\n")
rm.close()
os.mkdir("groups/s")

# The same text waits on; everything else answers meanwhile.
fd = os.open("groups/s/spec", os.O_RDWR)
try:
    write(fd, text, 0.3)
except Alarm:
    pass
else:
    raise AssertionError("was not interrupted")
jobs = os.listdir("jobs")
def look_and_end():
    time.sleep(0.3)
    for name in os.listdir("groups/s"):
        path = "groups/s/" + name
        start = time.monotonic()
        os.stat(path)
        if os.path.isfile(path):
            open(path).read()
        assert time.monotonic() - start < 1, path
    control("CopyState Synchronized")
threading.Thread(target=look_and_end).start()
assert write(fd, text, 30) == len(text)
assert os.listdir("jobs") == jobs, "a second call was made"
assert os.read(fd, 100).startswith(b"4096 ")
fails(errno.EINVAL, write, fd, text, 5)
assert os.pread(fd, 1000, 0).startswith(b"5 Invalid Parameter\n")
END
note "spec: a signal ends the wait, the same text goes on with it"

# A touch of a file with a parked write comes after the answer.
echo RemoveGroup > groups/s/control
mkdir groups/s
watch groups/s/spec groups/s/CopyState
run_in_background timeout 60 sh -c \
	'echo "SourceGroup=prod SyncType=Clone WaitForCopyState=Synchronized" > groups/s/spec'
wait_until 10 file_has groups/s/CopyState Unsynchronized
writer=$background_pid
wait_until 10 grep -x 'groups/s/CopyState MODIFY' "$T/events"
! grep -q 'groups/s/spec CLOSE_WRITE' "$T/events" || fail "spec was touched under a parked write"
echo "CopyState Synchronized" > groups/s/control
wait_until 10 ended "$writer"
two_closes() # the writer's and the toucher's
{
	[ "$(grep -c 'groups/s/spec CLOSE_WRITE' "$T/events")" -ge 2 ]
}
wait_until 10 two_closes
note "touches: not under a parked write"

# ---- the end of the daemon ----

new_relationship
mkdir groups/r2
run_in_background timeout 60 sh -c "cat groups/r/wait/Synchronized; echo done" \
	> "$T/end.out" 2> "$T/end.err"
reader=$background_pid
run_in_background timeout 60 bash -c \
	'echo "SourceGroup=prod SyncType=Clone WaitForCopyState=Synchronized" > groups/r2/spec' \
	2> "$T/end2.err"
writer=$background_pid
wait_until 10 file_has groups/r2/CopyState Unsynchronized
cd /
stop_lunfs
wait_until 10 ended "$reader"
wait_until 10 ended "$writer"
assert_match "not connected" "$(cat "$T/end.err")" "wait at the end"
assert_match "not connected" "$(cat "$T/end2.err")" "spec at the end"
note "stop: what waits is answered"

# kill -9 in the midst of touches: nothing is left behind that sleeps for ever.
for i in 1 2 3 4 5; do
	start_lunfs
	cd "$MNT"
	mkdir groups/prod groups/r
	echo db0 > groups/prod/members
	echo "SourceGroup=prod SyncType=Clone" > groups/r/spec
	for n in {1..50}; do
		echo "Percent $n" > $C
		echo "CopyState Skewed" > $C
	done
	cd /
	kill9_lunfs
	umount -l "$MNT"
done
note "kill -9: the daemon ends"
