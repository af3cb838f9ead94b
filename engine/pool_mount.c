/* SPDX-License-Identifier: BSD-2-Clause */

/*
 * The mount of a path is found by its mount id (/proc/self/fdinfo of an O_PATH
 * descriptor, which asks the file system nothing) in /proc/self/mountinfo:
 *
 *   id parent major:minor root mountpoint options [tags...] - fstype source ...
 *
 * If that is not LunFS, the device below the mount is looked at: major:minor,
 * or for file systems with an anonymous device (btrfs) the source.  In sysfs a
 * partition stands inside its disk, a device-mapper or md device names its
 * slaves, and a loop device its backing file, which is a path again.
 */

#include "engine/pool_mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/strbuf.h"

enum { DEPTH_MAX = 16 };

struct mount {
	unsigned major, minor;
	char fstype[64];
	char source[PATH_MAX];
	char point[PATH_MAX];
};

struct check {
	const char *root;
	struct strbuf chain;
	unsigned depth;
};

static int check_path(struct check *c, const char *path);

static void cleanup_fclose_(FILE **f)
{
	if (*f)
		fclose(*f);
}

#define CLEANUP_FCLOSE __attribute__((cleanup(cleanup_fclose_)))

/* The first line of a file, without the newline. */
static int read_line(const char *path, char *buf, size_t size)
{
	CLEANUP_FCLOSE FILE *f = fopen(path, "re");

	if (!f)
		return -errno;
	if (!fgets(buf, size, f))
		return ferror(f) ? -EIO : -ENODATA;
	buf[strcspn(buf, "\n")] = '\0';
	return 0;
}

/* "\040" in mountinfo is a blank. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++, to++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' &&
		    s[2] <= '7' && s[3] >= '0' && s[3] <= '7') {
			*to = (s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0');
			s += 3;
		} else {
			*to = *s;
		}
	}
	*to = '\0';
}

static bool parse_mount(const char *line, int id, struct mount *m)
{
	const char *dash = strstr(line, " - ");
	int line_id;

	if (!dash ||
	    sscanf(line, "%d %*d %u:%u %*s %4095s", &line_id, &m->major, &m->minor,
		   m->point) != 4 ||
	    line_id != id)
		return false;
	/* A source may be empty: then nothing stands between two blanks. */
	m->source[0] = '\0';
	if (sscanf(dash, " - %63s", m->fstype) != 1)
		return false;
	dash += 3 + strlen(m->fstype);
	if (dash[0] == ' ' && dash[1] != ' ')
		sscanf(dash, " %4095s", m->source);
	unescape(m->fstype);
	unescape(m->source);
	unescape(m->point);
	return true;
}

static int mount_id_of(int fd)
{
	char name[64], line[128];
	CLEANUP_FCLOSE FILE *f = NULL;
	int id;

	snprintf(name, sizeof(name), "/proc/self/fdinfo/%d", fd);
	f = fopen(name, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "mnt_id: %d", &id) == 1)
			return id;
	}
	return -ENODATA;
}

static int mount_of(const struct check *c, int fd, struct mount *ret_mount)
{
	CLEANUP_FREE char *line = NULL;
	CLEANUP_FCLOSE FILE *f = NULL;
	char name[PATH_MAX];
	size_t size = 0;
	int id;

	id = mount_id_of(fd);
	if (id < 0)
		return id;
	snprintf(name, sizeof(name), "%s/proc/self/mountinfo", c->root);
	f = fopen(name, "re");
	if (!f)
		return -errno;
	while (getline(&line, &size, f) > 0) {
		if (parse_mount(line, id, ret_mount))
			return 0;
	}
	return -ENODATA;
}

static bool is_lunfs(const struct mount *m)
{
	if (strcmp(m->fstype, "fuse.lunfs") == 0)
		return true;
	return strcmp(m->fstype, "fuse") == 0 && strcmp(m->source, "lunfs") == 0;
}

static int check_backing_file(struct check *c, const char *device)
{
	static const char deleted[] = " (deleted)";
	char name[PATH_MAX], backing[PATH_MAX];
	size_t len;
	int r;

	snprintf(name, sizeof(name), "%s/loop/backing_file", device);
	r = read_line(name, backing, sizeof(backing));
	if (r == -ENOENT || r == -ENOTDIR || r == -ENODATA)
		return 0;
	if (r < 0)
		return r;
	len = strlen(backing);
	if (len > strlen(deleted) &&
	    strcmp(backing + len - strlen(deleted), deleted) == 0)
		backing[len - strlen(deleted)] = '\0';
	strbuf_adds(&c->chain, ", a loop device over ");
	return check_path(c, backing);
}

static int check_device(struct check *c, const char *device);

static int check_slaves(struct check *c, const char *device)
{
	char name[PATH_MAX], slave[PATH_MAX];
	struct dirent *entry;
	DIR *dir;
	int r = 0;

	snprintf(name, sizeof(name), "%s/slaves", device);
	dir = opendir(name);
	if (!dir)
		return 0;
	while (r == 0 && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		if (snprintf(slave, sizeof(slave), "%s/%s", name, entry->d_name) <
		    (int)sizeof(slave))
			r = check_device(c, slave);
	}
	closedir(dir);
	return r;
}

/* device: its folder in sysfs. */
static int check_device(struct check *c, const char *device)
{
	size_t len = c->chain.len;
	char name[PATH_MAX], disk[PATH_MAX];
	int r;

	if (c->depth++ > DEPTH_MAX)
		return -ELOOP;
	if (snprintf(name, sizeof(name), "%s/partition", device) >= (int)sizeof(name))
		return -ENAMETOOLONG;
	if (access(name, F_OK) == 0) {
		/* The link of a partition leads to a folder in its disk's. */
		if (!realpath(device, disk))
			return -errno;
		*strrchr(disk, '/') = '\0';
		r = check_device(c, disk);
	} else {
		r = check_backing_file(c, device);
		if (r == 0)
			r = check_slaves(c, device);
	}
	c->depth--;
	/* What leads nowhere is not told. */
	if (r == 0 && c->chain.len > len) {
		c->chain.len = len;
		c->chain.s[len] = '\0';
	}
	return r;
}

static int check_dev(struct check *c, dev_t dev)
{
	char device[PATH_MAX];

	snprintf(device, sizeof(device), "%s/sys/dev/block/%u:%u", c->root, major(dev),
		 minor(dev));
	/* No block device. */
	if (access(device, F_OK) < 0)
		return 0;
	return check_device(c, device);
}

/* opened: the path, which the mount is asked about only when it is not LunFS. */
static int check_mount(struct check *c, const struct mount *m, const char *opened)
{
	const char *lies = c->depth > 1 ? ", which lies" : " lies";
	struct stat st;

	if (is_lunfs(m)) {
		strbuf_addf(&c->chain, "%s on the LunFS mount %s", lies, m->point);
		return 1;
	}
	/* What a device node holds is on that device. */
	if (stat(opened, &st) == 0 && S_ISBLK(st.st_mode))
		return check_dev(c, st.st_rdev);
	if (m->source[0] == '/')
		strbuf_addf(&c->chain, "%s on %s", lies, m->source);
	if (m->major != 0)
		return check_dev(c, makedev(m->major, m->minor));
	if (m->source[0] == '/' && stat(m->source, &st) == 0 && S_ISBLK(st.st_mode))
		return check_dev(c, st.st_rdev);
	return 0;
}

/* Opens the path or the nearest parent that is there. */
static int open_nearest(const char *path, char *opened)
{
	int fd;

	if (snprintf(opened, PATH_MAX, "%s", path) >= PATH_MAX)
		return -ENAMETOOLONG;
	for (;;) {
		char *slash = strrchr(opened, '/');

		fd = open(opened, O_PATH | O_CLOEXEC);
		if (fd >= 0)
			return fd;
		if ((errno != ENOENT && errno != ENOTDIR) || !slash || !opened[1])
			return -errno;
		slash[slash == opened] = '\0';
	}
}

static int check_path(struct check *c, const char *path)
{
	CLEANUP_FREE char *opened = malloc(PATH_MAX);
	CLEANUP_FREE struct mount *m = malloc(sizeof(*m));
	CLEANUP_CLOSE int fd = -1;
	int r;

	if (!opened || !m)
		return -ENOMEM;
	if (c->depth++ > DEPTH_MAX)
		return -ELOOP;
	strbuf_adds(&c->chain, path);
	fd = open_nearest(path, opened);
	if (fd < 0)
		return fd;
	r = mount_of(c, fd, m);
	if (r < 0)
		return r;
	r = check_mount(c, m, opened);
	c->depth--;
	return r;
}

int pool_mount_check(const char *root, const char *path, char *chain, size_t size)
{
	struct check c = { .root = root, .chain = STRBUF_INIT };
	int r;

	r = check_path(&c, path);
	if (r == 1)
		snprintf(chain, size, "%s", c.chain.s);
	strbuf_done(&c.chain);
	return r;
}
