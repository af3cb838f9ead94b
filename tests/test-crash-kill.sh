#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# kill -9 under load, again and again: sources are written by dependent writers and by
# threads with a model, snapshots are taken, written, read and given back.  After each
# restart what was acknowledged is in `data`, each snapshot has the content that it had,
# its CopyState is right, and what was under way is wholly there or not at all.
#
# LUNFS_TEST_ROUNDS	how often it is killed (6; a long run: 200)
# LUNFS_TEST_SEED	repeats a run, as far as time allows
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
. "$top_srcdir/tests/replica.sh"
need_lunfs
need_cmd python3

dw=$top_builddir/tests/depwrite
rw=$top_builddir/tests/rwmodel
[ -x "$dw" ] && [ -x "$rw" ] || skip "tests/depwrite is not built"
rounds=${LUNFS_TEST_ROUNDS:-6}
seed=${LUNFS_TEST_SEED:-$RANDOM}
note "LUNFS_TEST_SEED=$seed LUNFS_TEST_ROUNDS=$rounds"
RANDOM=$seed

start_tgtd
for tid in 1 2 3 4; do
	add_target $tid
	fill_random "$(lun_file $tid 1)" 4M $tid
	case $tid in
	3) "$rw" fill "$(lun_file 3 1)" --size 4M --seed "$seed" ;;
	*)	# the rings of depwrite begin with zeros
		for i in {0..15}; do
			dd if=/dev/zero of="$(lun_file $tid 1)" bs=4K count=1 seek=$((i * 16)) \
				conv=notrunc status=none
		done
		;;
	esac
	add_lun $tid 1 4M
done
# No proxy: the kernel keeps what tgtd has acknowledged.
write_conf <<-END
	[element db0]
	url = $(lun_url 1 1)
	access = exclusive
	[element log0]
	url = $(lun_url 2 1)
	access = exclusive
	[element vol0]
	url = $(lun_url 3 1)
	access = exclusive
	[element buf0]
	url = $(lun_url 4 1)
	access = exclusive
END
cp "$(lun_file 3 1)" "$T/vol0"

# History: lines "try|made|drop|dropped NAME [what it holds]" of the snapshots, each
# written before or after the deed; what counts after a kill is the last of a name.
history=$T/history
: > "$history"

# say_where NAME IMAGE...: the blocks of 4 KiB that are no longer what was kept.
say_where()
{
	local name=$1 i=0 path
	shift
	for path; do
		cmp -l "$path" "$T/content-$name.$i" |
			awk -v path="${path##*/}" '{
				n = int(($1 - 1) / 4096)
				if (NR == 1 || n != last)
					print path ": block " n ", chunk " int(n / 16)
				last = n
			}' || :
		i=$((i + 1))
	done
}

# Snapshots come and go until the mount is dead.  Of src, whose values are the dependent
# writers'; every third is written to as well.
snapshot_loop()
{
	local i name paths values written sum
	set +e
	trap - ERR
	for ((i = 0; ; i++)); do
		name=s$1-$i
		echo "try $name" >> "$history"
		take "$name" SourceGroup=src SyncType=Snapshot || return
		mapfile -t paths < <(images "$name")
		values=$("$dw" check "${paths[@]}")
		case $? in
		0) ;;
		1)
			echo "$name: $values" >> "$T/wrong"
			return
			;;
		*) return ;; # cannot be read: it was killed
		esac
		written=-
		if ((i % 3 == 2)); then
			"$dw" run "${paths[@]}" --count 5 --direct --fsync --ack "$T/ack-$name" \
				> "$T/out-$name" || return
			written=yes
		fi
		sum=$(sum_direct "$T/content-$name" "${paths[@]}")
		[ $written = - ] || values=$("$dw" check "${paths[@]}")
		[[ "$sum $values" =~ ^[0-9a-f]{64}\ [0-9]+\ [0-9]+$ ]] || return
		echo "made $name $written $sum $values" >> "$history"
		if ((i % 4 == 3)); then
			echo "drop $name" >> "$history"
			drop "$name" || return
			rm -f "$T/content-$name".*
			echo "dropped $name" >> "$history"
		fi
	done 2> /dev/null
}

# start_load ROUND
start_load()
{
	rm -f "$T"/ack-[12] "$T/wrong"
	run_in_background "$dw" run "$MNT/elements/db0/data" "$MNT/elements/log0/data" --direct \
		--ack "$T/ack-1" > "$T/out-1" 2>> "$T/writers.log"
	pids=("$background_pid")
	run_in_background "$dw" run "$MNT/elements/buf0/data" --fsync --ack "$T/ack-2" \
		> "$T/out-2" 2>> "$T/writers.log"
	pids+=("$background_pid")
	run_in_background "$rw" run --source "$MNT/elements/vol0/data" --base "$T/vol0" --direct \
		--seconds 600 --seed $((seed + $1)) --save "$T/vol0" > "$T/out-3" 2>> "$T/writers.log"
	pids+=("$background_pid")
	run_in_background snapshot_loop "$1"
	pids+=("$background_pid")
	wait_until 20 has_passed "$T/ack-1" 0
	wait_until 20 has_passed "$T/ack-2" 0
}

# check_one NAME STATE WRITTEN SUM VALUES: a snapshot after the restart.
check_one()
{
	local name=$1 g=$MNT/groups/$1 state=Synchronized paths
	mapfile -t paths < <(images "$name")
	case $2 in
	dropped)
		[ ! -e "$g" ] || is_over "$name" || fail "$name was given back: $(cat "$g/CopyState")"
		;;
	made)
		[ "$3" = - ] || state=Skewed
		assert_eq "$state" "$(cat "$g/CopyState")" "CopyState of $name"
		assert_eq 100 "$(cat "$g/PercentSynced")" "PercentSynced of $name"
		[ "$4" = "$(sum_of "$name")" ] ||
			fail "$name has changed: $(say_where "$name" "${paths[@]}")"
		assert_eq "${*:5}" "$("$dw" check "${paths[@]}")" "the values of $name"
		;;
	try | drop)
		# In the middle: there, and whole, or not there.
		[ -e "$g" ] || return 0
		if is_over "$name"; then
			assert_eq "" "$(cat "$g/members")" "members of $name"
			return
		fi
		# Mixed: one image is written, and the kill came before the other.
		assert_match '^(Synchronized|Skewed|Mixed)$' "$(cat "$g/CopyState")" "$name ($2)"
		"$dw" check "${paths[@]}" > "$T/check" || fail "$name ($2): $(cat "$T/check")"
		;;
	esac
}

check_snapshots()
{
	local what name rest
	declare -A newest=()
	while read -r what name rest; do
		case $what in
		drop*) newest[$name]=$what ;;
		*) newest[$name]="$what $rest" ;;
		esac
	done < "$history"
	for name in "${!newest[@]}"; do
		read -r what rest <<< "${newest[$name]}"
		# shellcheck disable=SC2086 # its words
		check_one "$name" "$what" $rest
	done
	note "${#newest[@]} snapshots so far, $(cut -d' ' -f1 "$history" | sort | uniq -c | paste -sd' ')"
}

# What the writers were told stands; the daemon's sources and the LUNs say the same.
check_sources()
{
	local values i
	values=$("$dw" check "$MNT/elements/db0/data" "$MNT/elements/log0/data") || fail "sources: $values"
	for i in 0 1; do
		[ "$(cut -d' ' -f$((i + 1)) <<< "$values")" -ge "$(ack_of "$T/ack-1" $i)" ] ||
			fail "sources: $values, acknowledged $(cat "$T/ack-1")"
	done
	assert_eq "$values" "$("$dw" check "$(lun_file 1 1)" "$(lun_file 2 1)")" "the LUNs"
	values=$("$dw" check "$MNT/elements/buf0/data") || fail "buf0: $values"
	[ "$values" -ge "$(ack_of "$T/ack-2" 0)" ] || fail "buf0: $values, acknowledged $(cat "$T/ack-2")"
	"$rw" check "$MNT/elements/vol0/data" --model "$T/vol0.0" || fail "vol0"
	cp "$(lun_file 3 1)" "$T/vol0"
	cmp "$MNT/elements/vol0/data" "$T/vol0"
}

# thin_out: keeps the number of snapshots down, and the history short.
thin_out()
{
	local g name
	for g in "$MNT"/groups/s*-*; do
		[ -e "$g" ] || continue
		name=${g##*/}
		if is_over "$name"; then
			rmdir "$g"
		elif ((RANDOM % 2)); then
			drop "$name"
		else
			continue
		fi
		rm -f "$T/content-$name".*
		sed -i "/ $name\( \|\$\)/d" "$history"
		echo "dropped $name" >> "$history"
	done
}

start_lunfs
need_snapshot db0
mkdir "$MNT/groups/src"
echo "db0 log0" > "$MNT/groups/src/members"

for ((round = 1; round <= rounds; round++)); do
	for e in db0 log0 vol0 buf0; do
		wait_until 20 test -s "$MNT/elements/$e/size"
	done
	start_load $round
	pause $((RANDOM % 1500))
	kill9_lunfs
	for pid in "${pids[@]}"; do
		wait_until 60 ended "$pid"
	done
	[ ! -s "$T/wrong" ] || fail "before the kill: $(cat "$T/wrong")"
	if grep MISMATCH "$T/out-3"; then
		fail "before the kill: $(cat "$T/out-3")"
	fi
	start_lunfs
	check_store
	for e in db0 log0 vol0 buf0; do
		wait_until 20 test -s "$MNT/elements/$e/size"
	done
	check_snapshots
	check_sources
	thin_out
done
stop_lunfs
