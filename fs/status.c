/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/status.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "conf/cim.h"
#include "conf/cleanup.h"
#include "conf/timefmt.h"
#include "fs/idlist.h"
#include "fs/statusjson.h"

const char status_readme[] =
	"This is LunFS " PACKAGE_VERSION ": groups of iSCSI LUNs, copied as one.\n"
	"\n"
	"  elements/   LUNs and images        mkdir elements/E; echo URL > elements/E/url\n"
	"  groups/     groups and replicas    mkdir groups/G; echo \"db0 log0\" > groups/G/members\n"
	"  jobs/       what is running        cat jobs/*/PercentComplete\n"
	"  pools/      where images are made\n"
	"  capabilities/  what is supported, a file for each method of CIM\n"
	"  status      a table to look at     status.json: the same for programs\n"
	"\n"
	"A replica of group prod, as one consistent set (CreateGroupReplica):\n"
	"\n"
	"  mkdir groups/nightly\n"
	"  echo \"SourceGroup=prod SyncType=Clone\" > groups/nightly/spec\n"
	"  cat groups/nightly/result              what became of it, as a sentence\n"
	"  cat groups/nightly/wait/Synchronized   waits until it is complete\n"
	"  ls -l groups/nightly/images            its images: ordinary raw files\n"
	"\n"
	"One write is one command.  What a write is refused for stands in `result` of\n"
	"the same directory.  What a group can be told now: cat groups/G/control.\n"
	"Everything else: man lunfs.\n";

enum {
	BAR_WIDTH = 20,
	NAME_MIN_WIDTH = 16,
};

void status_add_head(struct strbuf *b, int name_width)
{
	strbuf_addf(b, "%-*s %-14s %5s %-*s %11s %9s  %s\n", name_width, "GROUP", "STATE",
		    "DONE", BAR_WIDTH + 2, "", "RATE", "LEFT", "WAITING FOR");
}

static void add_bar(struct strbuf *b, unsigned percent)
{
	unsigned full = (percent > 100 ? 100 : percent) * BAR_WIDTH / 100;

	strbuf_addc(b, '[');
	for (unsigned i = 0; i < BAR_WIDTH; i++)
		strbuf_addc(b, i < full ? '#' : '.');
	strbuf_addc(b, ']');
}

/* "12.3 MB/s" */
static void add_rate(struct strbuf *b, uint64_t bytes_per_second)
{
	static const char units[] = "kMGTPE";
	double value = (double)bytes_per_second / 1000;
	char text[32];
	unsigned unit = 0;

	while (value >= 999.95 && units[unit + 1]) {
		value /= 1000;
		unit++;
	}
	snprintf(text, sizeof(text), "%.1f %cB/s", value, units[unit]);
	strbuf_addf(b, " %11s", text);
}

/* "1:02:03" */
static void add_left(struct strbuf *b, int64_t seconds)
{
	char text[32] = "";

	if (seconds >= 0)
		snprintf(text, sizeof(text), "%" PRId64 ":%02d:%02d", seconds / 3600,
			 (int)(seconds / 60 % 60), (int)(seconds % 60));
	strbuf_addf(b, " %9s", text);
}

static void trim_line(struct strbuf *b)
{
	while (b->len && b->s[b->len - 1] == ' ')
		b->s[--b->len] = '\0';
	strbuf_addc(b, '\n');
}

void status_add_line(struct strbuf *b, const struct group_info *info, int name_width)
{
	const char *state = *info->doing ? info->doing :
					   cim_name(&cim_copy_state, info->copy_state);
	unsigned percent = *info->doing ? info->doing_percent : info->percent_synced;
	bool is_copying = info->bytes_per_second && percent < 100;

	if (!info->has_relationship) {
		strbuf_addf(b, "%-*s -\n", name_width, info->name);
		return;
	}
	strbuf_addf(b, "%-*s %-14s %4u%% ", name_width, info->name, state, percent);
	add_bar(b, percent);
	if (is_copying)
		add_rate(b, info->bytes_per_second);
	else
		strbuf_addf(b, " %11s", "");
	add_left(b, is_copying ? info->seconds_left : -1);
	strbuf_addf(b, "  %s", info->waiting_for);
	trim_line(b);
}

/* ---- all objects ------------------------------------------------------------- */

int status_table(struct engine *e, struct strbuf *b)
{
	CLEANUP_FREE uint64_t *ids = NULL;
	int width = NAME_MIN_WIDTH;
	struct group_info info;
	size_t n;
	int r;

	r = idlist_get(e, ENGINE_GROUP, &ids, &n);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (!engine_group_info(e, ids[i], &info) &&
		    (int)strlen(info.name) > width)
			width = (int)strlen(info.name);
	status_add_head(b, width);
	for (size_t i = 0; i < n; i++)
		if (!engine_group_info(e, ids[i], &info))
			status_add_line(b, &info, width);
	return b->failed ? -ENOMEM : 0;
}

union info {
	struct element_info element;
	struct group_info group;
	struct job_info job;
	struct pool_info pool;
};

/* Adds one object; false if it is gone. */
static bool add_object(struct engine *e, enum engine_class class, uint64_t id,
		       union info *info, struct strbuf *b)
{
	switch (class) {
	case ENGINE_ELEMENT:
		if (engine_element_info(e, id, &info->element))
			return false;
		statusjson_element(b, &info->element);
		return true;
	case ENGINE_GROUP:
		if (engine_group_info(e, id, &info->group))
			return false;
		statusjson_group(b, &info->group);
		return true;
	case ENGINE_JOB:
		if (engine_job_info(e, id, &info->job))
			return false;
		statusjson_job(b, &info->job);
		return true;
	case ENGINE_POOL:
		if (engine_pool_info(e, id, &info->pool))
			return false;
		statusjson_pool(b, &info->pool);
		return true;
	default:
		return false;
	}
}

static int add_objects(struct engine *e, enum engine_class class, const char *name,
		       struct strbuf *b)
{
	CLEANUP_FREE uint64_t *ids = NULL;
	CLEANUP_STRBUF struct strbuf object = STRBUF_INIT;
	const char *before = "\n";
	union info info;
	size_t n;
	int r;

	r = idlist_get(e, class, &ids, &n);
	if (r < 0)
		return r;
	strbuf_addf(b, ",\n\"%s\": [", name);
	for (size_t i = 0; i < n; i++) {
		strbuf_reset(&object);
		if (!add_object(e, class, ids[i], &info, &object))
			continue;
		strbuf_adds(b, before);
		strbuf_add(b, object.s, object.len);
		before = ",\n";
	}
	strbuf_addc(b, ']');
	return object.failed || b->failed ? -ENOMEM : 0;
}

int status_json(struct engine *e, struct strbuf *b)
{
	static const struct {
		enum engine_class class;
		const char *name;
	} lists[] = {
		{ ENGINE_GROUP, "groups" },
		{ ENGINE_ELEMENT, "elements" },
		{ ENGINE_JOB, "jobs" },
		{ ENGINE_POOL, "pools" },
	};
	int r = 0;

	strbuf_addf(b, "{\"schema\": %d, \"version\": \"%s\", \"time\": \"",
		    STATUSJSON_SCHEMA, PACKAGE_VERSION);
	timefmt_add(b, timefmt_now_ms());
	strbuf_addc(b, '"');
	for (size_t i = 0; !r && i < sizeof(lists) / sizeof(lists[0]); i++)
		r = add_objects(e, lists[i].class, lists[i].name, b);
	strbuf_adds(b, "}\n");
	return r ? r : b->failed ? -ENOMEM : 0;
}
