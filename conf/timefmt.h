/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_TIMEFMT_H
#define LUNFS_TIMEFMT_H

#include <stdint.h>

#include "conf/strbuf.h"

/* Milliseconds since 1970, and nanoseconds of CLOCK_MONOTONIC. */
int64_t timefmt_now_ms(void);
uint64_t timefmt_monotonic_ns(void);

/* "2026-01-31T12:34:56.789Z" (RFC 3339, UTC, milliseconds). */
void timefmt_add(struct strbuf *b, int64_t unix_ms);

/* "12.345": seconds with three decimals. */
void timefmt_add_duration(struct strbuf *b, int64_t ms);

#endif
