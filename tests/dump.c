/* SPDX-License-Identifier: BSD-2-Clause */
#include "tests/dump.h"

#include <check.h>
#include <dirent.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/timefmt.h"
#include "tests/unit.h"
#include "tests/whole.h"

/* ---- the state store ------------------------------------------------------------- */

static void add_rows(sqlite3 *db, const char *table, struct strbuf *b)
{
	sqlite3_stmt *stmt = NULL;
	char sql[128];

	snprintf(sql, sizeof(sql), "SELECT * FROM \"%s\"", table);
	ck_assert_int_eq(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
	while (sqlite3_step(stmt) == SQLITE_ROW) {
		strbuf_addf(b, "row of %s:", table);
		for (int i = 0; i < sqlite3_column_count(stmt); i++) {
			const char *value = (const char *)sqlite3_column_text(stmt, i);

			/* Noted with the next tick, of what was written before. */
			if (!strcmp(sqlite3_column_name(stmt, i), "modified"))
				continue;
			strbuf_addf(b, " %s=%s", sqlite3_column_name(stmt, i),
				    value ? value : "NULL");
		}
		strbuf_addc(b, '\n');
	}
	ck_assert_int_eq(sqlite3_finalize(stmt), SQLITE_OK);
}

static void add_store(struct strbuf *b, bool with_ids)
{
	sqlite3_stmt *stmt = NULL;
	sqlite3 *db = NULL;
	unsigned n = 0;

	ck_assert_int_eq(sqlite3_open_v2(whole_path("state/lunfs.db"), &db,
					 SQLITE_OPEN_READONLY, NULL),
			 SQLITE_OK);
	ck_assert_int_eq(sqlite3_busy_timeout(db, 5000), SQLITE_OK);
	ck_assert_int_eq(
		sqlite3_prepare_v2(db,
				   "SELECT name FROM sqlite_master WHERE type = 'table'",
				   -1, &stmt, NULL),
		SQLITE_OK);
	for (; sqlite3_step(stmt) == SQLITE_ROW; n++) {
		const char *table = (const char *)sqlite3_column_text(stmt, 0);

		if (with_ids || strcmp(table, "sqlite_sequence") != 0)
			add_rows(db, table, b);
	}
	ck_assert_uint_gt(n, 7);
	ck_assert_int_eq(sqlite3_finalize(stmt), SQLITE_OK);
	ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

/* ---- the objects ------------------------------------------------------------------- */

struct ids {
	uint64_t ids[1024];
	size_t n;
};

static void note_id(void *opaque, const char *name, uint64_t id)
{
	struct ids *ids = opaque;

	(void)name;
	ck_assert_uint_lt(ids->n, ROWS(ids->ids));
	ids->ids[ids->n++] = id;
}

static void add_list(enum engine_class class, uint64_t id, unsigned file,
		     struct strbuf *b)
{
	strbuf_adds(b, "list:\n");
	ck_assert_int_eq(engine_list_text(engine, class, id, file, b), 0);
}

static void add_element(uint64_t id, struct strbuf *b)
{
	struct element_info i;

	ck_assert_int_eq(engine_element_info(engine, id, &i), 0);
	strbuf_addf(b,
		    "element %s: %d%d%d%d%d%d size %" PRIu64
		    " block %u status %u error %s "
		    "url %s backing %s serial %s wwn %s\n",
		    i.name, i.configured, i.is_image, i.exclusive, i.reserved, i.known,
		    i.self_contained, i.size, i.block_size, i.operational_status, i.error,
		    i.url, i.backing, i.serial, i.wwn);
	add_list(ENGINE_ELEMENT, id, ELEMENT_GROUPS, b);
	add_list(ENGINE_ELEMENT, id, ELEMENT_RELATIONSHIPS, b);
}

static void note_image(void *opaque, const char *name, uint64_t element, const char *link)
{
	strbuf_addf(opaque, "image %s of element %" PRIu64 " -> %s\n", name, element,
		    link ? link : "");
}

static void add_group(uint64_t id, struct strbuf *b)
{
	struct group_info i;

	ck_assert_int_eq(engine_group_info(engine, id, &i), 0);
	strbuf_addf(b,
		    "group %s: %d%d%d %d %s SyncType %u Mode %u CopyState %u progress %u "
		    "consistency %u %u source %s job %" PRIu64 " times %" PRIi64
		    " %" PRIi64 "\n",
		    i.name, i.persistent, i.delete_on_empty_element,
		    i.delete_on_unassociated, i.has_relationship, i.relationship_name,
		    i.sync_type, i.mode, i.copy_state, i.progress_status, i.consistency,
		    i.consistency_state, i.source, i.job, i.when_established,
		    i.when_synced);
	add_list(ENGINE_GROUP, id, GROUP_SPEC, b);
	add_list(ENGINE_GROUP, id, GROUP_MEMBERS, b);
	add_list(ENGINE_GROUP, id, GROUP_CONTROL, b);
	add_list(ENGINE_GROUP, id, GROUP_RELATIONSHIPS, b);
	engine_list_images(engine, id, note_image, b);
}

static void add_job(uint64_t id, struct strbuf *b)
{
	struct job_info i;

	ck_assert_int_eq(engine_job_info(engine, id, &i), 0);
	strbuf_addf(b, "job %s: state %u error %u group %s\n", i.name, i.state,
		    i.error_code, i.group);
}

static void add_pool(uint64_t id, struct strbuf *b)
{
	struct pool_info i;

	ck_assert_int_eq(engine_pool_info(engine, id, &i), 0);
	strbuf_addf(b, "pool %s\n", i.name);
	add_list(ENGINE_POOL, id, POOL_IMAGES, b);
}

static void add_objects(enum engine_class class, void (*add)(uint64_t, struct strbuf *),
			struct strbuf *b)
{
	struct ids ids = { .n = 0 };

	engine_list(engine, class, 0, note_id, &ids);
	for (size_t i = 0; i < ids.n; i++)
		add(ids.ids[i], b);
}

/* ---- the pool ---------------------------------------------------------------------- */

static int is_file(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static void add_files(struct strbuf *b)
{
	struct dirent **entries;
	int n = scandir(whole_path("pool"), &entries, is_file, alphasort);
	struct stat st;

	ck_assert_int_ge(n, 0);
	for (int i = 0; i < n; i++) {
		const char *path = whole_path("pool/%s", entries[i]->d_name);

		if (stat(path, &st) == 0)
			strbuf_addf(b, "file %s of %lld bytes\n", entries[i]->d_name,
				    (long long)st.st_size);
		free(entries[i]);
	}
	free(entries);
}

void dump_add(struct strbuf *b, bool with_ids)
{
	add_store(b, with_ids);
	add_objects(ENGINE_ELEMENT, add_element, b);
	add_objects(ENGINE_GROUP, add_group, b);
	add_objects(ENGINE_JOB, add_job, b);
	add_objects(ENGINE_POOL, add_pool, b);
	add_files(b);
	ck_assert(!b->failed);
}

const char *dump_difference(const struct strbuf *before, const struct strbuf *after)
{
	static char text[1024];
	const char *a = before->s, *b = after->s;

	while (*a || *b) {
		size_t n = strcspn(a, "\n"), k = strcspn(b, "\n");

		if (n != k || strncmp(a, b, n) != 0) {
			snprintf(text, sizeof(text), "%.*s / %.*s",
				 (int)(n < 400 ? n : 400), a, (int)(k < 400 ? k : 400),
				 b);
			return text;
		}
		a += n + (a[n] == '\n');
		b += k + (b[k] == '\n');
	}
	return "";
}

static bool is_settled(char *difference, size_t size)
{
	CLEANUP_STRBUF struct strbuf a = STRBUF_INIT, b = STRBUF_INIT;

	dump_add(&a, true);
	usleep(2000);
	dump_add(&b, true);
	snprintf(difference, size, "%s", dump_difference(&a, &b));
	return !*difference;
}

void dump_settle(void)
{
	uint64_t until = timefmt_monotonic_ns() + WHOLE_DEADLINE_S * UINT64_C(1000000000);
	char difference[1024];

	while (!is_settled(difference, sizeof(difference)))
		ck_assert_msg(timefmt_monotonic_ns() < until, "it goes on changing: %s",
			      difference);
}
