/* SPDX-License-Identifier: BSD-2-Clause */
#include "conf/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/cleanup.h"

static int check_file(int fd, const char *path, char *error, size_t error_size)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		int r = -errno;

		snprintf(error, error_size, "%s: stat: %s", path, strerror(-r));
		return r;
	}
	if (!S_ISREG(st.st_mode)) {
		snprintf(error, error_size, "%s: not a regular file", path);
		return -EINVAL;
	}
	if (st.st_mode & 07777 & ~0600) {
		snprintf(error, error_size, "%s: mode %04o lets others in; chmod 0600 it",
			 path, (unsigned)st.st_mode & 07777);
		return -EPERM;
	}
	if (st.st_uid != geteuid() && st.st_uid != 0) {
		snprintf(error, error_size,
			 "%s: owned by user %u; it must be owned by user %u or by root",
			 path, (unsigned)st.st_uid, (unsigned)geteuid());
		return -EPERM;
	}
	return 0;
}

/* Reads until the end or until buf is full; the bytes read, or -errno. */
static ssize_t read_all(int fd, char *buf, size_t size)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, buf + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (!n)
			break;
		len += (size_t)n;
	}
	return (ssize_t)len;
}

static const char *what_is_wrong(const char *secret, size_t len)
{
	if (!len)
		return "is empty; write the secret into it";
	if (len > SECRET_MAX_LEN)
		return "is longer than 255 bytes; a CHAP secret is shorter";
	if (memchr(secret, '\0', len) || memchr(secret, '\n', len) ||
	    memchr(secret, '\r', len))
		return "has more than one line, a NUL or a carriage return; a secret is one "
		       "line of text";
	return NULL;
}

int secret_read(const char *path, char **ret_secret, char *error, size_t error_size)
{
	char buf[SECRET_MAX_LEN + 2]; /* a newline, or a byte that is too many */
	CLEANUP_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	const char *wrong = NULL;
	ssize_t len;
	int r;

	if (fd < 0) {
		r = -errno;
		snprintf(error, error_size, "%s: open: %s", path, strerror(-r));
		return r;
	}
	r = check_file(fd, path, error, error_size);
	if (r < 0)
		return r;
	len = read_all(fd, buf, sizeof(buf));
	if (len < 0) {
		snprintf(error, error_size, "%s: read: %s", path, strerror((int)-len));
		return (int)len;
	}
	if (len && buf[len - 1] == '\n')
		len--;
	wrong = what_is_wrong(buf, (size_t)len);
	if (wrong) {
		snprintf(error, error_size, "%s: the file %s", path, wrong);
		r = -EINVAL;
	} else {
		*ret_secret = strndup(buf, (size_t)len);
		r = *ret_secret ? 0 : -ENOMEM;
		if (r < 0)
			snprintf(error, error_size, "%s: %s", path, strerror(ENOMEM));
	}
	explicit_bzero(buf, sizeof(buf));
	return r;
}

void secret_free(char *secret)
{
	if (secret)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}
