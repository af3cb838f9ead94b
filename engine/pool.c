/* SPDX-License-Identifier: BSD-2-Clause */

#include "engine/pool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "engine/chunkmap.h"
#include "engine/digests.h"
#include "engine/pool_mount.h"

enum {
	ID_MAX = 64, /* of a state store, in the lock file */
	FILE_NAME_MAX = 64,
	PROBE_SIZE = 1 << 20,
	PROBE_DIRECT_SIZE = 4096,
};

static const char owner_file[] = "lunfs.pool";
static const char probe_file[] = "lunfs.probe";

struct pool {
	char name[NAME_MAX_LEN + 1];
	char *path;
	int dirfd;
	int owner_fd; /* holds the flock */
	bool direct_io;
};

/* What the steps of opening share. */
struct opening {
	struct pool *pool;
	const char *state_id;
	char *error;
	size_t error_size;
};

static int fail(struct opening *o, int r, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Writes "pool NAME: <sentence>". */
static int fail(struct opening *o, int r, const char *fmt, ...)
{
	va_list ap;
	int n;

	n = snprintf(o->error, o->error_size, "pool %s: ", o->pool->name);
	if (n < 0 || (size_t)n >= o->error_size)
		return r;
	va_start(ap, fmt);
	vsnprintf(o->error + n, o->error_size - n, fmt, ap);
	va_end(ap);
	return r;
}

int pool_refuse_own_mount(const char *what, const char *path, char *error,
			  size_t error_size)
{
	CLEANUP_FREE char *chain = malloc(POOL_MOUNT_CHAIN_MAX);
	int r;

	r = chain ? pool_mount_check("", path, chain, POOL_MOUNT_CHAIN_MAX) : -ENOMEM;
	if (r == 0)
		return 0;
	if (r < 0)
		snprintf(
			error, error_size,
			"%s: cannot find out what %s lies on: %s; use a path that can be "
			"looked at",
			what, path, strerror(-r));
	else
		snprintf(
			error, error_size,
			"%s: %s, and LunFS cannot keep its own data on LunFS; use a path "
			"on another file system",
			what, chain);
	return -EINVAL;
}

static int open_directory(struct opening *o)
{
	struct pool *pool = o->pool;
	struct statvfs st;

	if (mkdir(pool->path, 0700) < 0 && errno != EEXIST)
		return fail(o, -errno, "cannot make %s: %s; make the directory above it",
			    pool->path, strerror(errno));
	pool->dirfd = open(pool->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (pool->dirfd < 0)
		return fail(o, -errno, "cannot open %s: %s; a pool is a directory",
			    pool->path, strerror(errno));
	if (fstatvfs(pool->dirfd, &st) < 0)
		return fail(o, -errno, "cannot look at %s: %s", pool->path,
			    strerror(errno));
	if (st.f_flag & ST_RDONLY)
		return fail(o, -EROFS,
			    "%s is on a file system that is mounted read-only; mount it "
			    "read-write or use another path",
			    pool->path);
	return 0;
}

/* Removes what a daemon that was killed in its probe left behind, too. */
static int open_probe(struct pool *pool)
{
	int fd;

	unlinkat(pool->dirfd, probe_file, 0);
	fd = openat(pool->dirfd, probe_file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

static bool probe_direct(struct pool *pool)
{
	CLEANUP_CLOSE int fd =
		openat(pool->dirfd, probe_file, O_RDWR | O_DIRECT | O_CLOEXEC);
	CLEANUP_FREE void *buf = NULL;

	if (fd < 0 || posix_memalign(&buf, PROBE_DIRECT_SIZE, PROBE_DIRECT_SIZE))
		return false;
	memset(buf, 0, PROBE_DIRECT_SIZE);
	return pwrite(fd, buf, PROBE_DIRECT_SIZE, 0) == PROBE_DIRECT_SIZE &&
	       pread(fd, buf, PROBE_DIRECT_SIZE, 0) == PROBE_DIRECT_SIZE;
}

/* What can the file system do? */
static int probe(struct opening *o)
{
	struct pool *pool = o->pool;
	CLEANUP_CLOSE int fd = open_probe(pool);
	struct stat st;
	int r = 0;

	if (fd < 0)
		return fail(o, fd, "cannot make a file in %s: %s; it must be writable",
			    pool->path, strerror(-fd));
	if (ftruncate(fd, PROBE_SIZE) < 0 || fsync(fd) < 0 || fstat(fd, &st) < 0)
		r = fail(o, -errno, "cannot make a sparse file in %s: %s", pool->path,
			 strerror(errno));
	else if (st.st_blocks * 512 >= PROBE_SIZE)
		r = fail(o, -EOPNOTSUPP,
			 "%s is on a file system without sparse files; use ext4, XFS or "
			 "btrfs",
			 pool->path);
	else
		pool->direct_io = probe_direct(pool);
	unlinkat(pool->dirfd, probe_file, 0);
	return r;
}

/* Writes the owner's id into a lock file that has none yet. */
static int take_ownership(struct opening *o)
{
	char text[ID_MAX + 2];
	int len = snprintf(text, sizeof(text), "%s\n", o->state_id);

	if (pwrite(o->pool->owner_fd, text, len, 0) != len ||
	    fsync(o->pool->owner_fd) < 0 || fsync(o->pool->dirfd) < 0)
		return fail(o, errno ? -errno : -EIO, "cannot write %s/%s: %s",
			    o->pool->path, owner_file, strerror(errno));
	return 0;
}

static int lock_owner_file(struct opening *o)
{
	struct pool *pool = o->pool;
	char id[ID_MAX + 1];
	ssize_t n;

	pool->owner_fd = openat(pool->dirfd, owner_file,
				O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (pool->owner_fd < 0)
		return fail(o, -errno, "cannot open %s/%s: %s", pool->path, owner_file,
			    strerror(errno));
	if (flock(pool->owner_fd, LOCK_EX | LOCK_NB) < 0)
		return fail(o, errno == EWOULDBLOCK ? -EBUSY : -errno,
			    "%s is in use by another lunfs; stop that one or use another "
			    "path",
			    pool->path);
	n = pread(pool->owner_fd, id, ID_MAX, 0);
	if (n < 0)
		return fail(o, -errno, "cannot read %s/%s: %s", pool->path, owner_file,
			    strerror(errno));
	id[n] = '\0';
	id[strcspn(id, "\n")] = '\0';
	/* New, or its maker was killed before the text was there. */
	if (id[0] == '\0')
		return take_ownership(o);
	if (strcmp(id, o->state_id) != 0)
		return fail(o, -EBUSY,
			    "%s belongs to another state_dir (store %s, ours is %s); use "
			    "that state_dir or another path",
			    pool->path, id, o->state_id);
	return 0;
}

bool pool_exists(const char *path)
{
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* What cannot be looked at is for pool_open() to explain. */
	return fd < 0 ? errno != ENOENT :
			!faccessat(fd, owner_file, F_OK, AT_SYMLINK_NOFOLLOW) ||
				errno != ENOENT;
}

static int open_steps(struct opening *o)
{
	char what[NAME_MAX_LEN + 8];
	int r;

	snprintf(what, sizeof(what), "pool %s", o->pool->name);
	r = pool_refuse_own_mount(what, o->pool->path, o->error, o->error_size);
	if (r < 0)
		return r;
	r = open_directory(o);
	if (r < 0)
		return r;
	r = lock_owner_file(o);
	if (r < 0)
		return r;
	return probe(o);
}

int pool_open(const char *name, const char *path, const char *state_id,
	      struct pool **ret_pool, char *error, size_t error_size)
{
	struct pool *pool = calloc(1, sizeof(*pool));
	struct opening o = { pool, state_id, error, error_size };
	int r;

	if (!pool)
		return -ENOMEM;
	snprintf(pool->name, sizeof(pool->name), "%s", name);
	pool->dirfd = -1;
	pool->owner_fd = -1;
	pool->path = strdup(path);
	r = pool->path ? open_steps(&o) : -ENOMEM;
	if (r < 0) {
		pool_close(pool);
		return r;
	}
	*ret_pool = pool;
	return 0;
}

void pool_close(struct pool *pool)
{
	if (!pool)
		return;
	if (pool->owner_fd >= 0)
		close(pool->owner_fd);
	if (pool->dirfd >= 0)
		close(pool->dirfd);
	free(pool->path);
	free(pool);
}

const char *pool_name(const struct pool *pool)
{
	return pool->name;
}

const char *pool_path(const struct pool *pool)
{
	return pool->path;
}

int pool_dirfd(const struct pool *pool)
{
	return pool->dirfd;
}

bool pool_has_direct_io(const struct pool *pool)
{
	return pool->direct_io;
}

void pool_image_file(uint64_t id, char *buf, size_t size)
{
	snprintf(buf, size, "e%" PRIu64 ".raw", id);
}

void pool_map_file(uint64_t id, uint64_t generation, char *buf, size_t size)
{
	if (generation > 1)
		snprintf(buf, size, "e%" PRIu64 ".%" PRIu64 ".map", id, generation);
	else
		snprintf(buf, size, "e%" PRIu64 ".map", id);
}

void pool_digest_file(uint64_t id, uint64_t generation, char *buf, size_t size)
{
	snprintf(buf, size, "e%" PRIu64 ".%" PRIu64 ".digest", id, generation);
}

bool pool_has_lost_image(struct pool *pool, uint64_t id)
{
	char file[64];

	pool_image_file(id, file, sizeof(file));
	return faccessat(pool->dirfd, file, F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
	       errno == ENOENT;
}

static void point_file(uint64_t id, char *buf, size_t size)
{
	snprintf(buf, size, "p%" PRIu64 ".raw", id);
}

void pool_point_map_file(uint64_t id, char *buf, size_t size)
{
	snprintf(buf, size, "p%" PRIu64 ".map", id);
}

/* What does not fit is not begun: it would take all that others need meanwhile. */
static int allocate(int fd, uint64_t size)
{
	struct statvfs st;

	if (fstatvfs(fd, &st) < 0)
		return -errno;
	if (size / st.f_frsize >= st.f_bavail)
		return -ENOSPC;
	/* Not posix_fallocate(), which would write zeros where this is refused. */
	return size > 0 && fallocate(fd, 0, 0, (off_t)size) < 0 ? -errno : 0;
}

static int create_raw(struct pool *pool, const char *file, uint64_t size, bool reserve)
{
	CLEANUP_CLOSE int fd = -1;

	fd = openat(pool->dirfd, file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		    0600);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, size) < 0)
		return -errno;
	if (reserve) {
		int r = allocate(fd, size);

		if (r < 0)
			return r;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

static int create_map(struct pool *pool, const char *file, uint64_t id, uint64_t size,
		      uint64_t generation)
{
	const struct chunkmap_params params = { .id = id,
						.generation = generation,
						.size = size,
						.chunk_size = POOL_CHUNK_SIZE };

	return size > INT64_MAX ? -EFBIG : chunkmap_create(pool->dirfd, file, &params);
}

int pool_create_image(struct pool *pool, uint64_t id, uint64_t size, uint64_t generation,
		      bool reserve)
{
	char file[FILE_NAME_MAX];
	int r = pool_remove_image(pool, id, generation);

	if (r < 0)
		return r;
	pool_image_file(id, file, sizeof(file));
	r = size > INT64_MAX ? -EFBIG : create_raw(pool, file, size, reserve);
	pool_map_file(id, generation, file, sizeof(file));
	if (r == 0)
		r = create_map(pool, file, id, size, generation);
	if (r < 0)
		pool_remove_image(pool, id, generation);
	return r;
}

int pool_create_map(struct pool *pool, uint64_t id, uint64_t size, uint64_t generation)
{
	char file[FILE_NAME_MAX];
	int r = pool_remove_map(pool, id, generation);

	pool_map_file(id, generation, file, sizeof(file));
	return r < 0 ? r : create_map(pool, file, id, size, generation);
}

int pool_create_digest(struct pool *pool, uint64_t id, uint64_t size, uint64_t generation)
{
	const struct digests_params params = { .id = id,
					       .generation = generation,
					       .size = size,
					       .chunk_size = POOL_CHUNK_SIZE };
	char file[FILE_NAME_MAX];
	int r = pool_remove_digest(pool, id, generation);

	pool_digest_file(id, generation, file, sizeof(file));
	return r < 0 ? r : digests_create(pool->dirfd, file, &params);
}

/* What file systems that do not zero a range in place do: punched, and allocated anew. */
static int zero_reserved(int fd, uint64_t size)
{
	const int keep = FALLOC_FL_KEEP_SIZE;

	if (!size || !fallocate(fd, keep | FALLOC_FL_ZERO_RANGE, 0, (off_t)size))
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	return fallocate(fd, keep | FALLOC_FL_PUNCH_HOLE, 0, (off_t)size) < 0 ||
			       fallocate(fd, keep, 0, (off_t)size) < 0 ?
		       -errno :
		       0;
}

int pool_empty_image(struct pool *pool, uint64_t id, uint64_t size, bool reserve)
{
	CLEANUP_CLOSE int fd = pool_open_image(pool, id, O_RDWR);

	if (fd < 0)
		return fd;
	if (reserve)
		return zero_reserved(fd, size);
	return ftruncate(fd, 0) < 0 || ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
}

int pool_create_point(struct pool *pool, uint64_t id, uint64_t size)
{
	char file[FILE_NAME_MAX];
	int r = pool_remove_point(pool, id);

	if (r < 0)
		return r;
	point_file(id, file, sizeof(file));
	r = size > INT64_MAX ? -EFBIG : create_raw(pool, file, size, false);
	pool_point_map_file(id, file, sizeof(file));
	if (r == 0)
		r = create_map(pool, file, id, size, 1);
	if (r < 0)
		pool_remove_point(pool, id);
	return r;
}

void pool_restore_file(uint64_t sequence, char *buf, size_t size)
{
	snprintf(buf, size, "r%" PRIu64 ".map", sequence);
}

int pool_create_restore(struct pool *pool, uint64_t sequence, uint64_t size)
{
	char file[FILE_NAME_MAX];
	int r = pool_remove_restore(pool, sequence);

	pool_restore_file(sequence, file, sizeof(file));
	return r < 0 ? r : create_map(pool, file, sequence, size, 1);
}

int pool_open_point(struct pool *pool, uint64_t id)
{
	char file[FILE_NAME_MAX];
	int fd;

	point_file(id, file, sizeof(file));
	fd = openat(pool->dirfd, file, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int pool_sync(struct pool *pool)
{
	return fsync(pool->dirfd) < 0 ? -errno : 0;
}

/* A published image has mode 0440, which binds its owner unless he is root. */
static int open_published(struct pool *pool, const char *file, int flags)
{
	struct stat st;
	int fd, r;

	if (fstatat(pool->dirfd, file, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid())
		return -EACCES;
	if (fchmodat(pool->dirfd, file, (st.st_mode & 0777) | 0600, 0) < 0)
		return -errno;
	fd = openat(pool->dirfd, file, flags);
	r = fd < 0 ? -errno : fd;
	if (fchmodat(pool->dirfd, file, st.st_mode & 0777, 0) < 0 && r >= 0) {
		r = -errno;
		close(fd);
	}
	return r;
}

int pool_open_image(struct pool *pool, uint64_t id, int flags)
{
	char file[FILE_NAME_MAX];
	int fd;

	flags |= O_NOFOLLOW | O_CLOEXEC;
	pool_image_file(id, file, sizeof(file));
	fd = openat(pool->dirfd, file, flags);
	if (fd >= 0)
		return fd;
	return errno == EACCES ? open_published(pool, file, flags) : -errno;
}

int pool_publish_image(struct pool *pool, uint64_t id, unsigned uid, unsigned gid)
{
	char file[FILE_NAME_MAX];

	pool_image_file(id, file, sizeof(file));
	if (fchownat(pool->dirfd, file, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return fchmodat(pool->dirfd, file, 0440, 0) < 0 ? -errno : 0;
}

static int remove_file(struct pool *pool, const char *file)
{
	return unlinkat(pool->dirfd, file, 0) < 0 && errno != ENOENT ? -errno : 0;
}

int pool_remove_map(struct pool *pool, uint64_t id, uint64_t generation)
{
	char file[FILE_NAME_MAX];

	pool_map_file(id, generation, file, sizeof(file));
	return remove_file(pool, file);
}

int pool_remove_digest(struct pool *pool, uint64_t id, uint64_t generation)
{
	char file[FILE_NAME_MAX];

	pool_digest_file(id, generation, file, sizeof(file));
	return remove_file(pool, file);
}

int pool_remove_image(struct pool *pool, uint64_t id, uint64_t generation)
{
	char file[FILE_NAME_MAX];
	int r1, r2;

	/* Without its map the raw file would pass for complete: it goes first. */
	pool_image_file(id, file, sizeof(file));
	r1 = remove_file(pool, file);
	r2 = r1 < 0 ? 0 : pool_remove_map(pool, id, generation);
	for (unsigned i = 0; i < 2 && i < generation && r1 >= 0 && r2 >= 0; i++)
		r2 = pool_remove_digest(pool, id, generation - i);
	return r1 < 0 ? r1 : r2;
}

int pool_remove_point(struct pool *pool, uint64_t id)
{
	char file[FILE_NAME_MAX];
	int r;

	point_file(id, file, sizeof(file));
	r = remove_file(pool, file);
	pool_point_map_file(id, file, sizeof(file));
	return r < 0 ? r : remove_file(pool, file);
}

int pool_remove_restore(struct pool *pool, uint64_t sequence)
{
	char file[FILE_NAME_MAX];

	pool_restore_file(sequence, file, sizeof(file));
	return remove_file(pool, file);
}

static bool is_name(const char *file, void (*make)(uint64_t id, char *buf, size_t size),
		    uint64_t id)
{
	char canonical[FILE_NAME_MAX];

	make(id, canonical, sizeof(canonical));
	return !strcmp(file, canonical);
}

/* "e12.raw", "e12.map", "e12.3.map", "e12.3.digest", "p7.raw", "p7.map", "r9.map" and
 * nothing else. */
static bool parse_file(const char *file, struct pool_entry *ret)
{
	char canonical[FILE_NAME_MAX], *end;

	if (!strchr("epr", file[0]) || file[1] < '1' || file[1] > '9')
		return false;
	*ret = (struct pool_entry){ .is_point = file[0] == 'p',
				    .is_restore = file[0] == 'r' };
	ret->id = strtoull(file + 1, &end, 10);
	if (ret->is_restore)
		return is_name(file, pool_restore_file, ret->id);
	if (ret->is_point)
		return is_name(file, point_file, ret->id) ||
		       is_name(file, pool_point_map_file, ret->id);
	if (is_name(file, pool_image_file, ret->id))
		return true;
	ret->generation = end[0] == '.' && end[1] >= '1' && end[1] <= '9' ?
				  strtoull(end + 1, NULL, 10) :
				  1;
	pool_digest_file(ret->id, ret->generation, canonical, sizeof(canonical));
	ret->is_digest = !strcmp(file, canonical);
	if (ret->is_digest)
		return true;
	pool_map_file(ret->id, ret->generation, canonical, sizeof(canonical));
	return !strcmp(file, canonical);
}

static DIR *open_listing(struct pool *pool)
{
	int fd = openat(pool->dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir && fd >= 0)
		close(fd);
	return dir;
}

int pool_sweep(struct pool *pool,
	       bool (*known)(void *opaque, const struct pool_entry *file), void *opaque)
{
	DIR *dir = open_listing(pool);
	struct dirent *entry;
	int r = 0, n = 0;

	if (!dir)
		return -errno;
	while (r == 0 && (errno = 0, entry = readdir(dir))) {
		struct pool_entry file;

		if (!parse_file(entry->d_name, &file) || known(opaque, &file))
			continue;
		r = remove_file(pool, entry->d_name);
		n++;
	}
	if (r == 0 && errno)
		r = -errno;
	closedir(dir);
	if (r == 0 && n > 0)
		r = pool_sync(pool);
	return r < 0 ? r : n;
}

int pool_space(struct pool *pool, uint64_t *ret_total, uint64_t *ret_free)
{
	struct statvfs st;

	if (fstatvfs(pool->dirfd, &st) < 0)
		return -errno;
	*ret_total = (uint64_t)st.f_blocks * st.f_frsize;
	*ret_free = (uint64_t)st.f_bavail * st.f_frsize;
	return 0;
}
