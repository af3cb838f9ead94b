/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Rows.  A table of columns for each row struct (name, place, kind) makes the
 * SQL and moves the values both ways; nothing else names the columns but the
 * schema.  The first column is the id.
 */

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <sqlite3.h>

#include "conf/strbuf.h"
#include "engine/store_int.h"

enum kind {
	KIND_U64, /* kept as the int64_t of the same bits */
	KIND_I64,
	KIND_U32,
	KIND_BOOL,
	KIND_TEXT,  /* const char * */
	KIND_CHARS, /* char[size] */
	KIND_REF,   /* uint64_t, 0 = NULL */
};

struct column {
	const char *name;
	enum kind kind;
	size_t offset;
	size_t size;
};

struct table {
	const char *name; /* as SQL */
	const char *order;
	const struct column *columns;
	size_t n_columns;
};

#define COLUMN_(type, field, kind)                          \
	{                                                   \
#field, kind, offsetof(struct type, field), \
			sizeof(((struct type *)0)->field)   \
	}
#define COLUMN(type, field) \
	COLUMN_(type, field,                                                             \
		_Generic(((struct type *)0)->field, uint64_t                             \
			 : KIND_U64, int64_t                                             \
			 : KIND_I64, unsigned                                            \
			 : KIND_U32, bool                                                \
			 : KIND_BOOL, const char *                                       \
			 : KIND_TEXT, char *                                             \
			 : KIND_CHARS))
#define REF(type, field) COLUMN_(type, field, KIND_REF)

/* clang-format off */
static const struct column element_columns[] = {
	REF(store_element, id),
	COLUMN(store_element, name),
	COLUMN(store_element, origin),
	COLUMN(store_element, url),
	COLUMN(store_element, access_point),
	COLUMN(store_element, exclusive),
	COLUMN(store_element, pr_key),
	COLUMN(store_element, size),
	COLUMN(store_element, block_size),
	COLUMN(store_element, serial),
	COLUMN(store_element, wwn),
	COLUMN(store_element, pool),
	COLUMN(store_element, generation),
	COLUMN(store_element, complete),
	COLUMN(store_element, reserved),
	COLUMN(store_element, read_only),
	COLUMN(store_element, created),
	COLUMN(store_element, modified),
};

static const struct column group_columns[] = {
	REF(store_group, id),
	COLUMN(store_group, name),
	COLUMN(store_group, persistent),
	COLUMN(store_group, delete_on_empty_element),
	COLUMN(store_group, delete_on_unassociated),
	COLUMN(store_group, created),
};

static const struct column relationship_columns[] = {
	REF(store_relationship, id),
	REF(store_relationship, group_id),
	COLUMN(store_relationship, name),
	COLUMN(store_relationship, sync_type),
	COLUMN(store_relationship, mode),
	REF(store_relationship, source_group_id),
	REF(store_relationship, source_element_id),
	COLUMN(store_relationship, consistency),
	COLUMN(store_relationship, consistency_state),
	COLUMN(store_relationship, copy_priority),
	COLUMN(store_relationship, setting),
	COLUMN(store_relationship, max_bytes_per_second),
	COLUMN(store_relationship, digest),
	COLUMN(store_relationship, spec),
	COLUMN(store_relationship, pool),
	REF(store_relationship, job_id),
	COLUMN(store_relationship, detaching),
	COLUMN(store_relationship, when_established),
	COLUMN(store_relationship, when_synced),
	COLUMN(store_relationship, when_synchronized),
	COLUMN(store_relationship, when_activated),
	COLUMN(store_relationship, when_deactivated),
	COLUMN(store_relationship, when_suspended),
	COLUMN(store_relationship, shared_method),
	COLUMN(store_relationship, quiesce_command),
	COLUMN(store_relationship, thaw_command),
	COLUMN(store_relationship, when_held),
	COLUMN(store_relationship, when_thawed),
	COLUMN(store_relationship, thaw_error),
};

static const struct column pair_columns[] = {
	REF(store_pair, id),
	REF(store_pair, relationship_id),
	COLUMN(store_pair, n),
	REF(store_pair, source_id),
	REF(store_pair, target_id),
	COLUMN(store_pair, copy_state),
	COLUMN(store_pair, progress_status),
	COLUMN(store_pair, when_synced),
	REF(store_pair, point_id),
	COLUMN(store_pair, written),
	COLUMN(store_pair, restore_sequence),
	COLUMN(store_pair, bytes_copied),
	COLUMN(store_pair, bytes_skipped),
	COLUMN(store_pair, error),
};

static const struct column job_columns[] = {
	REF(store_job, id),
	COLUMN(store_job, name),
	REF(store_job, group_id),
	COLUMN(store_job, state),
	COLUMN(store_job, error_code),
	COLUMN(store_job, error_description),
	COLUMN(store_job, start_time),
	COLUMN(store_job, elapsed_ms),
	COLUMN(store_job, last_state_change),
	COLUMN(store_job, delete_on_completion),
	COLUMN(store_job, time_before_removal_ms),
	COLUMN(store_job, bytes_total),
	COLUMN(store_job, bytes_copied),
	COLUMN(store_job, bytes_skipped),
};

static const struct column point_columns[] = {
	REF(store_point, id),
	REF(store_point, source_id),
	COLUMN(store_point, pool),
	COLUMN(store_point, size),
	COLUMN(store_point, sequence),
	COLUMN(store_point, created),
};

static const struct column hold_columns[] = {
	REF(store_hold, id),
	REF(store_hold, relationship_id),
	COLUMN(store_hold, method),
	COLUMN(store_hold, source_group),
	COLUMN(store_hold, members),
	COLUMN(store_hold, elements),
	COLUMN(store_hold, thaw_command),
	COLUMN(store_hold, began),
};

#define TABLE(sql_name, order, columns)                                          \
	{ sql_name, order, columns, sizeof(columns) / sizeof((columns)[0]) }

static const struct table tables[STORE_N_TABLES] = {
	[STORE_TABLE_ELEMENT] = TABLE("element", "id", element_columns),
	[STORE_TABLE_GROUP] = TABLE("\"group\"", "id", group_columns),
	[STORE_TABLE_RELATIONSHIP] = TABLE("relationship", "id", relationship_columns),
	[STORE_TABLE_PAIR] = TABLE("pair", "relationship_id, n", pair_columns),
	[STORE_TABLE_JOB] = TABLE("job", "id", job_columns),
	[STORE_TABLE_POINT] = TABLE("point", "id", point_columns),
	[STORE_TABLE_HOLD] = TABLE("hold", "id", hold_columns),
};
/* clang-format on */

union any_row {
	struct store_element element;
	struct store_group group;
	struct store_relationship relationship;
	struct store_pair pair;
	struct store_job job;
	struct store_point point;
	struct store_hold hold;
};

/* SQL. */

static void add_names(struct strbuf *b, const struct table *t)
{
	size_t i;

	for (i = 0; i < t->n_columns; i++)
		strbuf_addf(b, "%s%s", i ? ", " : "", t->columns[i].name);
}

static void make_insert(struct strbuf *b, const struct table *t)
{
	size_t i;

	strbuf_addf(b, "INSERT INTO %s (", t->name);
	add_names(b, t);
	strbuf_adds(b, ") VALUES (");
	for (i = 0; i < t->n_columns; i++)
		strbuf_addf(b, "%s?%zu", i ? ", " : "", i + 1);
	strbuf_adds(b, ")");
}

static void make_update(struct strbuf *b, const struct table *t)
{
	size_t i;

	strbuf_addf(b, "UPDATE %s SET ", t->name);
	for (i = 1; i < t->n_columns; i++)
		strbuf_addf(b, "%s%s = ?%zu", i > 1 ? ", " : "", t->columns[i].name,
			    i + 1);
	strbuf_adds(b, " WHERE id = ?1");
}

static void make_delete(struct strbuf *b, const struct table *t)
{
	strbuf_addf(b, "DELETE FROM %s WHERE id = ?1", t->name);
}

static void make_select(struct strbuf *b, const struct table *t)
{
	strbuf_adds(b, "SELECT ");
	add_names(b, t);
	strbuf_addf(b, " FROM %s ORDER BY %s", t->name, t->order);
}

static int prepare_made(struct store *s, sqlite3_stmt **stmt,
			void (*make)(struct strbuf *b, const struct table *t),
			const struct table *t)
{
	CLEANUP_STRBUF struct strbuf sql = STRBUF_INIT;

	if (*stmt)
		return 0;
	make(&sql, t);
	if (sql.failed)
		return store_fail_errno(s, ENOMEM, "out of memory");
	return store_prepare(s, stmt, sql.s);
}

/* Values. */

static int bind_text(sqlite3_stmt *stmt, int i, const char *text)
{
	return sqlite3_bind_text(stmt, i, text ? text : "", -1, SQLITE_STATIC);
}

static int bind_id(sqlite3_stmt *stmt, int i, uint64_t id)
{
	return id ? sqlite3_bind_int64(stmt, i, id) : sqlite3_bind_null(stmt, i);
}

static int bind_column(sqlite3_stmt *stmt, int i, const struct column *c, const void *row)
{
	const void *p = (const char *)row + c->offset;

	switch (c->kind) {
	case KIND_U64:
		return sqlite3_bind_int64(stmt, i, *(const uint64_t *)p);
	case KIND_I64:
		return sqlite3_bind_int64(stmt, i, *(const int64_t *)p);
	case KIND_U32:
		return sqlite3_bind_int64(stmt, i, *(const unsigned *)p);
	case KIND_BOOL:
		return sqlite3_bind_int(stmt, i, *(const bool *)p);
	case KIND_TEXT:
		return bind_text(stmt, i, *(const char *const *)p);
	case KIND_CHARS:
		return bind_text(stmt, i, p);
	case KIND_REF:
		return bind_id(stmt, i, *(const uint64_t *)p);
	}
	return SQLITE_MISUSE;
}

/* NULL only where SQLite has no memory. */
static const char *text_of(sqlite3_stmt *stmt, int i)
{
	const unsigned char *text = sqlite3_column_text(stmt, i);

	return text ? (const char *)text : "";
}

static void read_column(sqlite3_stmt *stmt, int i, const struct column *c, void *row)
{
	void *p = (char *)row + c->offset;

	switch (c->kind) {
	case KIND_U64:
	case KIND_REF:
		*(uint64_t *)p = sqlite3_column_int64(stmt, i);
		break;
	case KIND_I64:
		*(int64_t *)p = sqlite3_column_int64(stmt, i);
		break;
	case KIND_U32:
		*(unsigned *)p = sqlite3_column_int64(stmt, i);
		break;
	case KIND_BOOL:
		*(bool *)p = sqlite3_column_int(stmt, i) != 0;
		break;
	case KIND_TEXT:
		*(const char **)p = text_of(stmt, i);
		break;
	case KIND_CHARS:
		snprintf(p, c->size, "%s", text_of(stmt, i));
		break;
	}
}

/* Changes. */

static int bind_row(struct store *s, sqlite3_stmt *stmt, const struct table *t,
		    const void *row)
{
	size_t i;

	for (i = 0; i < t->n_columns; i++) {
		int rc = bind_column(stmt, i + 1, &t->columns[i], row);

		if (rc != SQLITE_OK)
			return store_fail(s, rc);
	}
	return 0;
}

static int64_t row_insert(struct store *s, enum store_table table, const void *row)
{
	sqlite3_stmt **stmt = &s->rows[table][STORE_INSERT];
	int r;

	assert(s->in_transaction);
	if (s->error)
		return s->error;
	r = prepare_made(s, stmt, make_insert, &tables[table]);
	if (r == 0)
		r = bind_row(s, *stmt, &tables[table], row);
	if (r == 0)
		r = store_step(s, *stmt);
	return r < 0 ? r : sqlite3_last_insert_rowid(s->db);
}

/* Runs a statement that has to change one row. */
static int step_one_row(struct store *s, sqlite3_stmt *stmt)
{
	int r = store_step(s, stmt);

	if (r == 0 && sqlite3_changes(s->db) == 0)
		r = store_fail_errno(s, ENOENT, "there is no row of that id");
	return r;
}

static int row_update(struct store *s, enum store_table table, const void *row)
{
	sqlite3_stmt **stmt = &s->rows[table][STORE_UPDATE];
	int r;

	assert(s->in_transaction);
	if (s->error)
		return s->error;
	r = prepare_made(s, stmt, make_update, &tables[table]);
	if (r == 0)
		r = bind_row(s, *stmt, &tables[table], row);
	return r < 0 ? r : step_one_row(s, *stmt);
}

static int row_delete(struct store *s, enum store_table table, uint64_t id)
{
	sqlite3_stmt **stmt = &s->rows[table][STORE_DELETE];
	int r;

	assert(s->in_transaction);
	if (s->error)
		return s->error;
	r = prepare_made(s, stmt, make_delete, &tables[table]);
	if (r < 0)
		return r;
	sqlite3_bind_int64(*stmt, 1, id);
	return step_one_row(s, *stmt);
}

int64_t store_element_insert(struct store *s, const struct store_element *row)
{
	return row_insert(s, STORE_TABLE_ELEMENT, row);
}

int store_element_update(struct store *s, const struct store_element *row)
{
	return row_update(s, STORE_TABLE_ELEMENT, row);
}

int store_element_delete(struct store *s, uint64_t id)
{
	return row_delete(s, STORE_TABLE_ELEMENT, id);
}

int64_t store_group_insert(struct store *s, const struct store_group *row)
{
	return row_insert(s, STORE_TABLE_GROUP, row);
}

int store_group_update(struct store *s, const struct store_group *row)
{
	return row_update(s, STORE_TABLE_GROUP, row);
}

int store_group_delete(struct store *s, uint64_t id)
{
	return row_delete(s, STORE_TABLE_GROUP, id);
}

int64_t store_relationship_insert(struct store *s, const struct store_relationship *row)
{
	return row_insert(s, STORE_TABLE_RELATIONSHIP, row);
}

int store_relationship_update(struct store *s, const struct store_relationship *row)
{
	return row_update(s, STORE_TABLE_RELATIONSHIP, row);
}

int store_relationship_delete(struct store *s, uint64_t id)
{
	return row_delete(s, STORE_TABLE_RELATIONSHIP, id);
}

int64_t store_pair_insert(struct store *s, const struct store_pair *row)
{
	return row_insert(s, STORE_TABLE_PAIR, row);
}

int store_pair_update(struct store *s, const struct store_pair *row)
{
	return row_update(s, STORE_TABLE_PAIR, row);
}

int64_t store_point_insert(struct store *s, const struct store_point *row)
{
	return row_insert(s, STORE_TABLE_POINT, row);
}

int store_point_update(struct store *s, const struct store_point *row)
{
	return row_update(s, STORE_TABLE_POINT, row);
}

int store_point_delete(struct store *s, uint64_t id)
{
	return row_delete(s, STORE_TABLE_POINT, id);
}

int64_t store_hold_insert(struct store *s, const struct store_hold *row)
{
	return row_insert(s, STORE_TABLE_HOLD, row);
}

int store_hold_update(struct store *s, const struct store_hold *row)
{
	return row_update(s, STORE_TABLE_HOLD, row);
}

int store_hold_delete(struct store *s, uint64_t id)
{
	return row_delete(s, STORE_TABLE_HOLD, id);
}

int64_t store_job_insert(struct store *s, const struct store_job *row)
{
	return row_insert(s, STORE_TABLE_JOB, row);
}

int store_job_update(struct store *s, const struct store_job *row)
{
	return row_update(s, STORE_TABLE_JOB, row);
}

int store_job_delete(struct store *s, uint64_t id)
{
	return row_delete(s, STORE_TABLE_JOB, id);
}

/* Members and pools, which have no struct. */

int store_members_set(struct store *s, uint64_t group_id, const uint64_t *element_ids,
		      size_t n)
{
	size_t i;
	int r;

	assert(s->in_transaction);
	if (s->error)
		return s->error;
	r = store_prepare(s, &s->members_delete,
			  "DELETE FROM member WHERE group_id = ?1");
	if (r == 0)
		r = store_prepare(s, &s->members_insert,
				  "INSERT INTO member (group_id, position, element_id) "
				  "VALUES (?1, ?2, ?3)");
	if (r < 0)
		return r;
	sqlite3_bind_int64(s->members_delete, 1, group_id);
	r = store_step(s, s->members_delete);
	for (i = 0; r == 0 && i < n; i++) {
		sqlite3_bind_int64(s->members_insert, 1, group_id);
		sqlite3_bind_int64(s->members_insert, 2, i);
		sqlite3_bind_int64(s->members_insert, 3, element_ids[i]);
		r = store_step(s, s->members_insert);
	}
	return r;
}

/* The number that a SELECT has of a name; 0: no row. */
static int64_t select_number(struct store *s, sqlite3_stmt **stmt, const char *sql,
			     const char *name)
{
	int64_t n = 0;
	int rc, r;

	r = store_prepare(s, stmt, sql);
	if (r < 0)
		return r;
	bind_text(*stmt, 1, name);
	rc = sqlite3_step(*stmt);
	if (rc == SQLITE_ROW)
		n = sqlite3_column_int64(*stmt, 0);
	else if (rc != SQLITE_DONE)
		n = store_fail(s, rc);
	sqlite3_reset(*stmt);
	return n;
}

/* The id of a pool, 0 if it has none yet. */
static int64_t find_pool(struct store *s, const char *name)
{
	return select_number(s, &s->pool_select, "SELECT id FROM pool WHERE name = ?1",
			     name);
}

static int insert_pool(struct store *s, const char *name)
{
	int r;

	if (s->error)
		return s->error;
	r = store_prepare(s, &s->pool_insert, "INSERT INTO pool (name) VALUES (?1)");
	if (r < 0)
		return r;
	bind_text(s->pool_insert, 1, name);
	return store_step(s, s->pool_insert);
}

int64_t store_pool_id(struct store *s, const char *name)
{
	bool own = !s->in_transaction;
	int64_t id = find_pool(s, name);
	int r;

	if (id != 0)
		return id;
	if (own)
		store_begin(s);
	r = insert_pool(s, name);
	if (own)
		r = store_commit(s);
	return r < 0 ? r : find_pool(s, name);
}

int64_t store_pool_count(struct store *s, const char *name)
{
	return select_number(s, &s->pool_count,
			     "SELECT (SELECT count(*) FROM element WHERE pool = ?1) + "
			     "(SELECT count(*) FROM point WHERE pool = ?1)",
			     name);
}

/* Reading. */

static int read_rows(struct store *s, sqlite3_stmt *stmt, const struct table *t,
		     int (*fn)(void *opaque, const void *row), void *opaque)
{
	union any_row row;
	size_t i;
	int rc, r = 0;

	while (r == 0 && (rc = sqlite3_step(stmt)) != SQLITE_DONE) {
		if (rc != SQLITE_ROW)
			return store_fail(s, rc);
		memset(&row, 0, sizeof(row));
		for (i = 0; i < t->n_columns; i++)
			read_column(stmt, i, &t->columns[i], &row);
		r = fn(opaque, &row);
	}
	return r;
}

static int each_row(struct store *s, enum store_table table,
		    int (*fn)(void *opaque, const void *row), void *opaque)
{
	sqlite3_stmt *stmt = NULL;
	int r;

	r = prepare_made(s, &stmt, make_select, &tables[table]);
	if (r == 0)
		r = read_rows(s, stmt, &tables[table], fn, opaque);
	sqlite3_finalize(stmt);
	return r;
}

/* A callback of a row type, called by the callback of any row. */
#define DEFINE_EACH(x, table)                                                    \
	struct each_##x {                                                        \
		int (*fn)(void *opaque, const struct store_##x *row);            \
		void *opaque;                                                    \
	};                                                                       \
                                                                                 \
	static int call_##x(void *opaque, const void *row)                       \
	{                                                                        \
		struct each_##x *each = opaque;                                  \
                                                                                 \
		return each->fn(each->opaque, row);                              \
	}                                                                        \
                                                                                 \
	int store_each_##x(struct store *s,                                      \
			   int (*fn)(void *opaque, const struct store_##x *row), \
			   void *opaque)                                         \
	{                                                                        \
		struct each_##x each = { fn, opaque };                           \
                                                                                 \
		return each_row(s, table, call_##x, &each);                      \
	}

DEFINE_EACH(element, STORE_TABLE_ELEMENT)
DEFINE_EACH(group, STORE_TABLE_GROUP)
DEFINE_EACH(relationship, STORE_TABLE_RELATIONSHIP)
DEFINE_EACH(pair, STORE_TABLE_PAIR)
DEFINE_EACH(point, STORE_TABLE_POINT)
DEFINE_EACH(hold, STORE_TABLE_HOLD)
DEFINE_EACH(job, STORE_TABLE_JOB)

int store_each_member(struct store *s,
		      int (*fn)(void *opaque, uint64_t group_id, uint64_t element_id),
		      void *opaque)
{
	sqlite3_stmt *stmt = NULL;
	int rc, r;

	r = store_prepare(s, &stmt,
			  "SELECT group_id, element_id FROM member "
			  "ORDER BY group_id, position");
	while (r == 0 && (rc = sqlite3_step(stmt)) != SQLITE_DONE) {
		if (rc == SQLITE_ROW)
			r = fn(opaque, sqlite3_column_int64(stmt, 0),
			       sqlite3_column_int64(stmt, 1));
		else
			r = store_fail(s, rc);
	}
	sqlite3_finalize(stmt);
	return r;
}

void store_finalize_rows(struct store *s)
{
	int table, i;

	for (table = 0; table < STORE_N_TABLES; table++) {
		for (i = 0; i < STORE_N_STATEMENTS; i++)
			sqlite3_finalize(s->rows[table][i]);
	}
	sqlite3_finalize(s->members_delete);
	sqlite3_finalize(s->members_insert);
	sqlite3_finalize(s->pool_select);
	sqlite3_finalize(s->pool_insert);
	sqlite3_finalize(s->pool_count);
}
