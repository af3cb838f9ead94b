/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LUNFS_SECRET_H
#define LUNFS_SECRET_H

/* Secrets live in files of their own and appear in no message. */

#include <stddef.h>

enum {
	SECRET_MAX_LEN = 255,
};

/*
 * Reads a secret from a regular file of mode 0600 or tighter that the caller
 * or root owns: one line of 1 to 255 bytes, whose newline does not count.  0
 * with *ret_secret (secret_free()), or -errno with a sentence in error that
 * begins with the path.
 */
int secret_read(const char *path, char **ret_secret, char *error, size_t error_size);

void secret_free(char *secret); /* wipes; takes NULL */

#endif
