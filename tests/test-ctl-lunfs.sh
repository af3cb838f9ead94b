#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-2-Clause
#
# tests/test-ctl.sh, with the engine that copies.
LUNFS_UNDER_TEST=${LUNFS:-${top_builddir:-.}/lunfs}
. "${top_srcdir:-$(dirname "$0")/..}/tests/test-ctl.sh"
