/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/timefmt.h"

#include <inttypes.h>
#include <time.h>

int64_t timefmt_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

uint64_t timefmt_monotonic_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void timefmt_add(struct strbuf *b, int64_t unix_ms)
{
	time_t t = (time_t)(unix_ms / 1000);
	char day[32];
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	strbuf_addf(b, "%s.%03dZ", day, (int)(unix_ms % 1000));
}

void timefmt_add_duration(struct strbuf *b, int64_t ms)
{
	strbuf_addf(b, "%" PRId64 ".%03d", ms / 1000, (int)(ms % 1000));
}
