#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Each spec that is refused: its errno, its code, a word of its sentence, and that
# it changed nothing in the tree, the pool or the state store.  And how a text may
# be written, and how not.
. "${top_srcdir:-$(dirname "$0")/..}/tests/lib.sh"
need_lunfs
need_cmd sqlite3 python3

fill_random "$T/f0" 1M 1
fill_random "$T/f1" 512K 2
fill_random "$T/f2" 512K 3
fill_random "$T/f3" 512K 4
write_conf <<-END
	[element f0]
	url = file://$T/f0
	access = exclusive

	[element f1]
	url = file://$T/f1
	access = exclusive

	[element open0]
	url = file://$T/f2
	access = shared

	[element nofile]
	url = file://$T/nofile

	[setting quiesced]
	shared_method = quiesce
	quiesce_command = touch $T/quiesced
	thaw_command = touch $T/thawed

	[setting reserved]
	shared_method = reserve

	[setting scanned]
	shared_method = double-scan

	[setting kept]
	shared_method = reserve
	TimeBeforeRemoval = 00000000000500.000000:000

	[setting slow]
	shared_method = reserve
	max_bytes_per_second = 1M

	[setting unasked]
	shared_method = reserve
	thaw_command = touch $T/thawed
END
start_lunfs
cd "$MNT"
mkdir groups/{prod,empty,mixed,full,live,new}
echo "f0 f1" > groups/prod/members
echo "f1 open0" > groups/mixed/members
echo f1 > groups/full/members
echo "SourceElement=f0 SyncType=Clone WaitForCopyState=Synchronized" > groups/live/spec
mkdir elements/{taken_1,bare}
echo "file://$T/f3" > elements/taken_1/url

# Everything but what tells of the write itself.
state()
{
	find . -type d -name wait -prune -o -name result -prune -o \
		-mindepth 2 -printf '%P %y %i %m %l\n' | sort
	grep "" groups/*/{spec,members,CopyState,control,relationships} \
		elements/*/{groups,relationships,url} pools/*/images
	(cd "$POOL" && find . -printf '%P %y %s %b\n' | sort)
	sqlite3 -readonly "$STATE/lunfs.db" .dump
}

# The raw file of the image may still be handed to its owner.
quiet()
{
	state > "$T/state1" && sleep 0.2 && state > "$T/state2" && cmp "$T/state1" "$T/state2"
}
wait_until 10 quiet
state > "$T/before"

unchanged()
{
	state > "$T/after"
	if ! cmp -s "$T/before" "$T/after"; then
		diff "$T/before" "$T/after" >&2 || :
		fail "$1: refused, but it changed something"
	fi
}

# refused GROUP CODE ERROR WORDS TEXT: printf sends the text, \n and all, with a
# newline at its end.
refused()
{
	local g=$1 code=$2 error=$3 words=$4 text=$5
	printf '%b\n' "$text" > "$T/text"
	must_fail cp "$T/text" "groups/$g/spec"
	[[ "$OUTPUT" == *"$error"* ]] || fail "$text: expected \"$error\", got \"$OUTPUT\""
	assert_eq "$code" "$(head -n 1 "groups/$g/result" | cut -d' ' -f1)" "$text: code"
	grep -qiE -- "$words" <(sed -n 2p "groups/$g/result") ||
		fail "$text: no \"$words\" in: $(sed -n 2p "groups/$g/result")"
	assert_eq 3 "$(wc -l < "groups/$g/result")" "$text: lines of result"
	n_rows=$((n_rows + 1))
}

# table GROUP: lines of CODE|ERROR|WORDS|TEXT on standard input.
table()
{
	local code error words text
	while IFS='|' read -r code error words text; do
		case $error in
		EINVAL) error="Invalid argument" ;;
		ENOENT) error="No such file or directory" ;;
		EBUSY) error="Device or resource busy" ;;
		ENOTSUP) error="Operation not supported" ;;
		ENAMETOOLONG) error="File name too long" ;;
		EIO) error="Input/output error" ;;
		*) fail "$error?" ;;
		esac
		refused "$1" "$code" "$error" "$words" "$text"
		unchanged "$text"
	done
}

n_rows=0

# The text.  An INI text is given with \n between its lines.
table new <<'END'
5|EINVAL|one parameter|SyncType=Clone
5|EINVAL|one write is one call|SourceGroup=prod
5|EINVAL|without|
5|EINVAL|last line.*\[Run\]|SourceGroup=prod\nSyncType=Clone
5|EINVAL|last line.*\[Run\]|[Run]\nSourceGroup=prod SyncType=Clone
5|EINVAL|\[Run\]|SourceGroup=prod\nSyncType=Clone\n[run]
5|EINVAL|Run|SourceGroup=prod\n[Run]\nSyncType=Clone\n[Run]
5|EINVAL|no =|SourceGroup=prod SyncType
5|EINVAL|no =|SourceGroup=prod SyncType=Clone now
5|EINVAL|before the =|=prod SyncType=Clone
5|EINVAL|closing double quote|SourceGroup="prod SyncType=Clone
5|EINVAL|double quote|SourceGroup=pr"od" SyncType=Clone
5|EINVAL|NUL|SourceGroup=prod SyncType=Clone\0000
5|EINVAL|carriage return|SourceGroup=prod SyncType=Clone\r
5|EINVAL|control character|SourceGroup=prod SyncType=\0001Clone
5|EINVAL|unknown section|SourceGroup=prod\nSyncType=Clone\n[Goal]\n[Run]
5|EINVAL|twice|SourceGroup=prod SyncType=Clone SyncType=Clone
5|EINVAL|twice.*line 1 and line 3|SyncType=Clone\nSourceGroup=prod\nSyncType=Clone\n[Run]
5|EINVAL|has no value|SourceGroup=prod SyncType=
5|EINVAL|unknown parameter.*SourceGroup|SourceGruop=prod SyncType=Clone
5|EINVAL|unknown parameter|ConnectivityCollection=x SourceGroup=prod SyncType=Clone
5|EINVAL|output|Job=1 SourceGroup=prod SyncType=Clone
5|EINVAL|output|Synchronization=x SourceGroup=prod SyncType=Clone
END
note "texts"

# Values.
table new <<'END'
5|EINVAL|SyncType is missing|SourceGroup=prod Mode=3
5|EINVAL|SyncType|SourceGroup=prod SyncType=0
5|EINVAL|SyncType|SourceGroup=prod SyncType=5
5|EINVAL|SyncType|SourceGroup=prod SyncType=10
5|EINVAL|SyncType|SourceGroup=prod SyncType=32767
5|EINVAL|SyncType.*Clone|SourceGroup=prod SyncType=Clown
1|ENOTSUP|TokenizedClone|SourceGroup=prod SyncType=9
1|ENOTSUP|vendor|SourceGroup=prod SyncType=32768
1|ENOTSUP|vendor|SourceGroup=prod SyncType=65535
5|EINVAL|Mode|SourceGroup=prod SyncType=Clone Mode=0
5|EINVAL|Mode|SourceGroup=prod SyncType=Clone Mode=5
1|ENOTSUP|Adaptive|SourceGroup=prod SyncType=Clone Mode=4
1|ENOTSUP|vendor|SourceGroup=prod SyncType=Clone Mode=40000
5|EINVAL|Consistency|SourceGroup=prod SyncType=Clone Consistency=1
5|EINVAL|Consistency|SourceGroup=prod SyncType=Clone Consistency=4
5|EINVAL|WaitForCopyState|SourceGroup=prod SyncType=Clone WaitForCopyState=Broken
5|EINVAL|WaitForCopyState|SourceGroup=prod SyncType=Clone WaitForCopyState=13
1|ENOTSUP|WaitForCopyState|SourceGroup=prod SyncType=Clone WaitForCopyState=32768
5|EINVAL|TargetElementCount|SourceElement=f0 SyncType=Clone TargetElementCount=0
5|EINVAL|TargetElementCount|SourceElement=f0 SyncType=Clone TargetElementCount=two
5|EINVAL|RelationshipName|SourceGroup=prod SyncType=Clone RelationshipName=.hidden
5|EINVAL|RelationshipName|SourceGroup=prod SyncType=Clone RelationshipName="a b"
5|EINVAL|RelationshipName|SourceGroup=prod SyncType=Clone RelationshipName=a/b
5|ENAMETOOLONG|RelationshipName.*32|SourceGroup=prod SyncType=Clone RelationshipName=aaaaaaaaaabbbbbbbbbbccccccccccddd
5|EINVAL|Mode|SourceGroup=prod SyncType=TokenizedClone Mode=9
END
note "values"

# What they name, and what excludes what.
table new <<'END'
5|ENOENT|SourceGroup: there is no group "prud"; groups: .*prod|SourceGroup=prud SyncType=Clone
5|ENOENT|SourceElement.*"f9".*f0|SourceElement=f9 SyncType=Clone
5|ENOENT|TargetPool.*"p9".*pool0|SourceGroup=prod SyncType=Clone TargetPool=p9
5|EINVAL|SourceGroup.*SourceElement|SourceGroup=prod SourceElement=f0 SyncType=Clone
5|EINVAL|SourceGroup.*SourceElement|Mode=3 SyncType=Clone
5|EINVAL|empty|SourceGroup=empty SyncType=Clone
5|EINVAL|own|SourceGroup=new SyncType=Clone
5|EINVAL|TargetElementCount|SourceGroup=prod SyncType=Clone TargetElementCount=1
5|EINVAL|SourceAccessPoint|SourceElement=iqn.2026-01.org.x:t/1 SyncType=Clone
5|ENOENT|SourceAccessPoint.*access points: none|SourceElement=iqn.2026-01.org.x:t/1 SyncType=Clone SourceAccessPoint=ap
5|ENOENT|SourceAccessPoint.*access points: none|SourceElement=f0 SyncType=Clone SourceAccessPoint=ap
5|ENOENT|TargetAccessPoint.*access points: none|SourceElement=f0 SyncType=Clone TargetAccessPoint=ap
5|EINVAL|TargetGroup|SourceElement=f0 SyncType=Clone TargetGroup=empty TargetElementCount=1
5|EINVAL|source group itself|SourceGroup=prod SyncType=Clone TargetGroup=prod
5|ENOENT|TargetGroup: there is no group "prud"; groups: .*prod|SourceElement=f0 SyncType=Clone TargetGroup=prud
6|EBUSY|group "live" is in a relationship|SourceElement=f0 SyncType=Clone TargetGroup=live
6|EBUSY|target of relationship "live"|SourceElement=live_1 SyncType=Clone
6|EBUSY|RelationshipName.*"live"|SourceGroup=prod SyncType=Clone RelationshipName=live
6|EBUSY|element "taken_1"|SourceGroup=prod SyncType=Clone RelationshipName=taken
1|ENOTSUP|shared_method.*"open0"|SourceGroup=mixed SyncType=Clone Consistency=3
4|EIO|bare|SourceElement=bare SyncType=Clone
END
table full <<'END'
5|EINVAL|TargetGroup=full|SourceElement=f0 SyncType=Clone
END
table live <<'END'
6|EBUSY|relationship already|SourceElement=f0 SyncType=Clone
6|EBUSY|relationship already|SourceGroup=prod SyncType=Clone RelationshipName=other
END
note "names and exclusions"

# What this version does not do; 5 where it would be wrong in any version.
table new <<'END'
5|ENOENT|no \[setting fast\].*kept.*reserved|SourceGroup=prod SyncType=Clone ReplicationSettingData=fast
1|ENOTSUP|ReplicationSettingData=scanned.*double-scan|SourceGroup=mixed SyncType=Clone ReplicationSettingData=scanned
1|ENOTSUP|ReplicationSettingData=kept: TimeBeforeRemoval|SourceGroup=prod SyncType=Clone ReplicationSettingData=kept
1|ENOTSUP|ReplicationSettingData=unasked: a command without|SourceGroup=prod SyncType=Clone ReplicationSettingData=unasked
1|ENOTSUP|Snapshot.*"open0"|SourceGroup=mixed SyncType=Snapshot ReplicationSettingData=quiesced
1|ENOTSUP|AutoDelete: true is not supported|SourceGroup=prod\nSyncType=Clone\n[ReplicationSettingData]\nAutoDelete=true\n[Run]
5|ENOENT|TargetSettingGoal: there is no \[setting thick\]|SourceGroup=prod SyncType=Clone TargetSettingGoal=thick
1|ENOTSUP|TargetElementCount|SourceElement=f0 SyncType=Clone TargetElementCount=257
END
[ ! -e "$T/quiesced" ] && [ ! -e "$T/thawed" ] || fail "a command of a refused spec was run"
note "what is not supported"

# A member that never logs in.
started=$SECONDS
table new <<'END'
4|EIO|nofile|SourceElement=nofile SyncType=Clone
END
[ $((SECONDS - started)) -le 20 ] || fail "a member without a login: $((SECONDS - started)) s"
note "$n_rows rows refused, and nothing was changed"

# ---- pieces ----

in_pieces()
{
	local what=$1
	shift
	if "$@" 2> "$T/err"; then
		fail "$what: accepted"
	fi
	assert_match "Invalid argument" "$(cat "$T/err")" "$what"
	grep -q "one write is one call" groups/new/result || fail "$what: $(cat groups/new/result)"
	unchanged "$what"
}

cat > "$T/ini" <<-END
	# $(head -c 600 < /dev/zero | tr '\0' x | fold -w 100 | paste -sd' ' | cut -c1-150)
	# $(head -c 600 < /dev/zero | tr '\0' y | cut -c1-150)
	# $(head -c 600 < /dev/zero | tr '\0' z | cut -c1-150)
	# $(head -c 600 < /dev/zero | tr '\0' w | cut -c1-150)
	SourceGroup = prod
	SyncType = Clone
	[Run]
END
[ "$(stat -c %s "$T/ini")" -gt 512 ] || fail "the text is too short for dd"
two_printfs() { { printf 'SourceGroup=prod\n' && printf 'SyncType=Clone\n'; } > groups/new/spec; }
lines() { { echo SourceGroup=prod && echo SyncType=Clone && echo "[Run]"; } > groups/new/spec; }
no_newline() { printf 'SourceGroup=prod SyncType=Clone' > groups/new/spec; }
plain_dd() { dd if="$T/ini" of=groups/new/spec; }
small_dd() { dd bs=20 if="$T/ini" of=groups/new/spec; }
pipe() { while IFS= read -r l; do printf '%s\n' "$l" || return; done < "$T/ini" > groups/new/spec; }
dd_line() { echo "SourceGroup=prod SyncType=Clone" | dd bs=16 of=groups/new/spec; }
in_pieces "two printf" two_printfs
in_pieces "three echo" lines
in_pieces "printf without a newline" no_newline
in_pieces "plain dd" plain_dd
in_pieces "dd bs=20" small_dd
in_pieces "a loop" pipe
in_pieces "dd bs=16 of one line" dd_line
head -c 70000 /dev/zero | tr '\0' '#' > "$T/long"
must_fail dd bs=1M if="$T/long" of=groups/new/spec
assert_match "Argument list too long" "$OUTPUT" "70000 bytes"
assert_eq "5 Invalid Parameter" "$(head -n 1 groups/new/result)"
unchanged "70000 bytes"
note "texts in pieces: never a call"

# ---- the result of the own write ----

exec 3<> groups/new/spec
! echo "SourceGroup=prod SyncType=Clown" >&3 2> /dev/null || fail "accepted"
assert_match "^5 Invalid Parameter.*SyncType" "$(paste -sd' ' <&3)" "own result"
echo "SourceGroup=prod SyncType=Clone WaitForCopyState=Synchronized" >&3
assert_eq "0 Completed with No Error" "$(head -n 1 <&3)" "own result"
! echo "SourceGroup=prod SyncType=Clone WaitForCopyState=Synchronized" >&3 2> "$T/err" ||
	fail "a second call on one open"
assert_match "Invalid argument" "$(cat "$T/err")"
assert_match "second write" "$(sed -n 2p <&3)" "own result"
exec 3>&-
cmp "$T/f0" groups/new/images/f0
note "one open, one call: a new one after a failed one, none after an accepted one"

# ---- each way to write it whole ----

write_echo() { echo "SourceGroup=prod SyncType=Clone" > "$1"; }
write_ini() { cat "$T/ini" > "$1"; }
write_cp() { cp "$T/ini" "$1"; }
write_tee() { tee "$1" < "$T/ini" > /dev/null; }
write_dd() { dd bs=64k if="$T/ini" of="$1" status=none; }
write_python() { python3 -c 'import sys; open(sys.argv[2], "wb", 0).write(open(sys.argv[1], "rb").read())' "$T/ini" "$1"; }
write_heredoc()
{
	cat > "$1" <<-END
		SyncType = Clone
		SourceGroup = prod
		[Run]
	END
}
for way in echo ini cp tee dd python heredoc; do
	mkdir groups/$way
	write_$way groups/$way/spec
	assert_eq "4096 Method Parameters Checked - Job Started" "$(head -n 1 groups/$way/result)" $way
	assert_eq Synchronized "$(timeout 20 cat groups/$way/wait/Synchronized)" $way
	cmp "$T/f1" groups/$way/images/f1
done
note "each way to write a text whole"
