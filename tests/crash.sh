# SPDX-License-Identifier: BSD-2-Clause
# shellcheck shell=bash
#
# What tests share that lose power: after lib.sh,
#
#	. "$top_srcdir/tests/crash.sh"
#	crash_begin "$T/state" "$T/pool"	# their content now is the base
#	"${recorder[@]}" CMD...			# as often as wanted, or
#	crash_start_lunfs			# start_lunfs, under the shim
#	crash_list				# $T/crash.list, $crash_end
#	crash_rebuild 123 --mode random --seed 5	# in $crash_out/state, ...
#	last_mark 123 "ack 0"			# the newest mark "ack 0 N": N
#	crash_points 20 | crash_check_points 7	# check_point for each, seed 7
#
# need_crash_tools skips where they are not built or a sanitizer is in the way.

# shellcheck disable=SC2154 # top_builddir
crashplay=$top_builddir/tests/crashplay
crashshim=$top_builddir/tests/libcrashlog.so
crash_log=$T/crash.records
crash_out=$T/crash.out

need_crash_tools()
{
	[ -x "$crashplay" ] && [ -e "$crashshim" ] || skip "tests/crashplay is not built"
	[ "${LUNFS_SANITIZERS:-no}" = no ] || skip "a sanitizer's calls come before the shim's"
}

# crash_begin DIR...: of different last names.
crash_begin()
{
	local d dirs=
	rm -rf "$crash_log" "$T/crash.base" "$crash_out"
	mkdir "$T/crash.base"
	for d; do
		cp -a --sparse=always "$d" "$T/crash.base/"
		dirs+=${dirs:+:}$d
	done
	recorder_env=("CRASHLOG_FILE=$crash_log" "CRASHLOG_DIRS=$dirs" "LD_PRELOAD=$crashshim")
	recorder=(env "${recorder_env[@]}")
}

crash_start_lunfs()
{
	export "${recorder_env[@]}"
	start_lunfs "$@"
	unset CRASHLOG_FILE CRASHLOG_DIRS LD_PRELOAD
}

crash_list()
{
	"$crashplay" "$crash_log" --list > "$T/crash.list"
	crash_end=$(awk '$2 == "end" { print $1 }' "$T/crash.list")
}

# crash_mark TEXT: a word of the test's, after all that it knows to have happened.
crash_mark()
{
	"$crashplay" "$crash_log" --mark "$1"
}

# first_mark TEXT: the number of the record, 0 if there is none.
first_mark()
{
	awk -v text="$1" '$2 == "mark" && substr($0, length($1) + 7) == text { n = $1; exit }
		END { print n + 0 }' "$T/crash.list"
}

# last_mark N TEXT: the last word of the newest mark "TEXT ..." up to record N, or 0.
last_mark()
{
	awk -v n="$1" -v text="$2 " '$1 > n { exit }
		$2 == "mark" && index(substr($0, length($1) + 7), text) == 1 { v = $NF }
		END { print v + 0 }' "$T/crash.list"
}

# crash_rebuild N [crashplay options]
crash_rebuild()
{
	local n=$1
	shift
	"$crashplay" "$crash_log" --at "$n" --from "$T/crash.base" --to "$crash_out" "$@"
}

# crash_points COUNT [FROM [TO]]: record numbers, chosen with $RANDOM: half of them just
# behind or before a sync, where the order of syncs shows, the others anywhere.
crash_points()
{
	local syncs i n from=${2:-1} to=${3:-$crash_end}
	mapfile -t syncs < <(awk -v from="$from" -v to="$to" \
		'$1 > from && $1 <= to && $2 == "sync" { print $1 }' "$T/crash.list")
	for ((i = 0; i < $1; i++)); do
		if ((i % 2 && ${#syncs[@]})); then
			n=$((syncs[(RANDOM << 15 | RANDOM) % ${#syncs[@]}] - RANDOM % 2))
		else
			n=$((from + (RANDOM << 15 | RANDOM) % (to - from + 1)))
		fi
		echo "$n"
	done
}

# crash_check_points SEED [EVERY]: after a crash behind each of the records on stdin, all
# modes in turn, check_point is called: $crash_n is the record, $crash_i counts.  The
# LUNs, recorded in a directory of that last name, are another machine, which does not
# lose power; but with EVERY each EVERYth crash is one of theirs too: $crash_of_luns.
crash_check_points()
{
	local modes=(none all random random random) options rc
	crash_i=0
	while read -r crash_n; do
		crash_i=$((crash_i + 1))
		crash_of_luns=$((${2:-0} && crash_i % ${2:-1} == 0))
		options=(--mode "${modes[crash_i % 5]}" --seed $(($1 + crash_i)))
		((crash_i % 2)) || options+=(--fs posix)
		# What LUNs tear nobody has promised to put together.
		((crash_i % 4 || crash_of_luns)) || options+=(--torn)
		((crash_of_luns)) || options+=(--durable luns)
		echo "crash behind record $crash_n ${options[*]}" > "$T/point"
		crash_rebuild "$crash_n" "${options[@]}" --to "$T" || fail "$(cat "$T/point")"
		# Behind a || no command of it would end it.
		set +e
		(set -e; check_point)
		rc=$?
		set -e
		[ "$rc" -eq 0 ] || fail "after a $(cat "$T/point")"
	done
}

# crash_check_values MARK FILE...: depwrite's are of one instant, each at least what marks
# "MARK I N" say before the crash.
crash_check_values()
{
	local mark=$1 values value least i=0
	shift
	values=$("$top_builddir/tests/depwrite" check "$@") || fail "$mark: $values"
	for value in $values; do
		least=$(last_mark "$crash_n" "$mark $i")
		[ "$value" -ge "$least" ] || fail "$mark: $values, $least of file $i acknowledged"
		i=$((i + 1))
	done
}
