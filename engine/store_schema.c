/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The schema, as the steps that lead to it.  `user_version` counts the steps
 * that were taken.  A step that was released is never changed: a new one
 * follows it.
 *
 * AUTOINCREMENT keeps an id from being used again after its row is gone.
 * References are checked at the commit, so the order within a transaction is
 * free.  0 stands for "none" outside and NULL inside, where a reference is
 * meant.
 */

#include "engine/store_int.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static const char *const migrations[] = {
	"CREATE TABLE meta ("
	"	key TEXT PRIMARY KEY,"
	"	value TEXT NOT NULL"
	") WITHOUT ROWID;"

	"CREATE TABLE pool ("
	"	id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"	name TEXT NOT NULL UNIQUE"
	");"

	"CREATE TABLE element ("
	"	id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"	name TEXT NOT NULL UNIQUE,"
	"	origin INTEGER NOT NULL,"
	"	url TEXT NOT NULL,"
	"	exclusive INTEGER NOT NULL,"
	"	pr_key INTEGER NOT NULL,"
	"	size INTEGER NOT NULL,"
	"	block_size INTEGER NOT NULL,"
	"	serial TEXT NOT NULL,"
	"	wwn TEXT NOT NULL,"
	"	pool TEXT NOT NULL,"
	"	generation INTEGER NOT NULL,"
	"	complete INTEGER NOT NULL,"
	"	created INTEGER NOT NULL,"
	"	modified INTEGER NOT NULL"
	");"

	"CREATE TABLE \"group\" ("
	"	id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"	name TEXT NOT NULL UNIQUE,"
	"	persistent INTEGER NOT NULL,"
	"	delete_on_empty_element INTEGER NOT NULL,"
	"	delete_on_unassociated INTEGER NOT NULL,"
	"	created INTEGER NOT NULL"
	");"

	"CREATE TABLE member ("
	"	group_id INTEGER NOT NULL REFERENCES \"group\" ON DELETE CASCADE"
	"		DEFERRABLE INITIALLY DEFERRED,"
	"	position INTEGER NOT NULL,"
	"	element_id INTEGER NOT NULL REFERENCES element"
	"		DEFERRABLE INITIALLY DEFERRED,"
	"	PRIMARY KEY (group_id, position),"
	"	UNIQUE (group_id, element_id)"
	") WITHOUT ROWID;"
	"CREATE INDEX member_element ON member (element_id);"

	"CREATE TABLE job ("
	"	id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"	name TEXT NOT NULL,"
	"	group_id INTEGER REFERENCES \"group\" ON DELETE SET NULL"
	"		DEFERRABLE INITIALLY DEFERRED,"
	"	state INTEGER NOT NULL,"
	"	error_code INTEGER NOT NULL,"
	"	error_description TEXT NOT NULL,"
	"	start_time INTEGER NOT NULL,"
	"	elapsed_ms INTEGER NOT NULL,"
	"	last_state_change INTEGER NOT NULL,"
	"	delete_on_completion INTEGER NOT NULL,"
	"	time_before_removal_ms INTEGER NOT NULL,"
	"	bytes_total INTEGER NOT NULL,"
	"	bytes_copied INTEGER NOT NULL,"
	"	bytes_skipped INTEGER NOT NULL"
	");"
	"CREATE INDEX job_group ON job (group_id);"

	"CREATE TABLE relationship ("
	"	id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"	group_id INTEGER REFERENCES \"group\" DEFERRABLE INITIALLY DEFERRED,"
	"	name TEXT NOT NULL UNIQUE,"
	"	sync_type INTEGER NOT NULL,"
	"	mode INTEGER NOT NULL,"
	"	source_group_id INTEGER REFERENCES \"group\""
	"		DEFERRABLE INITIALLY DEFERRED,"
	"	source_element_id INTEGER REFERENCES element"
	"		DEFERRABLE INITIALLY DEFERRED,"
	"	consistency INTEGER NOT NULL,"
	"	consistency_state INTEGER NOT NULL,"
	"	copy_priority INTEGER NOT NULL,"
	"	spec TEXT NOT NULL,"
	"	pool TEXT NOT NULL,"
	"	job_id INTEGER REFERENCES job ON DELETE SET NULL"
	"		DEFERRABLE INITIALLY DEFERRED,"
	"	detaching INTEGER NOT NULL,"
	"	when_established INTEGER NOT NULL,"
	"	when_synced INTEGER NOT NULL,"
	"	when_synchronized INTEGER NOT NULL,"
	"	when_activated INTEGER NOT NULL,"
	"	when_deactivated INTEGER NOT NULL,"
	"	when_suspended INTEGER NOT NULL"
	");"
	"CREATE INDEX relationship_group ON relationship (group_id);"
	"CREATE INDEX relationship_source_group ON relationship (source_group_id);"
	"CREATE INDEX relationship_source_element ON relationship (source_element_id);"
	"CREATE INDEX relationship_job ON relationship (job_id);"

	"CREATE TABLE pair ("
	"	id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"	relationship_id INTEGER NOT NULL REFERENCES relationship"
	"		ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,"
	"	n INTEGER NOT NULL,"
	"	source_id INTEGER REFERENCES element DEFERRABLE INITIALLY DEFERRED,"
	"	target_id INTEGER REFERENCES element DEFERRABLE INITIALLY DEFERRED,"
	"	copy_state INTEGER NOT NULL,"
	"	progress_status INTEGER NOT NULL,"
	"	when_synced INTEGER NOT NULL,"
	"	bytes_copied INTEGER NOT NULL,"
	"	bytes_skipped INTEGER NOT NULL,"
	"	error TEXT NOT NULL,"
	"	UNIQUE (relationship_id, n)"
	");"
	"CREATE INDEX pair_source ON pair (source_id);"
	"CREATE INDEX pair_target ON pair (target_id);",

	"CREATE TABLE point ("
	"	id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"	source_id INTEGER NOT NULL REFERENCES element ON DELETE CASCADE"
	"		DEFERRABLE INITIALLY DEFERRED,"
	"	pool TEXT NOT NULL,"
	"	size INTEGER NOT NULL,"
	"	sequence INTEGER NOT NULL,"
	"	created INTEGER NOT NULL"
	");"
	"CREATE INDEX point_source ON point (source_id);"
	"ALTER TABLE pair ADD COLUMN point_id INTEGER REFERENCES point"
	"	DEFERRABLE INITIALLY DEFERRED;"
	"ALTER TABLE pair ADD COLUMN written INTEGER NOT NULL DEFAULT 0;"
	"CREATE INDEX pair_point ON pair (point_id);",

	"ALTER TABLE pair ADD COLUMN restore_sequence INTEGER NOT NULL DEFAULT 0;",
	"ALTER TABLE relationship ADD COLUMN shared_method INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE relationship ADD COLUMN quiesce_command TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE relationship ADD COLUMN thaw_command TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE relationship ADD COLUMN when_held INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE relationship ADD COLUMN when_thawed INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE relationship ADD COLUMN thaw_error TEXT NOT NULL DEFAULT '';"
	"CREATE TABLE hold ("
	"	id INTEGER PRIMARY KEY AUTOINCREMENT,"
	"	relationship_id INTEGER REFERENCES relationship ON DELETE SET NULL"
	"		DEFERRABLE INITIALLY DEFERRED,"
	"	method INTEGER NOT NULL,"
	"	source_group TEXT NOT NULL,"
	"	members TEXT NOT NULL,"
	"	elements TEXT NOT NULL,"
	"	thaw_command TEXT NOT NULL,"
	"	began INTEGER NOT NULL"
	");"
	"CREATE INDEX hold_relationship ON hold (relationship_id);",

	"ALTER TABLE element ADD COLUMN access_point TEXT NOT NULL DEFAULT '';",

	"ALTER TABLE element ADD COLUMN reserved INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE element ADD COLUMN read_only INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE relationship ADD COLUMN setting TEXT NOT NULL DEFAULT '';"
	"ALTER TABLE relationship ADD COLUMN max_bytes_per_second"
	"	INTEGER NOT NULL DEFAULT 0;",

	"ALTER TABLE relationship ADD COLUMN digest INTEGER NOT NULL DEFAULT 0;",
};

enum { N_MIGRATIONS = sizeof(migrations) / sizeof(migrations[0]) };

static int get_number(struct store *s, const char *sql)
{
	sqlite3_stmt *stmt = NULL;
	int rc, value, r;

	r = store_prepare(s, &stmt, sql);
	if (r < 0)
		return r;
	rc = sqlite3_step(stmt);
	value = rc == SQLITE_ROW ? sqlite3_column_int(stmt, 0) : 0;
	r = rc == SQLITE_ROW ? 0 : store_fail(s, rc);
	sqlite3_finalize(stmt);
	return r < 0 ? r : value;
}

static int migrate_one(struct store *s, int version)
{
	char sql[64];

	snprintf(sql, sizeof(sql), "PRAGMA user_version = %d", version + 1);
	store_begin(s);
	store_exec(s, migrations[version]);
	store_exec(s, sql);
	return store_commit(s);
}

/* A UUID of random bits (RFC 4122, version 4). */
static int make_id(char id[STORE_ID_LEN + 1])
{
	uint8_t b[16];

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		return -EIO;
	b[6] = (b[6] & 0x0f) | 0x40;
	b[8] = (b[8] & 0x3f) | 0x80;
	snprintf(id, STORE_ID_LEN + 1,
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
		 b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11],
		 b[12], b[13], b[14], b[15]);
	return 0;
}

static int write_id(struct store *s)
{
	char sql[128];
	int r;

	r = make_id(s->id);
	if (r < 0)
		return r;
	snprintf(sql, sizeof(sql), "INSERT INTO meta VALUES ('id', '%s')", s->id);
	store_begin(s);
	store_exec(s, sql);
	return store_commit(s);
}

static int read_id(struct store *s)
{
	sqlite3_stmt *stmt = NULL;
	int rc, r;

	r = store_prepare(s, &stmt, "SELECT value FROM meta WHERE key = 'id'");
	if (r < 0)
		return r;
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_ROW)
		snprintf(s->id, sizeof(s->id), "%s",
			 (const char *)sqlite3_column_text(stmt, 0));
	else if (rc != SQLITE_DONE)
		r = store_fail(s, rc);
	sqlite3_finalize(stmt);
	return r;
}

static int migrate_all(struct store *s)
{
	int version, r = 0;

	version = get_number(s, "PRAGMA user_version");
	if (version < 0)
		return version;
	if (version > N_MIGRATIONS)
		return version;
	for (; r == 0 && version < N_MIGRATIONS; version++)
		r = migrate_one(s, version);
	if (r == 0)
		r = read_id(s);
	if (r == 0 && s->id[0] == '\0')
		r = write_id(s);
	return r;
}

int store_begin_run(struct store *s, int64_t now_ms)
{
	char sql[128];
	int running;

	running = get_number(s, "SELECT count(*) FROM meta WHERE key = 'running'");
	if (running < 0)
		return running;
	store_begin(s);
	if (running) {
		snprintf(sql, sizeof(sql),
			 "UPDATE element SET modified = %" PRId64 " WHERE exclusive",
			 now_ms);
		store_exec(s, sql);
	} else {
		store_exec(s, "INSERT INTO meta VALUES ('running', '')");
	}
	return store_commit(s);
}

int store_end_run(struct store *s)
{
	store_begin(s);
	store_exec(s, "DELETE FROM meta WHERE key = 'running'");
	return store_commit(s);
}

int store_migrate(struct store *s, const char *state_dir, char *error, size_t error_size)
{
	int r = migrate_all(s);

	if (r < 0)
		snprintf(error, error_size,
			 "state_dir %s: cannot read or make lunfs.db: %s (%s)", state_dir,
			 strerror(-r), s->error_text);
	if (r <= 0)
		return r;
	snprintf(
		error, error_size,
		"state_dir %s: lunfs.db is of a newer lunfs (schema %d; this one knows up "
		"to %d); use that lunfs, or another state_dir",
		state_dir, r, N_MIGRATIONS);
	return -EPROTONOSUPPORT;
}
