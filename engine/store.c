/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * Opening and closing, transactions, errors.  The tables are in
 * store_schema.c, the rows in store_rows.c.
 *
 * In state_dir:
 *   lock         flock()ed by the daemon, with its pid as text
 *   lunfs.db     the database, beside it SQLite's -wal and -shm
 *   reserve      16 MiB that nobody needs: given up for one transaction that
 *                must be written when the file system is full (invariant I5)
 */

#include "engine/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <sqlite3.h>

#include "conf/cleanup.h"
#include "engine/store_int.h"

enum {
	RESERVE_SIZE = 16 << 20,
	BUSY_TIMEOUT_MS = 1000, /* for somebody with a shell in the database */
	LOCK_TRIES = 20,
	LOCK_TRY_MS = 10,
};

static const char lock_file[] = "lock";
static const char db_file[] = "lunfs.db";
static const char reserve_file[] = "reserve";

/* Errors. */

static const struct {
	int rc; /* an extended code, or a primary one for all of its kind */
	int error;
} errnos[] = {
	{ SQLITE_CONSTRAINT_UNIQUE, EEXIST },
	{ SQLITE_CONSTRAINT_PRIMARYKEY, EEXIST },
	{ SQLITE_CONSTRAINT_ROWID, EEXIST },
	{ SQLITE_CONSTRAINT_FOREIGNKEY, ENOENT },
	{ SQLITE_IOERR_NOMEM, ENOMEM },
	{ SQLITE_FULL, ENOSPC },
	{ SQLITE_NOMEM, ENOMEM },
	{ SQLITE_READONLY, EROFS },
	{ SQLITE_CORRUPT, EUCLEAN },
	{ SQLITE_NOTADB, EUCLEAN },
	{ SQLITE_BUSY, EBUSY },
	{ SQLITE_LOCKED, EBUSY },
	{ SQLITE_PERM, EACCES },
	{ SQLITE_AUTH, EACCES },
	{ SQLITE_TOOBIG, E2BIG },
};

static int errno_of(int rc, int system_errno)
{
	size_t i;

	for (i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++) {
		if (rc == errnos[i].rc)
			return errnos[i].error;
	}
	for (i = 0; i < sizeof(errnos) / sizeof(errnos[0]); i++) {
		if ((rc & 0xff) == errnos[i].rc)
			return errnos[i].error;
	}
	/* What SQLite calls an input/output error may be a full disk. */
	if (system_errno == ENOSPC || system_errno == EDQUOT)
		return ENOSPC;
	return EIO;
}

int store_fail_errno(struct store *s, int error, const char *text)
{
	if (s->error == 0) {
		if (s->in_transaction)
			s->error = -error;
		snprintf(s->error_text, sizeof(s->error_text), "%s", text);
	}
	return -error;
}

int store_fail(struct store *s, int rc)
{
	return store_fail_errno(s, errno_of(rc, sqlite3_system_errno(s->db)),
				sqlite3_errmsg(s->db));
}

const char *store_error(const struct store *store)
{
	return store->error_text;
}

/* Statements. */

int store_prepare(struct store *s, sqlite3_stmt **stmt, const char *sql)
{
	int rc;

	if (*stmt)
		return 0;
	rc = sqlite3_prepare_v3(s->db, sql, -1, SQLITE_PREPARE_PERSISTENT, stmt, NULL);
	return rc == SQLITE_OK ? 0 : store_fail(s, rc);
}

int store_step(struct store *s, sqlite3_stmt *stmt)
{
	int rc = sqlite3_step(stmt);
	int r = rc == SQLITE_DONE ? 0 : store_fail(s, rc);

	sqlite3_reset(stmt);
	return r;
}

int store_exec(struct store *s, const char *sql)
{
	int rc;

	if (s->error)
		return s->error;
	rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
	return rc == SQLITE_OK ? 0 : store_fail(s, rc);
}

/* The reserve. */

static void make_reserve(struct store *s)
{
	CLEANUP_CLOSE int fd = -1;
	struct statvfs st;
	struct stat file;

	fd = openat(s->dirfd, reserve_file, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	if (fd < 0 || fstat(fd, &file) < 0)
		return;
	if (file.st_blocks * 512 < RESERVE_SIZE) {
		/* Not the last of the space. */
		if (fstatvfs(fd, &st) < 0 ||
		    (uint64_t)st.f_bavail * st.f_frsize < 2 * (uint64_t)RESERVE_SIZE)
			return;
		if (posix_fallocate(fd, 0, RESERVE_SIZE) || fsync(fd) < 0)
			return;
	}
	s->has_reserve = true;
}

void store_use_reserve(struct store *store)
{
	CLEANUP_CLOSE int fd =
		openat(store->dirfd, reserve_file, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	store->has_reserve = false;
	/* Some file systems free the space only when this is on the disk. */
	if (fd >= 0 && ftruncate(fd, 0) == 0)
		fsync(fd);
}

/* Transactions. */

void store_begin(struct store *store)
{
	assert(!store->in_transaction);
	store->in_transaction = true;
	store->error = 0;
	store_exec(store, "BEGIN IMMEDIATE");
}

static void end_transaction(struct store *store)
{
	store->in_transaction = false;
	store->error = 0;
	/* Some errors have rolled back already. */
	if (!sqlite3_get_autocommit(store->db))
		sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
}

int store_commit(struct store *store)
{
	int r;

	assert(store->in_transaction);
	store_exec(store, "COMMIT");
	r = store->error;
	end_transaction(store);
	if (r == 0 && !store->has_reserve)
		make_reserve(store);
	return r;
}

void store_rollback(struct store *store)
{
	assert(store->in_transaction);
	end_transaction(store);
}

/* Opening. */

struct opening {
	struct store *store;
	const char *state_dir;
	char *error;
	size_t error_size;
};

/* "state_dir X: cannot <what>: <errno>" */
static int cannot(struct opening *o, const char *what)
{
	int r = -errno;

	snprintf(o->error, o->error_size, "state_dir %s: cannot %s: %s", o->state_dir,
		 what, strerror(-r));
	return r;
}

static int open_directory(struct opening *o)
{
	if (mkdir(o->state_dir, 0700) < 0 && errno != EEXIST)
		return cannot(o, "make the directory");
	o->store->dirfd = open(o->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return o->store->dirfd < 0 ? cannot(o, "open the directory") : 0;
}

static int read_pid(int fd)
{
	char text[16];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	text[n < 0 ? 0 : n] = '\0';
	return atoi(text);
}

/* store_lock_holder() may have the lock for a moment: tries for 200 ms. */
static int lock_for(int fd, int tries)
{
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK || tries-- == 0)
			return -errno;
		usleep(LOCK_TRY_MS * 1000);
	}
	return 0;
}

static int take_lock(struct opening *o)
{
	char text[16];
	int fd, len, r;

	fd = openat(o->store->dirfd, lock_file, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	if (fd < 0)
		return cannot(o, "open its lock file");
	o->store->lock_fd = fd;
	r = lock_for(fd, LOCK_TRIES);
	if (r == -EWOULDBLOCK) {
		snprintf(
			o->error, o->error_size,
			"state_dir %s: in use by another lunfs (pid %d); stop that one, or "
			"set another state_dir",
			o->state_dir, read_pid(fd));
		return -EBUSY;
	}
	if (r < 0) {
		errno = -r;
		return cannot(o, "lock it");
	}
	len = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || pwrite(fd, text, len, 0) != len)
		return cannot(o, "write its lock file");
	return 0;
}

/* SQLite gives its -wal and -shm the mode of the database. */
static int make_db_file(struct opening *o)
{
	int fd = openat(o->store->dirfd, db_file,
			O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return cannot(o, "make lunfs.db");
	close(fd);
	return 0;
}

static int configure_db(struct store *s)
{
	sqlite3_stmt *stmt = NULL;
	bool is_wal;
	int r;

	sqlite3_extended_result_codes(s->db, 1);
	sqlite3_busy_timeout(s->db, BUSY_TIMEOUT_MS);
	r = store_exec(s, "PRAGMA foreign_keys = ON");
	if (r == 0)
		r = store_exec(s, "PRAGMA synchronous = FULL");
	if (r == 0)
		r = store_prepare(s, &stmt, "PRAGMA journal_mode = WAL");
	if (r < 0)
		return r;
	r = sqlite3_step(stmt);
	is_wal = r == SQLITE_ROW &&
		 strcmp((const char *)sqlite3_column_text(stmt, 0), "wal") == 0;
	if (!is_wal)
		r = r == SQLITE_ROW ? store_fail_errno(s, EOPNOTSUPP,
						       "its file system has no shared "
						       "memory for a write-ahead log") :
				      store_fail(s, r);
	else
		r = 0;
	sqlite3_finalize(stmt);
	return r;
}

static int open_db(struct opening *o)
{
	struct store *s = o->store;
	char path[PATH_MAX];
	int rc, r;

	r = make_db_file(o);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%s/%s", o->state_dir, db_file);
	rc = sqlite3_open_v2(
		path, &s->db,
		SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc != SQLITE_OK && !s->db)
		return -ENOMEM;
	r = rc == SQLITE_OK ? configure_db(s) : store_fail(s, rc);
	if (r < 0) {
		snprintf(o->error, o->error_size,
			 "state_dir %s: cannot open lunfs.db: %s (%s)", o->state_dir,
			 strerror(-r), s->error_text);
		return r;
	}
	r = store_migrate(s, o->state_dir, o->error, o->error_size);
	if (r < 0)
		return r;
	return fsync(s->dirfd) < 0 ? cannot(o, "sync the directory") : 0;
}

static int open_steps(struct opening *o)
{
	int r;

	r = open_directory(o);
	if (r < 0)
		return r;
	r = take_lock(o);
	if (r < 0)
		return r;
	r = open_db(o);
	if (r < 0)
		return r;
	make_reserve(o->store);
	return 0;
}

int store_open(const char *state_dir, struct store **ret_store, char *error,
	       size_t error_size)
{
	struct store *s = calloc(1, sizeof(*s));
	struct opening o = { s, state_dir, error, error_size };
	int r;

	snprintf(error, error_size, "state_dir %s: out of memory", state_dir);
	if (!s)
		return -ENOMEM;
	s->dirfd = -1;
	s->lock_fd = -1;
	r = open_steps(&o);
	if (r < 0) {
		store_close(s);
		return r;
	}
	*ret_store = s;
	return 0;
}

void store_close(struct store *store)
{
	if (!store)
		return;
	assert(!store->in_transaction);
	store_finalize_rows(store);
	sqlite3_close(store->db);
	if (store->lock_fd >= 0)
		close(store->lock_fd);
	if (store->dirfd >= 0)
		close(store->dirfd);
	free(store);
}

const char *store_id(const struct store *store)
{
	return store->id;
}

int store_lock_holder(const char *state_dir)
{
	CLEANUP_CLOSE int fd = -1;
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", state_dir, lock_file) >= PATH_MAX)
		return 0;
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) == 0)
		return 0;
	return read_pid(fd);
}
