/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_STORE_INT_H
#define LUNFS_STORE_INT_H

/* What the files of the store share; for store*.c only. */

#include <stdbool.h>

#include <sqlite3.h>

#include "engine/store.h"

enum store_table {
	STORE_TABLE_ELEMENT,
	STORE_TABLE_GROUP,
	STORE_TABLE_RELATIONSHIP,
	STORE_TABLE_PAIR,
	STORE_TABLE_JOB,
	STORE_TABLE_POINT,
	STORE_TABLE_HOLD,
	STORE_N_TABLES,
};

enum store_statement {
	STORE_INSERT,
	STORE_UPDATE,
	STORE_DELETE,
	STORE_N_STATEMENTS,
};

enum { STORE_ERROR_MAX = 256 };

struct store {
	sqlite3 *db;
	int dirfd;
	int lock_fd; /* holds the flock */
	bool has_reserve;
	char id[STORE_ID_LEN + 1];

	bool in_transaction;
	int error; /* the first of the transaction; sticks */
	char error_text[STORE_ERROR_MAX];

	/* Prepared when first used. */
	sqlite3_stmt *rows[STORE_N_TABLES][STORE_N_STATEMENTS];
	sqlite3_stmt *members_delete, *members_insert;
	sqlite3_stmt *pool_select, *pool_insert, *pool_count;
};

/* The -errno of what SQLite has just returned (rc: an extended code; not OK, ROW
 * or DONE).  It sticks, with SQLite's text, until the transaction ends. */
int store_fail(struct store *s, int rc);
/* The same for an error that is not SQLite's. */
int store_fail_errno(struct store *s, int error, const char *text);

/* Prepares *stmt unless it is prepared.  0 or -errno. */
int store_prepare(struct store *s, sqlite3_stmt **stmt, const char *sql);

/* Runs a statement that returns no rows and resets it.  0 or -errno. */
int store_step(struct store *s, sqlite3_stmt *stmt);

int store_exec(struct store *s, const char *sql);

/* store_rows.c: ends what it has prepared. */
void store_finalize_rows(struct store *s);

/* store_schema.c: brings the database to the newest schema, and names the
 * store.  -errno, with a sentence. */
int store_migrate(struct store *s, const char *state_dir, char *error, size_t error_size);

#endif
