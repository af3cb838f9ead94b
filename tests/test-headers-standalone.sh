#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# Each header compiles alone, and twice: it includes what it uses and has a guard.
set -u

top=${top_srcdir:-$(dirname "$0")/..}
build=${top_builddir:-$top}
tmp=$(mktemp -d) || exit 99
trap 'rm -rf "$tmp"' EXIT

config=()
[ -e "$build/config.h" ] && config=(-include "$build/config.h")
[ ${#config[@]} -gt 0 ] || config=(-D_GNU_SOURCE)
read -ra libs < <(pkg-config --cflags fuse3 libiscsi inih sqlite3 jansson | tr '\n' ' '; echo)
read -ra cc <<< "${CC:-cc}"

headers=0
failed=0
while IFS= read -r header; do
	headers=$((headers + 1))
	printf '#include "%s"\n#include "%s"\ntypedef int not_empty;\n' \
		"$header" "$header" > "$tmp/x.c"
	if ! "${cc[@]}" -std=gnu11 -fsyntax-only -Wall -Wextra -Werror -Wno-unused-parameter \
		-Wno-unused-function -D_FILE_OFFSET_BITS=64 -DFUSE_USE_VERSION=312 \
		-I"$top" "${config[@]}" "${libs[@]}" "$tmp/x.c"; then
		echo "$header does not compile alone"
		failed=$((failed + 1))
	fi
done < <(cd "$top" && find conf engine fs -name '*.h' | sort)

echo "$headers headers, $failed do not compile alone"
[ "$headers" -gt 0 ] && [ "$failed" -eq 0 ]
