#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# lunfs.conf(5) describes every key that the configuration has, in the section
# where it has it, and no other; and the page has no mistake in its markup.
set -u
export LC_ALL=C

top=${top_srcdir:-$(dirname "$0")/..}
build=${top_builddir:-$top}
page=$top/conf/lunfs.conf.5
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT

# man_keys PAGE: "section key" of each `.BI "key = "` below `.SS "[section ...]"`.
man_keys()
{
	awk '
		/^\.S[HS]/ { section = "" }
		/^\.SS "\[/ { section = $2; gsub(/["\[\]]/, "", section) }
		section != "" && /^\.BI "[A-Za-z_]+ = " / {
			key = $2; sub(/^"/, "", key); print section, key
		}' "$1" | sort
}

if [ ! -x "$build/tests/check_config" ]; then
	echo "tests/check_config is not built: it needs the library check"
	exit 77
fi
"$build/tests/check_config" --keys | sort > "$tmp/code" || exit 1
[ "$(wc -l < "$tmp/code")" -gt 50 ] || { echo "check_config --keys prints too little"; exit 1; }

# The comparison sees a key that is missing, one too many, and one elsewhere.
man_keys "$page" > "$tmp/man"
for change in '/^\.BI "portal = "/d' 's/^\.BI "lun = "/.BI "lum = "/' \
	's/^\.SS "\[pool NAME\]"/.SS "[daemon]"/'; do
	sed "$change" "$page" > "$tmp/changed.5"
	if man_keys "$tmp/changed.5" | cmp -s - "$tmp/code"; then
		echo "the test does not notice: $change"
		exit 1
	fi
done

if ! diff -u --label lunfs.conf.5 --label config_keys "$tmp/man" "$tmp/code"; then
	echo "lunfs.conf(5) and config_keys[] differ (-: only in the page, +: only in the code)"
	exit 1
fi

if command -v groff > /dev/null; then
	groff -ww -man -Tutf8 "$page" 2> "$tmp/warnings" > /dev/null
	if [ -s "$tmp/warnings" ]; then
		cat "$tmp/warnings"
		exit 1
	fi
fi
