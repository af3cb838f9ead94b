/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/mount.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/log.h"

enum {
	PROBE_TIMEOUT_MS = 10000,
	MAX_STACKED = 16, /* dead mounts on top of each other */
};

extern char **environ;

/* ---- what is mounted where ------------------------------------------------ */

/* The last component of a path that cannot be asked itself. */
static int resolve_by_parent(const char *path, char **ret_path)
{
	CLEANUP_FREE char *copy = strdup(path);
	CLEANUP_FREE char *parent = NULL;
	const char *base;
	char *slash;
	size_t len;

	if (!copy)
		return -ENOMEM;
	for (len = strlen(copy); len > 1 && copy[len - 1] == '/'; len--)
		copy[len - 1] = '\0';
	slash = strrchr(copy, '/');
	base = slash ? slash + 1 : copy;
	if (slash == copy) {
		parent = strdup("/");
	} else {
		if (slash)
			*slash = '\0';
		parent = realpath(slash ? copy : ".", NULL);
	}
	if (!parent)
		return -errno;
	if (asprintf(ret_path, "%s/%s", strcmp(parent, "/") ? parent : "", base) < 0)
		return -ENOMEM;
	return 0;
}

int mount_resolve(const char *path, char **ret_path)
{
	char *absolute = realpath(path, NULL);
	int r = absolute ? 0 : -errno;

	if (r == -ENOTCONN || r == -ECONNABORTED || r == -EACCES)
		return resolve_by_parent(path, ret_path);
	if (r == 0)
		*ret_path = absolute;
	return r;
}

/* The kernel writes blank, tab, newline and backslash as \ooo. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 |
				       (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* Takes the next blank-separated field off a line; NULL at its end. */
static char *next_field(char **line)
{
	char *field;

	do {
		field = strsep(line, " \n");
	} while (field && !*field);
	return field;
}

/*
 * proc(5): id, parent id, major:minor, root, mount point, options, any number
 * of optional fields, "-", type, source, options of the file system.
 */
static bool parse_line(char *line, const char *path, struct mount_entry *entry)
{
	char *field[5] = { NULL };
	char *type, *options;
	const char *user;

	for (size_t i = 0; i < 5; i++) {
		field[i] = next_field(&line);
		if (!field[i])
			return false;
	}
	unescape(field[4]);
	if (strcmp(field[4], path) != 0)
		return false;
	for (type = next_field(&line); type && strcmp(type, "-") != 0;)
		type = next_field(&line);
	type = next_field(&line);
	next_field(&line);
	options = next_field(&line);
	if (!type || !options)
		return false;
	*entry = (struct mount_entry){ 0 };
	snprintf(entry->device, sizeof(entry->device), "%s", field[2]);
	snprintf(entry->fstype, sizeof(entry->fstype), "%s", type);
	user = strstr(options, "user_id=");
	if (user)
		entry->user = (uid_t)strtoul(user + strlen("user_id="), NULL, 10);
	return true;
}

int mount_find_in(FILE *mountinfo, const char *path, struct mount_entry *ret_entry)
{
	CLEANUP_FREE char *line = NULL;
	struct mount_entry entry;
	size_t size = 0;
	int r = -ENOENT;

	while (getline(&line, &size, mountinfo) > 0) {
		if (!parse_line(line, path, &entry))
			continue;
		*ret_entry = entry; /* what is mounted later stands later */
		r = 0;
	}
	return r;
}

int mount_find(const char *path, struct mount_entry *ret_entry)
{
	FILE *mountinfo = fopen("/proc/self/mountinfo", "re");
	int r;

	if (!mountinfo)
		return -errno;
	r = mount_find_in(mountinfo, path, ret_entry);
	fclose(mountinfo);
	return r;
}

bool mount_is_lunfs(const struct mount_entry *entry)
{
	return strcmp(entry->fstype, "fuse.lunfs") == 0;
}

/* ---- asking and unmounting ------------------------------------------------ */

/* Never returns.  What the kernel has cached is no answer of the daemon. */
static void probe_child(const char *path, int fd)
{
	struct statx stx;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int r, error;
	ssize_t n;

	/* It may stay in the kernel longer than its parent lives: nobody who reads
	 * the parent's output is to wait for that. */
	for (int i = 0; i < 3; i++)
		if (null < 0 || dup2(null, i) < 0)
			close(i);
	r = statx(AT_FDCWD, path, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &stx);
	error = r < 0 ? errno : 0;
	n = write(fd, &error, sizeof(error));
	_exit(n == sizeof(error) ? 0 : 1);
}

static int probe_answer(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	int error, r;

	do {
		r = poll(&pfd, 1, PROBE_TIMEOUT_MS);
	} while (r < 0 && errno == EINTR);
	if (r == 0)
		return -ETIMEDOUT;
	if (r < 0)
		return -errno;
	if (read(fd, &error, sizeof(error)) != sizeof(error))
		return -EIO;
	return error == ECONNABORTED ? -ENOTCONN : -error;
}

int mount_probe(const char *path)
{
	int fds[2], r;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		probe_child(path, fds[1]);
	r = pid < 0 ? -errno : 0;
	close(fds[1]);
	if (r == 0)
		r = probe_answer(fds[0]);
	close(fds[0]);
	if (pid > 0) {
		/* Killed, it ends when the kernel lets it. */
		if (r == -ETIMEDOUT)
			kill(pid, SIGKILL);
		while (waitpid(pid, NULL, r == -ETIMEDOUT ? WNOHANG : 0) < 0 &&
		       errno == EINTR)
			continue;
	}
	return r;
}

/* Runs fusermount3 with no signal blocked: the daemon blocks some. */
static int run_fusermount(const char *path, bool lazily, int *ret_status)
{
	const char *argv[] = { "fusermount3", lazily ? "-uqz" : "-uq", "--", path, NULL };
	posix_spawnattr_t attr;
	sigset_t none;
	pid_t pid;
	int r;

	sigemptyset(&none);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK);
	r = posix_spawnp(&pid, argv[0], NULL, &attr, (char **)argv, environ);
	posix_spawnattr_destroy(&attr);
	if (r != 0)
		return -r;
	while (waitpid(pid, ret_status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

int mount_detach(const char *path, bool lazily)
{
	struct mount_entry entry;
	int status, r;

	if (umount2(path, UMOUNT_NOFOLLOW | (lazily ? MNT_DETACH : 0)) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	r = run_fusermount(path, lazily, &status);
	if (r < 0)
		return r;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	/* It does not tell why; the caller knows that the mount is its own. */
	r = mount_find(path, &entry);
	return r == -ENOENT ? 0 : lazily ? -EPERM : -EBUSY;
}

int mount_clear(const char *path)
{
	int r = mount_detach(path, false);

	return r == -EBUSY ? mount_detach(path, true) : r;
}

/* ---- before mounting ------------------------------------------------------ */

static int say_alive(const char *path, struct strbuf *error)
{
	char pid[32];
	ssize_t n = getxattr(path, "user.lunfs.pid", pid, sizeof(pid) - 1);

	strbuf_addf(error, "%s: LunFS is already mounted here", path);
	if (n > 0) {
		pid[n] = '\0';
		strbuf_addf(error, " (process %.*s)", (int)strcspn(pid, "\n"), pid);
	}
	strbuf_addf(error, ": use it, or end it by lunfs --stop %s", path);
	return -EBUSY;
}

/* A LunFS mount is there: cleared if it is dead. */
static int clear_lunfs(const char *path, const struct mount_entry *entry,
		       struct strbuf *error)
{
	int r = mount_probe(path);

	switch (r) {
	case 0:
		return say_alive(path, error);
	case -ENOTCONN:
		r = mount_clear(path);
		if (r < 0) {
			strbuf_addf(error, "%s: clearing the dead mount here: %s", path,
				    strerror(-r));
			return r;
		}
		log_info("%s: the mount of a LunFS daemon that was killed is cleared",
			 path);
		return 0;
	case -EACCES:
		strbuf_addf(
			error,
			"%s: a LunFS mount of the user with uid %u is here: take another "
			"directory, or let that user run lunfs --stop %s",
			path, (unsigned)entry->user, path);
		return r;
	case -ETIMEDOUT:
		strbuf_addf(error,
			    "%s: LunFS is already mounted here, and its daemon does not "
			    "answer: continue or kill that process",
			    path);
		return r;
	default:
		strbuf_addf(error, "%s: %s", path, strerror(-r));
		return r;
	}
}

static int clear_stacked(const char *path, struct strbuf *error)
{
	struct mount_entry entry;
	int r;

	for (unsigned i = 0; i < MAX_STACKED; i++) {
		if (mount_find(path, &entry) < 0 || !mount_is_lunfs(&entry))
			return 0;
		r = clear_lunfs(path, &entry, error);
		if (r < 0)
			return r;
	}
	strbuf_addf(error,
		    "%s: more than %d dead mounts on top of each other: unmount them",
		    path, MAX_STACKED);
	return -EBUSY;
}

static bool is_empty(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	bool empty = true;

	if (!dir)
		return true;
	while (empty && (entry = readdir(dir)) != NULL)
		empty = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
	closedir(dir);
	return empty;
}

/* fusermount3 asks for both of an unprivileged user. */
static int check_unprivileged(const char *path, bool allow_other, struct strbuf *error)
{
	CLEANUP_FREE char *line = NULL;
	bool allowed = false;
	size_t size = 0;
	FILE *f;

	if (geteuid() == 0)
		return 0;
	if (access(path, W_OK) < 0) {
		strbuf_addf(error,
			    "%s: %s: mounting needs a directory that you may write to",
			    path, strerror(errno));
		return -EACCES;
	}
	if (!allow_other)
		return 0;
	f = fopen("/etc/fuse.conf", "re");
	while (f && !allowed && getline(&line, &size, f) > 0) {
		char *rest = line;
		const char *word = next_field(&rest);

		allowed = word && !strcmp(word, "user_allow_other");
	}
	if (f)
		fclose(f);
	if (!allowed) {
		strbuf_addf(error,
			    "allow_other = yes in [daemon]: without root it needs a "
			    "line user_allow_other in /etc/fuse.conf");
		return -EPERM;
	}
	return 0;
}

int mount_prepare(const char *path, bool allow_other, struct strbuf *error)
{
	struct stat st;
	int r = clear_stacked(path, error);

	if (r < 0)
		return r;
	r = mount_probe(path);
	if (r == -ENOTCONN || r == -ETIMEDOUT) {
		strbuf_addf(
			error,
			"%s: the file system mounted here does not answer (%s): unmount "
			"it, or take another directory",
			path, strerror(-r));
		return r;
	}
	if (r < 0 || stat(path, &st) < 0) {
		r = r < 0 ? r : -errno;
		strbuf_addf(error, "%s: %s%s", path, strerror(-r),
			    r == -ENOENT ? ": make the directory first" : "");
		return r;
	}
	if (!S_ISDIR(st.st_mode)) {
		strbuf_addf(error, "%s: not a directory: LunFS is mounted on a directory",
			    path);
		return -ENOTDIR;
	}
	r = check_unprivileged(path, allow_other, error);
	if (r == 0 && !is_empty(path))
		log_warn("%s: not empty: what is in it is hidden while LunFS is mounted",
			 path);
	return r;
}
