/* SPDX-License-Identifier: BSD-2-Clause */
#include "fs/stop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "conf/cleanup.h"
#include "conf/log.h"
#include "fs/daemon.h"
#include "fs/mount.h"

enum {
	/* Past the daemon's own limit something holds it that no signal ends. */
	STOP_TIMEOUT_MS = (DAEMON_END_TIMEOUT_S + 15) * 1000,
};

/* The value of an attribute as a text (to be freed), or NULL and errno. */
static char *get_text(const char *path, const char *name)
{
	ssize_t size = getxattr(path, name, NULL, 0);
	char *text;

	for (unsigned tries = 0; size >= 0 && tries < 8; tries++) {
		text = malloc((size_t)size + 1);
		if (!text)
			return NULL;
		size = getxattr(path, name, text, (size_t)size);
		if (size >= 0) {
			text[size] = '\0';
			return text;
		}
		free(text);
		if (errno != ERANGE) /* it grew in between */
			return NULL;
		size = getxattr(path, name, NULL, 0);
	}
	return NULL;
}

static int fail_errno(const char *path, const char *what, int error)
{
	log_error("%s: %s: %s", path, what, strerror(error));
	return 1;
}

/* ---- which daemon --------------------------------------------------------- */

static int clear_dead(const char *path)
{
	int r = mount_clear(path);

	if (r < 0)
		return fail_errno(path, "clearing the mount of a daemon that was killed",
				  -r);
	printf("%s: its daemon was gone already (killed?); the dead mount is cleared\n",
	       path);
	return 0;
}

/* 1 with a live daemon; else the exit code is in *ret_code. */
static bool is_alive(const char *path, int *ret_code)
{
	struct mount_entry entry;
	int r = mount_find(path, &entry);

	*ret_code = 1;
	if (r < 0 || !mount_is_lunfs(&entry)) {
		log_error("%s: no LunFS is mounted here: see findmnt -t fuse.lunfs",
			  path);
		return false;
	}
	r = mount_probe(path);
	switch (r) {
	case 0:
		return true;
	case -ENOTCONN:
		*ret_code = clear_dead(path);
		return false;
	case -EACCES:
		log_error(
			"%s: belongs to the user with uid %u: only that user can stop it",
			path, (unsigned)entry.user);
		return false;
	case -ETIMEDOUT:
		log_error(
			"%s: its daemon does not answer: continue that process if it is "
			"stopped, or kill it and run this again",
			path);
		return false;
	default:
		fail_errno(path, "asking the daemon", -r);
		return false;
	}
}

/* A descriptor of the daemon's process, or -errno. */
static int open_daemon(const char *path)
{
	CLEANUP_FREE char *pid = get_text(path, "user.lunfs.pid");
	int fd;

	if (!pid)
		return -errno;
	fd = (int)syscall(SYS_pidfd_open, (pid_t)strtol(pid, NULL, 10), 0);
	return fd < 0 ? -errno : fd;
}

/* ---- the request ----------------------------------------------------------- */

static int say_busy(const char *path)
{
	CLEANUP_FREE char *handles = get_text(path, "user.lunfs.handles");

	log_error("%s: not stopped, data or images are open: close them, or use --force",
		  path);
	if (handles)
		log_error("%s", handles);
	return 1;
}

static int request(const char *path, bool force)
{
	const char *value = force ? "force" : "";

	if (setxattr(path, "user.lunfs.stop", value, strlen(value), 0) == 0)
		return 0;
	switch (errno) {
	case ENOTCONN:
	case ECONNABORTED: /* it is ending already */
		return 0;
	case EBUSY:
		return say_busy(path);
	case EACCES:
	case EPERM:
		log_error("%s: %s: only root and the user who mounted it can stop it",
			  path, strerror(errno));
		return 1;
	default:
		return fail_errno(path, "asking the daemon to stop", errno);
	}
}

/* Waits for the end of the process behind a pidfd. */
static int wait_end(const char *path, int pidfd)
{
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };
	int r;

	do {
		r = poll(&pfd, 1, STOP_TIMEOUT_MS);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return fail_errno(path, "waiting for the daemon's end", errno);
	if (r == 0) {
		log_error(
			"%s: the daemon was asked to stop, but has not ended within %d s: "
			"see its messages in the system's log",
			path, STOP_TIMEOUT_MS / 1000);
		return 1;
	}
	return 0;
}

static void say_reserved(const char *path, const char *reserved)
{
	const char *line = reserved;

	while (line && *line) {
		size_t len = strcspn(line, "\n");

		if (len)
			printf("%s: stays reserved: %.*s\n", path, (int)len, line);
		line += len;
		line += *line == '\n';
	}
}

static int stop_path(const char *path, bool force)
{
	CLEANUP_FREE char *reserved = NULL;
	CLEANUP_CLOSE int pidfd = -1;
	struct mount_entry entry;
	int code;

	if (!is_alive(path, &code))
		return code;
	/* The process that answers the request is the one that this pidfd is
	 * of: its number cannot have been given to another in between. */
	pidfd = open_daemon(path);
	if (pidfd < 0)
		return fail_errno(path, "finding the daemon's process", -pidfd);
	reserved = get_text(path, "user.lunfs.reserved");
	code = request(path, force);
	if (code == 0)
		code = wait_end(path, pidfd);
	if (code != 0)
		return code;
	/* It did not come to unmounting: what it left is dead. */
	if (mount_find(path, &entry) == 0 && mount_is_lunfs(&entry) &&
	    mount_probe(path) == -ENOTCONN)
		mount_clear(path);
	say_reserved(path, reserved);
	return 0;
}

int stop_run(const char *mountpoint, bool force)
{
	CLEANUP_FREE char *path = NULL;
	int r = mount_resolve(mountpoint, &path);

	if (r < 0)
		return fail_errno(mountpoint, "looking for the mount", -r);
	return stop_path(path, force);
}
