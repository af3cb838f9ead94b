/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libcrashlog.so: records what a process changes on disk, for crashplay to lose some
 * of it.
 *
 *	CRASHLOG_FILE=log CRASHLOG_DIRS=/t/state:/t/pool LD_PRELOAD=.../libcrashlog.so CMD
 *
 * Every change below these directories goes into the log, with its data, in the order
 * in which it takes effect (see crashlog.h; children go on with the same log).  Whoever
 * makes the log notes first which files are there: copy the directories before.
 *
 * One mutex is held over [record, system call] (a write) or [system call, record]
 * (anything else), so that the order of the log is a true one.  Syncs run outside of
 * it: a write may begin and end while a sync runs, and is then not covered by it.
 *
 * Which file a descriptor means is asked of the kernel each time (fstat, and the link
 * in /proc/self/fd), not kept: dup, inheritance and closing need no care.
 *
 * Changes through a shared writable mapping cannot be seen.  That of SQLite's -shm
 * (which no recovery needs) is passed over, each other one, and what else cannot be
 * followed, is an UNSEEN record, which crashplay refuses; test-crashlog.sh holds
 * the log against strace.  sync_file_range() promises nothing and is not recorded.
 *
 * All wrappers make the system call themselves, so nothing is looked up at run time.
 * 64-bit systems only.
 */

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/crashlog_shim.h"

_Static_assert(sizeof(long) == 8, "offsets are passed in one register");

enum { MAX_DIRS = 16, LOG_FD_MIN = 400 };

pthread_mutex_t shim_lock = PTHREAD_MUTEX_INITIALIZER;
int shim_log_fd = -1;
static char *dirs[MAX_DIRS]; /* real paths; written before there are threads */
static unsigned n_dirs;
static uint64_t next_token; /* shim_lock */

/* ---- the log ---- */

void shim_append_locked(struct crashlog_record *r, const char *path, const char *path2,
			const void *data, size_t size)
{
	int saved = errno;
	int e = crashlog_append(shim_log_fd, r, path, path2, data, (uint32_t)size);

	if (e < 0) {
		dprintf(2, "crashlog: writing the log: %s\n", strerror(-e));
		abort();
	}
	errno = saved;
}

uint64_t shim_token_locked(void)
{
	return (uint64_t)getpid() << 32 | (++next_token & UINT32_MAX);
}

void shim_unseen(const char *what, const char *path)
{
	struct crashlog_record r = { .type = CRASHLOG_UNSEEN };
	char text[PATH_MAX + 64];

	snprintf(text, sizeof(text), "%s: %s", what, path);
	pthread_mutex_lock(&shim_lock);
	shim_append_locked(&r, text, NULL, NULL, 0);
	pthread_mutex_unlock(&shim_lock);
}

/* ---- which file ---- */

static bool is_below(const char *path)
{
	for (unsigned i = 0; i < n_dirs; i++) {
		size_t n = strlen(dirs[i]);

		if (!strncmp(path, dirs[i], n) && (path[n] == '/' || !path[n]))
			return true;
	}
	return false;
}

/* The path of a descriptor, "" if it has none; errno is kept. */
static void path_of_fd(int fd, char *buf)
{
	static const char deleted[] = " (deleted)";
	size_t cut = sizeof(deleted) - 1;
	int saved = errno;
	char link[32];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, buf, PATH_MAX - 1);
	buf[n > 0 ? n : 0] = '\0';
	if (n > (ssize_t)cut && !strcmp(buf + n - cut, deleted))
		buf[n - (ssize_t)cut] = '\0';
	errno = saved;
}

/* Is it a file or directory that is recorded?  Then *st and path (may be NULL) tell
 * which. */
bool shim_is_logged_fd(int fd, struct stat *st, char *path)
{
	char buf[PATH_MAX];
	int saved = errno;
	bool r;

	r = shim_log_fd >= 0 && fd != shim_log_fd && fstat(fd, st) == 0 &&
	    (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode));
	if (r) {
		path_of_fd(fd, path ? path : buf);
		r = is_below(path ? path : buf);
	}
	errno = saved;
	return r;
}

/* The real path of a name whose last part is no link to be followed; true if it is
 * to be recorded. */
bool shim_is_logged_name(int dirfd, const char *name, char *path)
{
	char joined[PATH_MAX * 2], *slash;
	int saved = errno;
	bool r = false;

	if (shim_log_fd < 0 || !name || !*name)
		return false;
	if (*name == '/' || dirfd == AT_FDCWD) {
		snprintf(joined, sizeof(joined), "%s%s", *name == '/' ? "" : "./", name);
	} else {
		path_of_fd(dirfd, path);
		snprintf(joined, sizeof(joined), "%s/%s", path, name);
	}
	for (slash = joined + strlen(joined) - 1; slash > joined && *slash == '/';
	     slash--)
		*slash = '\0';
	slash = strrchr(joined, '/');
	*slash = '\0';
	if (realpath(slash == joined ? "/" : joined, path) &&
	    strlen(path) + strlen(slash + 1) + 2 < PATH_MAX) {
		strcat(path, "/");
		strcat(path, slash + 1);
		r = is_below(path);
	}
	errno = saved;
	return r;
}

void shim_set_inode(struct crashlog_record *r, const struct stat *st)
{
	r->dev = st->st_dev;
	r->ino = st->st_ino;
	r->mode = st->st_mode;
	r->size = (uint64_t)st->st_size;
}

/* A record of one inode or name, under the lock. */
void shim_log_inode_locked(unsigned type, const struct stat *st, const char *path)
{
	struct crashlog_record r = { .type = type };

	shim_set_inode(&r, st);
	shim_append_locked(&r, path, NULL, NULL, 0);
}

/* ---- syncs ---- */

static int log_sync(unsigned type, int fd, long call)
{
	struct crashlog_record r = { .type = type };
	struct stat st;
	int result;

	if (shim_log_fd < 0 ||
	    (type == CRASHLOG_SYNC_BEGIN && !shim_is_logged_fd(fd, &st, NULL)))
		return (int)syscall(call, fd);
	if (type == CRASHLOG_SYNC_BEGIN)
		shim_set_inode(&r, &st);
	pthread_mutex_lock(&shim_lock);
	r.token = shim_token_locked();
	shim_append_locked(&r, NULL, NULL, NULL, 0);
	pthread_mutex_unlock(&shim_lock);
	result = (int)syscall(call, fd);
	if (result < 0)
		return result;
	r.type = CRASHLOG_SYNC_END;
	pthread_mutex_lock(&shim_lock);
	shim_append_locked(&r, NULL, NULL, NULL, 0);
	pthread_mutex_unlock(&shim_lock);
	return result;
}

EXPORT int fsync(int fd)
{
	return log_sync(CRASHLOG_SYNC_BEGIN, fd, SYS_fsync);
}

EXPORT int fdatasync(int fd)
{
	return log_sync(CRASHLOG_SYNC_BEGIN, fd, SYS_fdatasync);
}

EXPORT int syncfs(int fd)
{
	return log_sync(CRASHLOG_ALL_BEGIN, fd, SYS_syncfs);
}

EXPORT void sync(void)
{
	log_sync(CRASHLOG_ALL_BEGIN, -1, SYS_sync);
}

/* ---- start ---- */

/* Daemons close what they did not open; the log stays. */
EXPORT int close_range(unsigned first, unsigned last, int flags)
{
	unsigned log = (unsigned)shim_log_fd;

	if (shim_log_fd < 0 || first > log || last < log)
		return (int)syscall(SYS_close_range, first, last, flags);
	if (first < log && syscall(SYS_close_range, first, log - 1, flags) < 0)
		return -1;
	return last > log ? (int)syscall(SYS_close_range, log + 1, last, flags) : 0;
}

EXPORT void closefrom(int first)
{
	close_range(first > 0 ? (unsigned)first : 0, ~0u, 0);
}

static void lock_all(void)
{
	pthread_mutex_lock(&shim_lock);
}

static void unlock_all(void)
{
	pthread_mutex_unlock(&shim_lock);
}

/* What is there when the log begins. */
static void log_tree(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *d;
	struct stat st;

	if (lstat(path, &st) == 0)
		shim_log_inode_locked(CRASHLOG_FILE, &st, path);
	while (dir && (d = readdir(dir))) {
		char below[PATH_MAX];

		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
			continue;
		if (snprintf(below, sizeof(below), "%s/%s", path, d->d_name) >= PATH_MAX)
			abort();
		if (lstat(below, &st) == 0 && S_ISDIR(st.st_mode))
			log_tree(below);
		else if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode))
			shim_log_inode_locked(CRASHLOG_FILE, &st, below);
	}
	if (dir)
		closedir(dir);
}

static void read_dirs(const char *list)
{
	char *copy = strdup(list), *save = NULL;

	for (char *p = strtok_r(copy, ":", &save); p; p = strtok_r(NULL, ":", &save)) {
		if (n_dirs == MAX_DIRS || !(dirs[n_dirs] = realpath(p, NULL)))
			errx(127, "crashlog: CRASHLOG_DIRS: %s: %s", p, strerror(errno));
		n_dirs++;
	}
	free(copy);
}

/* The descriptor is one that no program counts on. */
__attribute__((constructor)) static void start(void)
{
	const char *file = getenv("CRASHLOG_FILE"), *list = getenv("CRASHLOG_DIRS");
	const int flags = O_WRONLY | O_APPEND | O_CLOEXEC;
	bool is_new;
	int fd;

	if (!file || !list)
		return;
	read_dirs(list);
	fd = (int)syscall(SYS_openat, AT_FDCWD, file, flags | O_CREAT | O_EXCL, 0600);
	is_new = fd >= 0;
	if (!is_new)
		fd = (int)syscall(SYS_openat, AT_FDCWD, file, flags);
	shim_log_fd =
		fd < 0 ? -1 : (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, LOG_FD_MIN);
	if (shim_log_fd < 0)
		err(127, "crashlog: %s", file);
	syscall(SYS_close, fd);
	if (is_new) {
		for (unsigned i = 0; i < n_dirs; i++)
			log_tree(dirs[i]);
	}
	pthread_atfork(lock_all, unlock_all, unlock_all);
}
